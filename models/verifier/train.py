"""Train the cross-encoder: bf16 autocast, batches of like length, linear decay, the mean of the last third's weights.

Several processes of one thread each take their share of every batch: on a CPU that is nearly twice as fast as one
process of as many threads. Writes `network.pt` and `train.json` into the output folder.
"""

import argparse
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as fn
from numpy.typing import NDArray

from edgecache.clock import SystemClock
from edgecache.embed import manifest
from models.verifier.data import split
from models.verifier.material import material
from models.verifier.network import WINDOW, Network, collate, tokenizer

Example = tuple[list[int], list[int], float, float]
"""Tokens of either question (with the special ones of its place), label, weight."""

_SMOOTHING = 0.04
_AVERAGED = 1 / 3
"""Of all steps, the last ones whose weights are averaged, every tenth of them."""


def prepare(args: argparse.Namespace) -> None:
    """Write the material as token ids: the learners read it, each for itself."""
    torch.set_num_threads(args.workers)
    tokens = tokenizer(args.base)
    examples: list[Example] = []
    for pair, weight in material(split(args.data, 0), args.base, args.seed):
        a, b = tokens.encode(pair.a).ids, tokens.encode(pair.b).ids[1:]
        if len(a) + len(b) <= WINDOW:
            examples.append((a, b, float(pair.label), weight))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "material.pickle").write_bytes(pickle.dumps(examples))


def batches(lengths: NDArray[np.float64], size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Whole batches of like length, in any order."""
    order = np.argsort(lengths + rng.uniform(-3, 3, len(lengths)), kind="stable")
    cut = [order[start : start + size] for start in range(0, len(order) - size + 1, size)]
    rng.shuffle(cut)
    return cut


class Learner:
    """One of several: each takes its share of every batch, and gradients are averaged."""

    def __init__(self, rank: int, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        self.net = Network(args.base)
        if args.start is not None:
            self.net.load_state_dict(torch.load(args.start))
        self.net.bert.embeddings.word_embeddings.requires_grad_(requires_grad=False)
        torch.manual_seed(args.seed + 1 + rank)  # another dropout in each
        self._learning = [p for p in self.net.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in self._learning if p.dim() > 1], "weight_decay": 0.01},
            {"params": [p for p in self._learning if p.dim() <= 1], "weight_decay": 0.0},
        ]
        self._optimiser = torch.optim.AdamW(groups, lr=args.rate, fused=True)
        self._workers = args.workers
        self._mean: dict[str, torch.Tensor] = {}
        self._taken = 0

    def step(self, examples: list[Example], turned: NDArray[np.bool_], rate: float) -> float:
        """Learn from a batch; the loss before."""
        sides = [([a[0], *b], a[1:]) if turn else (a, b) for (a, b, _, _), turn in zip(examples, turned, strict=True)]
        ids, types, mask = collate([(a + b, [0] * len(a) + [1] * len(b)) for a, b in sides])
        target = torch.tensor([label for *_, label, _ in examples]) * (1 - _SMOOTHING) + _SMOOTHING / 2
        weight = torch.tensor([weight for *_, weight in examples])
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self.net.train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logit = self.net(ids, types, mask)
        loss = (fn.binary_cross_entropy_with_logits(logit.float(), target, reduction="none") * weight).mean()
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._share_gradients()
        self._optimiser.step()
        return float(loss.item())

    def _share_gradients(self) -> None:
        """The mean over all learners, clipped to length 1."""
        flat = torch.cat([p.grad.view(-1) for p in self._learning if p.grad is not None])
        dist.all_reduce(flat)
        flat /= self._workers
        flat *= min(1.0, 1.0 / (flat.norm().item() + 1e-6))
        start = 0
        for p in self._learning:
            p.grad = flat[start : start + p.numel()].view_as(p)
            start += p.numel()

    def remember(self) -> None:
        """Take the weights as they are into the mean."""
        self._taken += 1
        for name, value in self.net.state_dict().items():
            old = self._mean.setdefault(name, torch.zeros_like(value, dtype=torch.float32))
            old += (value.float() - old) / self._taken

    @property
    def mean(self) -> dict[str, torch.Tensor]:
        """The mean of what was remembered."""
        return self._mean


def learn(rank: int, args: argparse.Namespace) -> None:
    """The work of process `rank`."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{args.port}", rank=rank, world_size=args.workers)
    examples: list[Example] = pickle.loads((args.out / "material.pickle").read_bytes())
    rng = np.random.default_rng(args.seed)
    kept = rng.random(len(examples)) < args.rest
    examples = [each for each, keep in zip(examples, kept, strict=True) if keep or each[3] == 1.0]
    lengths = np.array([len(a) + len(b) for a, b, _, _ in examples], dtype=float)
    learner = Learner(rank, args)
    size = args.batch * args.workers
    total = int(len(lengths) // size * args.epochs)
    warm = max(total // 16, 1)
    step, clock = 0, SystemClock()
    began = clock.monotonic()
    while step < total:
        for rows in batches(lengths, size, rng)[: total - step]:
            turned = rng.random(len(rows)) < 0.5
            mine = range(rank, len(rows), args.workers)
            rate = args.rate * min((step + 1) / warm, (total - step) / max(total - warm, 1))
            loss = learner.step([examples[rows[i]] for i in mine], turned[list(mine)], rate)
            step += 1
            if rank == 0 and ((step > total * (1 - _AVERAGED) and step % 10 == 0) or step == total):
                learner.remember()
            if rank == 0 and step % 50 == 0:
                print(f"step {step}/{total} loss {loss:.4f} {clock.monotonic() - began:.0f} s", flush=True)
    if rank == 0:
        torch.save(learner.mean, args.out / "network.pt")
        told: dict[str, Any] = {name: getattr(args, name) for name in ("seed", "epochs", "rate", "rest", "workers")}
        told |= {"batch": size, "examples": len(examples), "seconds": round(clock.monotonic() - began)}
        (args.out / "train.json").write_text(json.dumps(told) + "\n")
    dist.destroy_process_group()


def base() -> Path:
    """Where the weights of the embedder are, which training begins with."""
    return manifest.locate(manifest.find(manifest.read(manifest.default_path()), "all-MiniLM-L6-v2"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", type=Path, default=base())
    parser.add_argument("--out", type=Path, default=Path("build/verifier"))
    parser.add_argument("--start", type=Path, help="go on from this network")
    parser.add_argument("--rest", type=float, default=1.0, help="share of all but the labelled pairs that is used")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--rate", type=float, default=1.2e-4)
    parser.add_argument("--batch", type=int, default=24, help="pairs of each worker in a step")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--port", type=int, default=29533)
    given = parser.parse_args()
    if given.start is None:
        prepare(given)
    torch.multiprocessing.spawn(learn, (given,), nprocs=given.workers)
