from math import isnan, nan

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.config import Upstream
from edgecache.errors import UpstreamError
from edgecache.upstream.load import Load, address, parse

DYNAMO = b"""\
# HELP dynamo_frontend_active_requests Number of requests being handled by the frontend
# TYPE dynamo_frontend_active_requests gauge
dynamo_frontend_active_requests{model="edge-test"} 16
# HELP dynamo_frontend_inflight_requests Number of inflight requests
# TYPE dynamo_frontend_inflight_requests gauge
dynamo_frontend_inflight_requests{model="edge-test"} 16
dynamo_frontend_model_max_num_seqs{model="edge-test"} 4
dynamo_frontend_model_total_kv_blocks{model="edge-test"} 16384
dynamo_frontend_queued_requests{model="edge-test"} 12
dynamo_frontend_router_queue_pending_requests{model="edge-test",policy_class="default",worker_type="decode"} 0
dynamo_frontend_worker_active_decode_blocks{dp_rank="0",worker_id="3509254782704742329",worker_type="decode"} 96
dynamo_frontend_worker_active_prefill_tokens{dp_rank="0",worker_id="3509254782704742329",worker_type="decode"} 2621
"""
"""Dynamo 1.6.1 with one TensorRT-LLM mocker that runs 4 sequences, while 16 requests were in progress."""

TRTLLM = b"""\
# HELP trtllm_num_requests_running Number of requests running
# TYPE trtllm_num_requests_running gauge
trtllm_num_requests_running{engine_type="tensorrt_llm",model_name="llama"} 7.0
trtllm_num_requests_waiting{engine_type="tensorrt_llm",model_name="llama"} 3.0
trtllm_max_num_active_requests{engine_type="tensorrt_llm",model_name="llama"} 256.0
trtllm_kv_cache_utilization{engine_type="tensorrt_llm",model_name="llama"} 0.25
trtllm_kv_cache_used_blocks{engine_type="tensorrt_llm",model_name="llama"} 400.0
"""

TRITON = b"""\
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="waiting",version="1"} 5
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="scheduled",version="1"} 8
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="active",version="1"} 13
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="max",version="1"} 512
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="tensorrt_llm",version="1"} 0.5
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="tensorrt_llm",version="1"} 64
"""

VLLM = b"""\
vllm:num_requests_running{engine="0",model_name="m"} 2.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:num_requests_waiting{engine="1",model_name="m"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 9.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.2
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.4
"""

SGLANG = b"sglang:num_running_reqs 3\nsglang:num_queue_reqs 2\nsglang:token_usage 0.125\n"
NEIGHBOUR = (
    b'edgecache_waiting_requests{service_class="batch"} 4.0\nedgecache_waiting_requests{service_class="realtime"} 1.0\n'
    b'edgecache_upstream_inflight{cluster="a"} 2.0\nedgecache_upstream_inflight{cluster="b"} 1.0\n'
)


