import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgecache.config import tree as config
from edgecache.sim import metrics
from edgecache.sim.seen import Seen, Tally

NAMES = {
    "vllm": ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"),
    "trtllm": ("trtllm_num_requests_running", "trtllm_num_requests_waiting", "trtllm_kv_cache_utilization"),
    "dynamo": ("dynamo_frontend_active_requests", "dynamo_frontend_queued_requests", None),
}
TOKENS = {
    "vllm": ("vllm:prompt_tokens_total", "vllm:generation_tokens_total", "model_name"),
    "trtllm": ("trtllm_prompt_tokens_total", "trtllm_generation_tokens_total", "model_name"),
    "dynamo": ("dynamo_frontend_input_sequence_tokens_sum", "dynamo_frontend_output_sequence_tokens_sum", "model"),
}


def core(dialect: str, **settings) -> config.Core:
    return config.Core(dialect=dialect, models=('m"1', "m2"), max_num_seqs=8, **settings)


def scraped(settings: config.Core, seen: Seen, running: int = 0, waiting: int = 0) -> dict[tuple[str, str], float]:
    """Value by name and model, as a scraper reads them."""
    text = metrics.prometheus(settings, metrics.load(settings, running, waiting), seen)
    label = TOKENS[settings.dialect][2]
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, sample.labels[label]): sample.value for sample in samples}


@pytest.mark.parametrize("dialect", metrics.PATHS)
def test_the_load_is_told_in_the_names_of_the_dialect(dialect: str) -> None:
    found = scraped(core(dialect), Seen(), running=6, waiting=3)
    expected = zip(NAMES[dialect], (6, 3, 0.75), strict=True)
    assert {name: found[name, 'm"1'] for name in NAMES[dialect] if name} == {name: v for name, v in expected if name}


@pytest.mark.parametrize("dialect", metrics.PATHS)
def test_tokens_are_told_by_model(dialect: str) -> None:
    seen = Seen()
    for model, prompt in (('m"1', 7), ("m2", 11), ("m2", 1)):
        tally = Tally(seen, model, prompt)
        tally.made(2)
        tally.made(3)
    found = scraped(core(dialect), seen)
    prompts, generated, _ = TOKENS[dialect]
    assert [found[prompts, model] for model in ('m"1', "m2")] == [7, 12]
    assert [found[generated, model] for model in ('m"1', "m2")] == [5, 10]


@pytest.mark.parametrize("dialect", metrics.PATHS)
def test_what_is_to_be_lied_about_is_and_the_rest_is_true(dialect: str) -> None:
    lie = config.FakeMetrics(running_requests=0, kv_cache_usage=0.01)
    found = scraped(core(dialect, fake_metrics=lie), Seen(), running=8, waiting=5)
    running, waiting, kv_cache = NAMES[dialect]
    assert (found[running, 'm"1'], found[waiting, 'm"1']) == (0, 5)
    assert kv_cache is None or found[kv_cache, 'm"1'] == 0.01


def test_cached_prompt_tokens_are_told_by_those_who_do() -> None:
    seen = Seen()
    Tally(seen, "m2", 40, cached_tokens=10).made(1)
    assert scraped(core("vllm"), seen)["vllm:prefix_cache_hits_total", "m2"] == 10
    found = scraped(core("trtllm"), seen)
    assert found["trtllm_prompt_cached_tokens_total", "m2"] == 10
    assert found["trtllm_kv_cache_hit_rate", 'm"1'] == 0.25


def test_a_frontend_whose_workers_are_gone_has_no_model_ready() -> None:
    for rate, types, ready in ((1.0, ("empty_404",), 0), (0.5, ("empty_404",), 1), (1.0, ("cut",), 1)):
        settings = core("dynamo", failure_injection_rate=rate, failure_types=types)
        assert scraped(settings, Seen())["dynamo_frontend_model_ready", 'm"1'] == ready


def test_an_iteration_tells_what_runs_what_waits_and_what_is_done() -> None:
    settings = core("trtllm")
    record = metrics.iteration(3, metrics.load(settings, 4, 2), Seen(finished=9))
    assert (record["iter"], record["numActiveRequests"], record["numQueuedRequests"]) == (3, 4, 2)
    assert (record["numCompletedRequests"], record["maxNumActiveRequests"]) == (9, 8)
    stats = record["kvCacheStats"]
    assert stats["usedNumBlocks"] == stats["maxNumBlocks"] / 2
    assert stats["usedNumBlocks"] + stats["freeNumBlocks"] == stats["maxNumBlocks"]
