"""What tokens cost, by an upstream's price list. Pure."""

from edgecache.config import Price


def cost(price: Price, prompt: int, completion: int, cached: int) -> float:
    """USD for `prompt` tokens, `cached` of which the upstream had in its KV cache, and `completion` generated ones."""
    kept = price.input if price.cached is None else price.cached
    return ((prompt - cached) * price.input + cached * kept + completion * price.output) / 1e6
