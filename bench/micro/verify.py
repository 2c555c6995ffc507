"""How long the pair verifier takes for one question and its candidates, against a plain cross-encoder in transformers.

    python -m bench.micro.verify --data questions.jsonl.gz [--rounds 100] [--threads 1] [--out bench/results]

The data is lines of {"prompt": …}; each question is judged against those nearest to it, as a lookup does. All variants
take turns in one process on the same questions, tokenising and both orders included, so that a busy machine hits each
alike: trust the ratios. Then the same through the verifier's queue: one caller after the other, and several at once.
`--folder` takes a verifier that the manifest does not pin.
"""

import argparse
import asyncio
import gzip
import json
import random
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.load import harness
from edgecache import config
from edgecache.clock import SystemClock
from edgecache.embed import bert, manifest, open_embedder, open_verifier
from edgecache.embed.base import Pair
from edgecache.embed.cross_encoder import CrossEncoder
from edgecache.embed.verifier import Verifier
from edgecache.errors import ConfigError, EmbedError
from edgecache.telemetry.metrics import Metrics

CANDIDATES = (1, 2, 4, 8)
CALLERS = (1, 4, 16)

Case = tuple[str, list[str]]
"""A question and what was asked before that is nearest to it, nearest first."""
Score = Callable[[str, Sequence[str]], Any]


def cases(path: Path, count: int, seed: int) -> list[Case]:
    """`count` questions of the first thousands of `path`, each with its nearest among them."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        texts = list(dict.fromkeys(json.loads(line)["prompt"] for line in islice(file, 3000)))
    embedder = open_embedder(config.Embed())
    texts = [text for text in texts if len(embedder.tokenise([text])[0]) <= embedder.window // 2]
    vectors = np.concatenate([embedder.encode(embedder.tokenise(texts[i : i + 64])) for i in range(0, len(texts), 64)])
    chosen = random.Random(seed).sample(range(len(texts)), count)
    nearest = np.argsort(-(vectors[chosen] @ vectors.T), axis=1)[:, 1 : max(CANDIDATES) + 1]
    return [(texts[i], [texts[j] for j in row]) for i, row in zip(chosen, nearest, strict=True)]


def plain(folder: Path, device: str) -> Score:
    """The same weights the way a cross-encoder is usually run: transformers, padded, full precision, both orders."""
    from safetensors.torch import load_file  # noqa: PLC0415 - quiet until it is needed
    from transformers import AutoTokenizer, BertConfig, BertModel  # noqa: PLC0415

    weights = load_file(folder / "model.safetensors")
    model: Any = BertModel(BertConfig(**json.loads((folder / "config.json").read_bytes())), add_pooling_layer=False)
    model.load_state_dict({key: value.float() for key, value in weights.items()}, strict=False)
    model.to(device).eval()
    tokeniser = AutoTokenizer.from_pretrained(str(folder), tokenizer_file=str(folder / "tokenizer.json"))
    hidden, hidden_bias, out, out_bias = (
        weights[f"head.{key}"].float().to(device) for key in ("hidden.weight", "hidden.bias", "out.weight", "out.bias")
    )

    def score(question: str, texts: Sequence[str]) -> Any:
        given = tokeniser(
            [*[question] * len(texts), *texts], [*texts, *[question] * len(texts)], padding=True, return_tensors="pt"
        ).to(device)
        with torch.inference_mode():
            x = model(**given).last_hidden_state
            second = (given["attention_mask"] * given["token_type_ids"]).unsqueeze(2)
            first = given["attention_mask"].unsqueeze(2) - second
            u, v = ((x * side).sum(1) / side.sum(1) for side in (first, second))
            both = torch.cat([(u - v).abs(), u * v, x[:, 0]], dim=1)
            gelu = torch.nn.functional.gelu(both @ hidden.T + hidden_bias)
            return (gelu @ out.T + out_bias).view(2, -1).mean(0).cpu()

    return score


def own(engine: CrossEncoder) -> Score:
    """One pass of edgecache's."""
    return lambda question, texts: engine.encode(engine.tokenise([Pair(question, text) for text in texts]))[:, 0]


def compare(scores: dict[str, Score], material: Sequence[Case]) -> list[dict[str, Any]]:
    """Milliseconds a question by number of candidates and variant, and how far its scores are from the first's."""
    clock, rows = SystemClock(), []
    for count in CANDIDATES:
        taken: dict[str, list[float]] = {name: [] for name in scores}
        off = dict.fromkeys(scores, 0.0)
        for turn, (question, nearest) in enumerate([*material[:3], *material]):
            expected: Any = None
            for name, score in scores.items():
                begun = clock.monotonic()
                found = np.asarray(score(question, nearest[:count]))
                elapsed = clock.monotonic() - begun
                expected = found if expected is None else expected
                off[name] = max(off[name], float(np.abs(found - expected).max()))
                if turn >= 3:
                    taken[name].append(elapsed * 1000)
        rows += summary(count, taken, off)
    return rows


