"""edgecache: the edge node for LLM answers.

One daemon for an edge POP: an OpenAI-compatible API in front of an exact and a semantic cache; misses are streamed
from TensorRT-LLM and its siblings. Start reading at `edgecache.pipeline.serve`.
"""

__version__ = "0.1.0"
