"""`edgecache fn`: functions, from the first line to production. The commands themselves are in the `fn_*` modules."""

import typer

from edgecache.cli import fn_deploy, fn_kv, fn_make, fn_secret, fn_show, fn_tail, fn_try

app = typer.Typer(no_args_is_help=True, help="WebAssembly functions: make, try, deploy and watch them.")
app.command()(fn_make.new)
app.command("templates")(fn_make.list_templates)
app.command()(fn_make.build)
app.command()(fn_make.validate)
app.command()(fn_make.inspect)
app.command()(fn_try.dev)
app.command("test")(fn_try.run_cases)
app.command()(fn_try.bench)
app.command()(fn_deploy.deploy)
app.command("list")(fn_show.list_)
app.command()(fn_show.versions)
app.command()(fn_show.status)
app.command()(fn_deploy.split)
app.command()(fn_deploy.promote)
app.command()(fn_deploy.rollback)
app.command()(fn_tail.tail)
app.command()(fn_show.stats)
app.command()(fn_show.limits)
app.add_typer(fn_secret.app, name="secret")
app.add_typer(fn_kv.app, name="kv")
app.command()(fn_deploy.delete)
