"""Everything in one run: data, pairs, streams under all policies and peers, orders, entries, the table of demands."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from edgecache import config
from edgecache.cache import verify
from edgecache.cache.evidence import Segment
from edgecache.clock import Clock
from edgecache.embed.base import Pair as Texts
from edgecache.errors import ConfigError
from edgecache.quality import conversations, cost, datasets, demands, entries, environment, orders, pairs, peers, study
from edgecache.quality.datasets import Pair, Stream
from edgecache.quality.kit import Kit
from edgecache.quality.peers import PeerPlayed
from edgecache.quality.room import Room
from edgecache.quality.signals import Progress
from edgecache.quality.stream import Rules
from edgecache.quality.study import Price, Study

_ENTRIES_NOTE: Final = (
    "The cache is filled before the first request with questions that the stream does not ask. Labels know few of the "
    "duplicates among them, so an unlabelled duplicate counts as an error: part of any growth is that."
)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared on what. `limit` is requests of each stream, `peer_limit` those that outside peers are asked."""

    data: Path
    cache: Path
    limit: int | None = None
    seed: int = 0
    orders: int = 100
    workers: int = 2
    outside: tuple[str, ...] = ("gptcache",)
    vcache: Path | None = None
    peer_limit: int | None = None
    peers_home: Path = peers.HOME
    sizes: tuple[int, ...] = entries.SIZES
    fill_requests: int = 4000
    fill_seeds: int = 3
    embed: config.Embed = config.Embed()
    policy: config.HitPolicy = config.HitPolicy()
    price: Price = Price()


class Data(msgspec.Struct):
    """What is in the folder."""

    streams: dict[str, Stream]
    files: dict[str, Path]
    pairs: list[Pair]
    more: list[str]


def load(folder: Path, limit: int | None = None) -> Data:
    """The streams (`stream_*.jsonl.gz`), labelled pairs and further questions of `folder`; raises ConfigError."""
    files = {path.name.split(".")[0]: path for path in sorted(folder.glob("stream_*.jsonl*"))}
    if not files:
        raise ConfigError(f"{folder}: no stream_*.jsonl.gz there")
    found = folder / datasets.PAIRS
    return Data(
        {name: datasets.read_stream(path, limit) for name, path in files.items()},
        files,
        datasets.read_pairs(found) if found.exists() else [],
        datasets.questions(folder / datasets.MORE_QUESTIONS),
    )


def describe(data: Data) -> dict[str, Any]:
    """What there is: rows, labels, repeats, ceilings, look-alikes, overlap with training."""
    return {
        "streams": [datasets.describe_stream(each, data.pairs) for each in data.streams.values()],
        "pairs": datasets.describe_pairs(data.pairs, list(data.streams.values())),
    }


def run(options: Options, kit: Kit, clock: Clock) -> dict[str, Any]:
    """The whole report, JSON-compatible. Raises ConfigError for data that is not there, or without a verifier."""
    data = load(options.data, options.limit)
    kit.demand_verifier()
    progress = kit.progress
    begun = clock.monotonic()
    with ThreadPoolExecutor(1) as beside:
        rooms = {name: kit.room(each) for name, each in data.streams.items()}
        waiting = {name: _peers(options, each, rooms[name], beside) for name, each in data.streams.items()}
        result: dict[str, Any] = {"datasets": describe(data), "verifier": _cost(kit, rooms, clock)}
        studies = {
            name: study.run(rooms[name], each, options.policy, seed=options.seed, progress=progress)
            for name, each in data.streams.items()
        }
        result["pairs"] = judge_pairs(kit, data, options.policy, segments(studies, options.policy))
        result["orders"] = _orders(options, data, rooms, progress)
        result["entries"] = fill_up(kit, data, options)
        result["conversations"] = _conversations(kit, data, options)
        result["streams"] = {
            name: told(kit, each, studies[name], options.price, waiting[name]) for name, each in data.streams.items()
        }
    result["table"] = demands.table(result)
    result["options"] = msgspec.to_builtins(options, enc_hook=str) | {"seconds": round(clock.monotonic() - begun)}
    result["environment"] = environment.manifest(seed=options.seed, models=kit.models)
    return result


def told(
    kit: Kit, stream: Stream, found: Study, price: Price, waiting: Sequence["Future[PeerPlayed]"] = ()
) -> dict[str, Any]:
    """A study as JSON, with what the stream is and what outside peers did with it."""
    made = study.to_dict(found, study.tokens(kit.embedder, stream), price)
    made["columns"] += [each.result().to_dict() for each in waiting]
    about = {
        "requests": len(stream.asked),
        "exact repeats": stream.repeats.to_dict(),
        "oracle hits": stream.oracle.to_dict(),
        "assumed": msgspec.to_builtins(price),
    }
    return {"about": about} | made


def segments(studies: dict[str, Study], policy: config.HitPolicy) -> dict[str, Segment]:
    """The evidence that pairs are judged under: none yet, and that of each stream at the default budget."""
    return {"no evidence yet": Segment()} | {
        f"as of the end of {name}": found.segment(policy.budget) for name, found in studies.items()
    }