def same(left: Load, right: Load) -> bool:
    return all(a == pytest.approx(b, nan_ok=True) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize(
    ("dialect", "body", "load"),
    [
        ("dynamo", DYNAMO, Load(12, 4, 4, 96 / 16384)),
        ("trtllm", TRTLLM, Load(3, 7, 256, 0.25)),
        ("trtllm", TRITON, Load(5, 8, 512, 0.5)),
        ("vllm", VLLM, Load(1, 6, nan, 0.3)),
        ("openai", SGLANG, Load(2, 3, nan, 0.125)),
        ("edgecache", NEIGHBOUR, Load(5, 3)),
    ],
)
def test_each_kind_of_server_is_read_from_its_own_metrics(dialect, body, load) -> None:
    assert same(parse(dialect, "prometheus", body), load)
    assert same(parse(dialect, "prometheus", body.replace(b"\n", b"\r\n")), load)


def test_a_server_is_known_by_its_metrics_whatever_its_dialect_but_its_own_come_first() -> None:
    assert same(parse("openai", "prometheus", TRTLLM), Load(3, 7, 256, 0.25))
    both = VLLM + DYNAMO  # a Dynamo worker tells its engine's metrics too
    assert parse("dynamo", "prometheus", both).queued == 12
    assert parse("vllm", "prometheus", both).queued == 1


def test_what_a_worker_of_dynamo_has_counts_for_each_worker() -> None:
    second = b'dynamo_frontend_worker_active_decode_blocks{dp_rank="0",worker_id="2",worker_type="decode"} 16288\n'
    prefill = b'dynamo_frontend_worker_active_decode_blocks{dp_rank="0",worker_id="3",worker_type="prefill"} 9\n'
    assert same(parse("dynamo", "prometheus", DYNAMO + second + prefill), Load(12, 4, 8, 0.5))


def test_with_several_models_behind_dynamo_nobody_can_say_whose_workers_they_are() -> None:
    other = b'dynamo_frontend_model_total_kv_blocks{model="b"} 10\ndynamo_frontend_inflight_requests{model="b"} 1\n'
    assert same(parse("dynamo", "prometheus", DYNAMO + other), Load(12, 5))


def test_the_old_name_of_vllms_kv_cache_is_known() -> None:
    assert parse("vllm", "prometheus", b"vllm:gpu_cache_usage_perc 0.75\n").kv == 0.75


def test_what_is_not_a_count_is_not_believed() -> None:
    body = b"trtllm_num_requests_waiting NaN\ntrtllm_num_requests_running -1\ntrtllm_max_num_active_requests +Inf\n"
    assert same(parse("trtllm", "prometheus", body), Load())
    assert parse("trtllm", "prometheus", b"trtllm_kv_cache_utilization 37\n").kv == 1.0
    assert isnan(parse("trtllm", "prometheus", b"trtllm_num_requests_waiting 1" + b"0" * 400).queued)


def test_a_page_without_any_known_metric_tells_nothing() -> None:
    assert same(parse("trtllm", "prometheus", b"<html>hello</html>"), Load())
    assert same(parse("trtllm", "prometheus", b""), Load())


@pytest.mark.parametrize(
    "line",
    [
        b"vllm:num_requests_waiting",
        b'vllm:num_requests_waiting{engine="0',
        b"vllm:num_requests_waiting many",
        b'vllm:num_requests_waiting{="1"} 3',
        b"vllm:num_requests_waiting \xff",
        b"vllm:num_requests_waiting 1 " + b"9" * 400,
    ],
)
def test_a_cut_or_malformed_metric_spoils_the_whole_page(line) -> None:
    with pytest.raises(UpstreamError, match="Prometheus"):
        parse("vllm", "prometheus", VLLM + line)


def test_malformed_lines_of_others_are_nobodys_business() -> None:
    assert parse("vllm", "prometheus", b"some thing {{ else\n" + VLLM).running == 6


RECORD = {
    "iter": 7,
    "numActiveRequests": 6,
    "numQueuedRequests": 2,
    "maxNumActiveRequests": 64,
    "kvCacheStats": {"maxNumBlocks": 200, "usedNumBlocks": 50, "freeNumBlocks": 150},
}


def test_the_last_record_of_trtllm_serve_counts() -> None:
    older = {**RECORD, "numQueuedRequests": 40}
    assert same(parse("trtllm", "trtllm_json", orjson.dumps([older, RECORD])), Load(2, 6, 64, 0.25))


def test_no_record_is_not_the_same_as_no_load() -> None:
    assert same(parse("trtllm", "trtllm_json", b"[]"), Load())


def test_records_may_lack_anything() -> None:
    assert same(parse("trtllm", "trtllm_json", b"[{}]"), Load())
    broken = {"numActiveRequests": True, "numQueuedRequests": "2", "kvCacheStats": {"maxNumBlocks": 0}}
    assert same(parse("trtllm", "trtllm_json", orjson.dumps([broken])), Load())


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b"[3]", b"[null]", b'[{"a":', b"\xff"])
def test_other_json_is_an_error(body) -> None:
    with pytest.raises(UpstreamError):
        parse("trtllm", "trtllm_json", body)


NAMES = [
    b"vllm:num_requests_waiting",
    b"trtllm_kv_cache_utilization",
    b"nv_trt_llm_request_metrics",
    b"dynamo_frontend_",
]
PIECES = st.sampled_from([*NAMES, b"{", b"}", b'"', b"\\", b"=", b",", b" ", b"\t", b"\n", b"#", b"1e999", b"0" * 5000])


@given(
    kind=st.sampled_from(["prometheus", "trtllm_json"]),
    body=st.lists(st.one_of(PIECES, st.binary(max_size=8)), max_size=20).map(b"".join),
)
def test_garbage_is_an_error_or_tells_nothing_that_cannot_be(kind, body) -> None:
    try:
        load = parse("dynamo", kind, body)
    except UpstreamError:
        return
    assert all(isnan(each) or each >= 0 for each in load)
    assert isnan(load.kv) or load.kv <= 1


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False), st.text(max_size=3)
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*RECORD, "maxNumBlocks"]), inner),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_an_error_or_tells_nothing_that_cannot_be(document) -> None:
    try:
        load = parse("trtllm", "trtllm_json", orjson.dumps([document]))
    except UpstreamError:
        return
    assert all(isnan(each) or each >= 0 for each in load)


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"dialect": "trtllm", "load": "prometheus"}, "/prometheus/metrics"),
        ({"dialect": "trtllm", "load": "trtllm_json"}, "/metrics"),
        ({"dialect": "dynamo", "load": "prometheus"}, "/metrics"),
        ({"dialect": "vllm", "load": "prometheus"}, "/metrics"),
        ({"load": "prometheus", "load_url": "http://c:8002/metrics"}, "http://c:8002/metrics"),
    ],
)
def test_every_dialect_has_its_place_to_look(fields, where) -> None:
    assert address(Upstream(name="c", url="http://c", **fields)) == where