def summary(count: int, taken: dict[str, list[float]], off: dict[str, float]) -> list[dict[str, Any]]:
    """One row a variant; `ratio` is how many times sooner than the first it is."""
    first = float(np.median(next(iter(taken.values()))))
    return [
        {
            "candidates": count,
            "variant": name,
            "p50_ms": float(np.median(values)),
            "p10_ms": float(np.quantile(values, 0.1)),
            "p99_ms": float(np.quantile(values, 0.99)),
            "pairs_per_s": count / float(np.median(values)) * 1000,
            "ratio": first / float(np.median(values)),
            "off": off[name],
        }
        for name, values in taken.items()
    ]


async def queued(engine: CrossEncoder, material: Sequence[Case], callers: int, count: int) -> dict[str, Any]:
    """`callers` at once, each with one question after the other against `count` candidates, through the queue."""
    clock, taken, late = SystemClock(), [], 0
    verifier = Verifier(engine, config.Embed(), Metrics(), clock)
    verifier.start()
    await verifier.logits("warm", ["up"], deadline=30.0)

    async def caller(number: int) -> None:
        nonlocal late
        for question, nearest in material[number::callers]:
            begun = clock.monotonic()
            try:
                await verifier.logits(question, nearest[:count])
                taken.append((clock.monotonic() - begun) * 1000)
            except EmbedError:
                late += 1

    begun = clock.monotonic()
    await asyncio.gather(*(caller(number) for number in range(callers)))
    elapsed = clock.monotonic() - begun
    verifier.close()
    p50, p99 = np.quantile(taken or [float("nan")], [0.5, 0.99])
    return {
        "callers": callers,
        "candidates": count,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "pairs_per_s": len(taken) * count / elapsed,
        "late": late,
    }


def engines(folder: Path | None, device: str) -> tuple[Path, list[CrossEncoder]]:
    """Where the verifier is, and what a POP would run on `device`; then full precision, if that is another."""
    if folder is None:
        path = manifest.default_path()
        folder = path.parent / manifest.read_verifier(path).folder
        loaded = open_verifier(config.Embed(device="cuda" if device == "cuda" else "cpu"))
        if loaded is None:
            raise ConfigError("there is no verifier")
        first = loaded.engine
    else:
        half = "fp16" if device == "cuda" else "bf16" if bert.has_bf16_units() else "fp32"
        first = CrossEncoder(folder.name, folder, window=256, device=device, precision=half)
    found = [first]
    if first.precision != "fp32":
        found.append(CrossEncoder(first.name, folder, window=first.window, device=device, precision="fp32"))
    return folder, found


async def work(options: argparse.Namespace) -> dict[str, Any]:
    """Measure and print on every device there is."""
    material = cases(options.data, options.rounds, options.seed)
    results: dict[str, Any] = {"tokens_of_a_pair": 0.0, "devices": {}}
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        folder, verifiers = engines(options.folder, device)
        torch.set_num_threads(options.threads)
        pairs = [Pair(question, text) for question, nearest in material for text in nearest]
        results["tokens_of_a_pair"] = float(np.mean([len(ids) for ids in verifiers[0].tokenise(pairs)]))
        scores = {"transformers fp32": plain(folder, device)}
        scores |= {f"edgecache {engine.precision}": own(engine) for engine in verifiers}
        rows = compare(scores, material)
        name = torch.cuda.get_device_name() if device == "cuda" else f"{options.threads} CPU thread"
        harness.table(f"{verifiers[0].name}: one question on {name}", list(rows[0]), [list(r.values()) for r in rows])
        served = [await queued(verifiers[0], material, callers, 4) for callers in CALLERS]
        harness.table("through the queue", list(served[0]), [list(row.values()) for row in served])
        results["devices"][device] = {"name": name, "passes": rows, "queued": served}
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FILE", help="JSON lines, compressed, with `prompt`"
    )
    parser.add_argument("--folder", type=Path, metavar="DIR", help="a verifier's files; default: the manifest's")
    parser.add_argument("--rounds", type=int, default=100, help="questions timed for each figure")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--seed", type=int, default=1, help="which questions are drawn")
    harness.run("verify", parser, work)