def judge_pairs(kit: Kit, data: Data, policy: config.HitPolicy, under: dict[str, Segment]) -> dict[str, Any] | None:
    """Ranking and what is served of the labelled pairs; of `qqp` only what no verifier of ours has learned from."""
    chosen = datasets.held_out(data.pairs, list(data.streams.values()))
    chosen += [pair for pair in data.pairs if pair.family != datasets.QQP]
    if not chosen:
        return None
    texts = pairs.texts(chosen)
    logits = kit.logits(texts)
    judged = pairs.judge(chosen, texts, kit.vectors(texts), logits, kit.scorer, kit.progress)
    logits.save()
    return pairs.report(judged, under, policy)


def fill_up(kit: Kit, data: Data, options: Options) -> dict[str, Any] | None:
    """Errors against entries, on the stream without exact repeats if there is one."""
    name = "stream_paraphrase" if "stream_paraphrase" in data.streams else next(iter(data.streams))
    stream = data.streams[name]
    names = datasets.answers(data.pairs, [stream])
    texts = dict.fromkeys([*names, *pairs.texts(data.pairs), *data.more])
    asked = set(stream.texts)
    more = [text for text in texts if text not in asked]
    if not more:
        return None
    room = kit.room(stream, more)
    fills = entries.fillings(more, names, options.sizes, len(stream.texts), options.seed)
    fixed = [each for each in peers.policies() if each.name in {"cosine 0.90", "cosine 0.95"}]
    default = Rules(f"edgecache, budget {options.policy.budget:.1%}", options.policy)
    seeds = range(options.seed, options.seed + options.fill_seeds)
    rows = entries.run(room, stream, fills, [default, *fixed], requests=options.fill_requests, seeds=seeds)
    room.logits.save()
    return {"stream": name, "note": _ENTRIES_NOTE, "rows": rows}


def _conversations(kit: Kit, data: Data, options: Options) -> dict[str, Any] | None:
    """Exact history against contextual matching. Examples are left out: the questions are not ours to publish."""
    held = datasets.held_out(data.pairs, list(data.streams.values()))
    if not held:
        return None
    found = conversations.report(kit, held, seed=options.seed)
    rows = [{name: value for name, value in row.items() if name != "mistakes"} for row in found["rows"]]
    return found | {"rows": rows}


def _orders(options: Options, data: Data, rooms: dict[str, Room], progress: Progress) -> dict[str, Any]:
    if not options.orders:
        return {}
    found = {}
    for name, room in rooms.items():
        room.foresee_all()
        room.logits.save()
        job = orders.Job(
            file=data.files[name],
            limit=options.limit,
            cache=options.cache,
            embed=options.embed,
            policy=options.policy,
            budgets=orders.BUDGETS,
            seeds=tuple(range(options.seed, options.seed + options.orders)),
        )
        found[name] = orders.summary(orders.shared_out(job, options.workers, progress))
    return found


def _peers(options: Options, stream: Stream, room: Room, beside: ThreadPoolExecutor) -> list["Future[PeerPlayed]"]:
    """Start the outside peers on a stream, one after the other, beside everything else."""
    part = stream.part(options.peer_limit)
    number = {text: i for i, text in enumerate(stream.texts)}
    file = options.cache / "peers" / f"{stream.name}-{part.digest[:16]}.npz"
    peers.prepare(part, room.vectors[np.array([number[text] for text in part.texts])], file)
    plays: list[tuple[str, dict[str, Any], str, Path | None]] = []
    if "gptcache" in options.outside:
        plays += [("gptcache", {"threshold": least}, name, None) for least, name in peers.GPTCACHE.items()]
    if options.vcache is not None:
        plays += [
            ("vcache", {"delta": delta, "seed": options.seed}, f"vcache's own code, delta {delta:.0%}", options.vcache)
            for delta in peers.DELTAS
        ]
    of = "" if part is stream else f", first {len(part.asked):,} requests"
    return [
        beside.submit(peers.run, peer, file, given, name + of, home=options.peers_home, checkout=checkout)
        for peer, given, name, checkout in plays
    ]


def _cost(kit: Kit, rooms: dict[str, Room], clock: Clock, many: int = 300) -> dict[str, Any]:
    """The verifier by itself on what lookups of the first stream would show it if every question were an entry."""
    room = next(iter(rooms.values()))
    everything = np.ones(len(room.texts), np.bool_)
    asked = []
    for question in range(len(room.neighbours.ids)):
        near = room.near(question, everything, config.Semantic().neighbours, config.HitPolicy().floor)
        doubtful = verify.doubtful(room.texts[question], near, room.scorer)
        if doubtful:
            asked.append([Texts(room.texts[question], each.text) for each in doubtful])
        if len(asked) == many:
            break
    assert kit.engine is not None  # noqa: S101 - `demand_verifier` was called
    return cost.measure(kit.engine, asked, clock) | {"device": kit.embedder.device}
