"""vCache's official code on a prepared stream: its policy, its HNSW index, its flow; our vectors and labels.

    python runner.py FILE.npz '{"delta": 0.01, "checkout": "PATH", "seed": 0}'

PATH is a checkout of vcache-project/vCache (CC BY-NC-ND 3.0: run as it is, nothing of it is here). Labels are applied
at once, before the next request, which is kinder than real use. Prints a JSON line for each request and one with the
seconds it took. Run by `edgecache.quality.peers` in an environment of its own; it imports nothing of edgecache.
"""

import importlib.abc
import importlib.machinery
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

UNUSED = ("openai", "chromadb", "vllm", "torch", "faiss", "langchain", "langchain_community", "langchain_openai")
"""Packages that its inference engines and other stores import, none of which takes part here."""


class _Unused(ModuleType):
    """A module any name of which is a class that can be made and does nothing."""

    __path__: list[str] = []  # noqa: RUF012 - what makes a module a package

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda _self, *_args, **_named: None})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `_Unused` modules for `UNUSED`."""

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A stand-in for a package of `UNUSED` and all below it."""
        mine = fullname.split(".", maxsplit=1)[0] in UNUSED
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True) if mine else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """An empty one."""
        return _Unused(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


class _AtOnce:
    """Stands for the policy's thread pool and its queue of labels: what they are given is done before they return."""

    def __init__(self, work: Callable[..., Any] | None = None) -> None:
        self._work = work

    def submit(self, work: Callable[..., Any], *arguments: Any) -> None:
        """As an executor."""
        work(*arguments)

    def put(self, item: Any) -> None:
        """As a queue with a callback."""
        if self._work is not None:
            self._work(item)


def main(file: str, delta: float, checkout: str, seed: int) -> None:
    """Ask everything in order; what a hit answers is told by `id_set`, as in its own benchmark."""
    sys.path.insert(0, checkout)
    sys.meta_path.insert(0, _Finder())
    import vcache  # noqa: PLC0415 - only now can it be found

    with np.load(file) as data:
        vectors = data["vectors"].astype(np.float32)
        asked, sets = data["asked"].tolist(), data["sets"].tolist()
    random.seed(seed)
    engine, embedding = vcache.BenchmarkInferenceEngine(), vcache.BenchmarkEmbeddingEngine()
    policy = vcache.VerifiedDecisionPolicy(delta=delta)
    cache = vcache.VCache(
        vcache.VCacheConfig(
            inference_engine=engine,
            embedding_engine=embedding,
            vector_db=vcache.HNSWLibVectorDB(max_capacity=len(asked) + 1),
            embedding_metadata_storage=vcache.InMemoryEmbeddingMetadataStorage(),
            eviction_policy=vcache.NoEvictionPolicy(),
            similarity_evaluator=vcache.BenchmarkComparisonSimilarityEvaluator(),
        ),
        policy,
    )
    policy.callback_queue.stop()
    policy.executor.shutdown()
    policy.callback_queue = _AtOnce(policy.callback_queue.callback_function)
    policy.executor = _AtOnce()
    begun = time.perf_counter()
    for question, answer in zip(asked, sets, strict=True):
        engine.set_next_response(str(answer))
        embedding.set_next_embedding(vectors[question].tolist())
        hit, _, _, nearest = cache.infer_with_cache_info(str(question), id_set=answer)
        print(json.dumps({"hit": bool(hit), "right": not hit or nearest.id_set == answer}))
    print(json.dumps({"seconds": time.perf_counter() - begun}))


if __name__ == "__main__":
    given = json.loads(sys.argv[2])
    main(sys.argv[1], given["delta"], given["checkout"], given["seed"])
