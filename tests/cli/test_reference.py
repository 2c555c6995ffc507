import typer

from edgecache.cli import main, reference


def test_every_command_has_a_section() -> None:
    page = reference.markdown(typer.main.get_command(main.app))
    for command in (
        "serve",
        "check",
        "config show",
        "config schema",
        "cache stats",
        "cache explain",
        "cache purge",
        "cache export",
        "cache import",
        "keys new",
        "models list",
        "models verify",
        "sim core",
        "bench replay",
    ):
        assert f"\n## `edgecache {command}`\n" in page


def test_options_stand_with_their_help() -> None:
    app = typer.Typer()

    @app.command()
    def one(size: int = typer.Option(3, help="How | many.")) -> None:
        """Do one."""

    @app.command(hidden=True)
    def two() -> None:
        """Do two."""

    page = reference.markdown(typer.main.get_command(app))
    assert "## `edgecache one`\n\n```\nedgecache one [OPTIONS]\n```\n\nDo one.\n" in page
    assert "How \\| many." in page
    assert "default: 3" in page
    assert "edgecache two" not in page
