"""`edgecache bench quality`: right and wrong hits on labelled questions, of edgecache and of other caches."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgecache import config
from edgecache.cli import output
from edgecache.clock import SystemClock
from edgecache.errors import ConfigError, EdgeCacheError

if TYPE_CHECKING:
    from edgecache.quality.compare import Options
    from edgecache.quality.kit import Kit
    from edgecache.quality.signals import Progress

app = typer.Typer(no_args_is_help=True, help="Right and wrong hits, counted on labelled questions.")

Folder = Annotated[Path, typer.Option(metavar="DIR", help="Folder of stream_*.jsonl.gz and pairs.jsonl.gz.")]
Cache = Annotated[Path, typer.Option(metavar="DIR", help="Keeps vectors, logits and peers' data from run to run.")]
Seed = Annotated[int, typer.Option(help="Of samples and orders.")]
Threads = Annotated[int, typer.Option(min=1, help="Torch threads.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Requests of a stream; without it all.")]
Budget = Annotated[float, typer.Option(min=0, max=1, help="Wrong answers per request served.")]
Model = Annotated[str, typer.Option(help="Embedder; `hashing` has no verifier.")]
_CACHE = Path("build/quality-cache")
_MODEL = config.Embed().model
_BUDGET = config.HitPolicy().budget
_OUT = Path("build/quality")


@app.command()
def datasets(data: Folder, *, as_json: output.AsJson = False) -> None:
    """What the data holds: rows, labels, exact repeats, oracle ceiling, look-alikes, overlap with training."""
    from edgecache.quality import compare  # noqa: PLC0415 - numpy, for these commands only

    with _plainly():
        found = compare.describe(compare.load(data))
    if as_json:
        output.show(found, as_json=True)
        return
    for title, rows in found.items():
        output.show([_flat(row) for row in rows], as_json=False, title=title)


@app.command()
def pairs(data: Folder, *, cache: Cache = _CACHE, threads: Threads = 1, as_json: output.AsJson = False) -> None:
    """ROC and precision of cosine, verifier and calibrated score by set, and which pairs would be served."""
    from edgecache.quality import compare  # noqa: PLC0415
    from edgecache.quality.stream import Rules, play  # noqa: PLC0415

    with _plainly(), _kit(cache, threads=threads) as kit:
        kit.demand_verifier()
        held, policy, segments = compare.load(data), config.HitPolicy(), compare.segments({}, config.HitPolicy())
        for name, each in held.streams.items():
            room = kit.room(each)
            segments[f"as of the end of {name}"] = play(room, each, Rules("", policy), seed=0).segment
            room.logits.save()
        found = compare.judge_pairs(kit, held, policy, segments)
    if found is None:
        raise EdgeCacheError(f"{data}: no labelled pairs there")
    if as_json:
        output.show(found, as_json=True)
        return
    for name, part in found["sets"].items():
        rows = [{"signal": signal} | _flat(_without_curves(said)) for signal, said in part["signals"].items()]
        output.show(rows, as_json=False, title=f"{name}: {part['pairs']} pairs, {part['note']}")
    served = [{"template": each["template"], "match": each["must match"]} | _flat(each["served"])
              for each in found["templates"]]  # fmt: skip
    output.show(served, as_json=False, title="served of CheckList")


@app.command()
def stream(
    data: Annotated[Path, typer.Option(metavar="FILE", help="Questions: `{prompt, set}` a line, may be gzipped.")],
    *,
    limit: Limit = None,
    seed: Seed = 0,
    cache: Cache = _CACHE,
    threads: Threads = 1,
    model: Model = _MODEL,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Also write the report there.")] = None,
    mistakes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the wrong hits of the default policy there, to be read.")
    ] = None,
    answer_tokens: Annotated[int, typer.Option(min=0, help="Tokens of an answer, for what hits save.")] = 200,
    prompt_price: Annotated[float, typer.Option(min=0, help="Dollars for a million tokens of questions.")] = 0.15,
    completion_price: Annotated[float, typer.Option(min=0, help="Dollars for a million tokens of answers.")] = 0.6,
    as_json: output.AsJson = False,
) -> None:
    """Play one stream under every policy: hits against wrong hits, by tier and over settings, and what they save."""
    from edgecache.quality import compare, environment, study  # noqa: PLC0415
    from edgecache.quality import datasets as files  # noqa: PLC0415

    price = study.Price(answer_tokens=answer_tokens, prompt=prompt_price, completion=completion_price)
    with _plainly(), _kit(cache, threads=threads, model=model) as kit:
        asked = files.read_stream(data, limit)
        room = kit.room(asked)
        found = study.run(room, asked, config.HitPolicy(), seed=seed, progress=kit.progress)
        if mistakes is not None:
            kit.demand_verifier()
            rows = study.mistakes(room, found.budget(_BUDGET))
            mistakes.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        result: dict[str, Any] = {"streams": {asked.name: compare.told(kit, asked, found, price)}}
        result["environment"] = environment.manifest(seed=seed, models=kit.models)
    if out is not None:
        _write(result, out)
    _show(result, as_json=as_json)


@app.command()
def compare(
    data: Folder,
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where report.html, report.json and figures go.")] = _OUT,
    cache: Cache = _CACHE,
    limit: Limit = None,
    seed: Seed = 0,
    orders: Annotated[int, typer.Option(min=0, help="Random orders in which every budget must be kept.")] = 100,
    workers: Annotated[int, typer.Option(min=1, help="Processes for them.")] = 2,
    threads: Threads = 1,
    peers: Annotated[str, typer.Option(help="Outside peers to run, by comma; `none` for none.")] = "gptcache",
    vcache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Checkout of vCache: runs its own code too.")
    ] = None,
    peer_limit: Annotated[int | None, typer.Option(min=1, help="Requests that outside peers are asked.")] = None,
    as_json: output.AsJson = False,
) -> None:
    """Everything: both streams, all policies and peers, pairs, orders, entries, and the table of demands. Long."""
    from edgecache.quality import compare as whole  # noqa: PLC0415

    _figures()  # rather now than after the work
    settings = config.Embed(threads=threads)
    with _plainly(), _kit(cache, threads=threads) as kit:
        options = whole.Options(
            data=data,
            cache=cache,
            limit=limit,
            seed=seed,
            orders=orders,
            workers=workers,
            outside=tuple(name for name in peers.split(",") if name != "none"),
            vcache=vcache,
            peer_limit=peer_limit,
            embed=settings,
        )
        _known(options)
        result = whole.run(options, kit, SystemClock())
    _write(result, out)
    _show(result, as_json=as_json)


@app.command()
def ci(
    data: Annotated[Path, typer.Option(metavar="FILE", help="Questions: `{prompt, set}` a line, may be gzipped.")],
    *,
    max_wrong: Annotated[float, typer.Option(min=0, max=1, help="Most wrong answers per request served.")],
    min_hit: Annotated[float, typer.Option(min=0, max=1, help="Least hit rate.")],
    budget: Budget = _BUDGET,
    limit: Limit = 4000,
    seed: Seed = 0,
    cache: Cache = _CACHE,
    threads: Threads = 1,
    model: Model = _MODEL,
    as_json: output.AsJson = False,
) -> None:
    """Play one stream under the default policy; exit 1 if too many answers are wrong or too few requests hit."""
    from edgecache.quality import datasets as files  # noqa: PLC0415
    from edgecache.quality import demands  # noqa: PLC0415
    from edgecache.quality.stream import Rules, play  # noqa: PLC0415

    with _plainly(), _kit(cache, threads=threads, model=model) as kit:
        asked = files.read_stream(data, limit)
        room = kit.room(asked)
        played = play(room, asked, Rules("default policy", config.HitPolicy(budget=budget)), seed=seed)
        room.logits.save()
    output.show(played.to_dict() if as_json else _flat(played.to_dict()), as_json=as_json)
    failed = demands.failures(played.wrong_hits, played.hits, max_wrong=max_wrong, min_hit=min_hit)
    if failed:
        raise EdgeCacheError("\n".join(failed))


@contextmanager
def _kit(cache: Path, *, threads: int, model: str = _MODEL) -> Iterator["Kit"]:
    """The models, with progress shown while they are used."""
    from edgecache.quality.kit import Kit  # noqa: PLC0415

    with _progress() as progress:
        yield Kit.open(config.Embed(model=model, threads=threads), cache, progress)


@contextmanager
def _progress() -> Iterator["Progress"]:
    """A bar for what is going on, on a terminal; elsewhere a line on standard error when a step begins."""
    if not sys.stderr.isatty():
        begun: set[str] = set()

        def line(what: str, _done: int, _total: int) -> None:
            if what not in begun:
                begun.add(what)
                sys.stderr.write(f"edgecache: {what}\n")

        yield line
        return
    from rich.console import Console  # noqa: PLC0415 - see output
    from rich.progress import Progress as Bar  # noqa: PLC0415

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


@contextmanager
def _plainly() -> Iterator[None]:
    """Data that cannot be used is a failure of the run, not the configuration that exit status 78 is for."""
    try:
        yield
    except ConfigError as error:
        raise EdgeCacheError(error.message) from error


def _figures() -> Callable[..., dict[str, tuple[str, bytes]]]:
    try:
        from edgecache.quality import plots  # noqa: PLC0415 - matplotlib, for reports only
    except ModuleNotFoundError as error:
        raise EdgeCacheError(f"reports need the {error.name} package: pip install 'edgecache[bench]'") from error
    return plots.draw


def _known(options: "Options") -> None:
    strange = set(options.outside) - {"gptcache"}
    if strange:
        raise EdgeCacheError(f"--peers: unknown {', '.join(sorted(strange))}; there is `gptcache`")


def _write(result: dict[str, Any], out: Path) -> None:
    from edgecache.quality import report  # noqa: PLC0415

    page = report.write(result, _figures()(result), out)
    sys.stderr.write(f"edgecache: report in {page}\n")


def _show(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.show(result, as_json=True)
        return
    for name, each in result["streams"].items():
        about = each["about"]
        title = f"{name}: exact repeats {_rate(about['exact repeats'])}, oracle {_rate(about['oracle hits'])}"
        output.show([_column(row) for row in each["columns"]], as_json=False, title=title)
    if result.get("table"):
        words = ("measure", "found", "must", "aim", "meets must", "note")
        output.show([{word: row[word] for word in words} for row in result["table"]], as_json=False, title="demands")


def _column(row: dict[str, Any]) -> dict[str, Any]:
    if "error" in row:
        return {"policy": row["name"], "hits": f"did not run: {row['error']}", "wrong": "-", "of hits": "-"}
    return {
        "policy": row["name"],
        "hits": _rate(row["hits"]),
        "wrong": _rate(row["wrong"]),
        "of hits": _rate(row["wrong of hits"]),
    }


def _rate(share: dict[str, Any]) -> str:
    return f"{share['rate']:.2%} [{share['low']:.2%}, {share['high']:.2%}]"


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Shares in one cell each."""
    return {name: _rate(value) if isinstance(value, dict) and "rate" in value else value for name, value in row.items()}


def _without_curves(said: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if name not in {"roc", "pr"}}
