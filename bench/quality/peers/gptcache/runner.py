"""GPTCache on a prepared stream: its own FAISS index, SQLite store, evaluation and `get` / `put`; our vectors.

    python runner.py FILE.npz '{"threshold": 0.8}'

Prints a JSON line for each request and one with the seconds it took. Run by `edgecache.quality.peers` in an
environment of its own; it imports nothing of edgecache.
"""

import json
import os
import sys
import tempfile
import time

import numpy as np
from gptcache import Cache, Config
from gptcache.adapter.api import get, put
from gptcache.manager import CacheBase, VectorBase, get_data_manager
from gptcache.processor.pre import get_prompt
from gptcache.similarity_evaluation.distance import SearchDistanceEvaluation


def main(file: str, threshold: float) -> None:
    """Ask everything in order; a miss puts the set of the question as its answer."""
    with np.load(file) as data:
        texts, vectors = data["texts"].tolist(), data["vectors"].astype(np.float32)
        asked, sets = data["asked"].tolist(), data["sets"].tolist()
    number = {text: i for i, text in enumerate(texts)}
    os.chdir(tempfile.mkdtemp())  # it keeps its files in the working directory
    cache = Cache()
    cache.init(
        pre_embedding_func=get_prompt,
        embedding_func=lambda prompt, **_: vectors[number[prompt]],
        data_manager=get_data_manager(
            CacheBase("sqlite"),
            VectorBase("faiss", dimension=vectors.shape[1]),
            max_size=len(asked) + 1,  # by default it keeps 1,000 entries; nothing else here evicts either
        ),
        similarity_evaluation=SearchDistanceEvaluation(),
        config=Config(similarity_threshold=threshold),
    )
    begun = time.perf_counter()
    for question, answer in zip(asked, sets, strict=True):
        found = get(texts[question], cache_obj=cache)
        if found is None:
            put(texts[question], str(answer), cache_obj=cache)
        print(json.dumps({"hit": found is not None, "right": found is None or found == str(answer)}))
    print(json.dumps({"seconds": time.perf_counter() - begun}))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2])["threshold"])
