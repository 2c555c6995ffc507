"""Which functions run for which requests."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.functions.bindings import Bindings
from edgecache.functions.manifest import Bind, Manifest, Phase
from edgecache.functions.versions import Active, Deployment, Loaded, Split, Version
from edgecache.wasm.base import Kind

PATH = "/v1/chat/completions"


class Deployed:
    """What a registry shows of the functions that run."""

    def __init__(self, *functions: Active) -> None:
        self.functions = functions
        self.generation = 1

    def active(self) -> tuple[Active, ...]:
        return self.functions


def function(name: str, *bind: Bind, tenant: str = "acme") -> Active:
    version = Version(
        tenant=tenant,
        name=name,
        number=1,
        digest="d",
        artefact="a",
        kind=Kind.CORE,
        size=1,
        manifest=Manifest(name=name, bind=bind),
        created=0.0,
    )
    program: Any = None
    return Active(Deployment(tenant, name, Split(1), 1), Loaded(version, program, lambda _: None))


def chain(
    deployed: Deployed, phase: Phase = Phase.HIT, tenant: str = "acme", model: str = "m", path: str = PATH, *tags: str
):
    bindings = Bindings(deployed)  # type: ignore[arg-type]
    found = [bound.active.deployment.name for bound in bindings.chains(tenant, model, path, tags).get(phase, ())]
    again = [bound.active.deployment.name for bound in bindings.chains(tenant, model, path, tags).get(phase, ())]
    assert found == again
    return found


def test_without_functions_there_is_nothing_to_look_up() -> None:
    bindings = Bindings(Deployed())  # type: ignore[arg-type]
    assert not bindings.any
    assert bindings.chains("acme", "m", PATH) == {}
    assert bindings.route("acme", "f", "/") is None


def test_a_function_runs_in_its_phase_for_its_tenant_only() -> None:
    deployed = Deployed(function("f", Bind(Phase.HIT)))
    assert chain(deployed) == ["f"]
    assert chain(deployed, Phase.RESPONSE) == []
    assert chain(deployed, tenant="other") == []
    assert chain(deployed, tenant="acme.") == []


def test_a_tenants_function_cannot_bind_itself_to_another_tenant() -> None:
    deployed = Deployed(
        function("f", Bind(Phase.HIT, tenants=("other", "*"))), function("g", Bind(Phase.HIT, tenants=("other",)))
    )
    assert chain(deployed, tenant="other") == []
    assert chain(deployed) == ["f"]


def test_an_operators_function_runs_for_all_tenants_or_those_it_names() -> None:
    deployed = Deployed(
        function("all", Bind(Phase.HIT), tenant="*"), function("some", Bind(Phase.HIT, tenants=("a*",)), tenant="*")
    )
    assert chain(deployed) == ["all", "some"]
    assert chain(deployed, tenant="bad") == ["all"]


@pytest.mark.parametrize(
    ("bind", "runs"),
    [
        (Bind(Phase.HIT, models=("m",)), True),
        (Bind(Phase.HIT, models=("n", "m*")), True),
        (Bind(Phase.HIT, models=("n",)), False),
        (Bind(Phase.HIT, models=("M",)), False),
        (Bind(Phase.HIT, path="/v1/chat/*"), True),
        (Bind(Phase.HIT, path="/v1/completions"), False),
        (Bind(Phase.HIT, path="/v1/chat"), False),
        (Bind(Phase.HIT, tags=("vip", "x")), True),
        (Bind(Phase.HIT, tags=("v*",)), True),
        (Bind(Phase.HIT, tags=("other",)), False),
        (Bind(Phase.HIT, tags=("vip",), models=("n",)), False),
    ],
)
def test_model_path_and_tags_narrow(bind: Bind, runs: bool) -> None:
    deployed = Deployed(function("f", bind))
    assert chain(deployed, Phase.HIT, "acme", "m", PATH, "vip", "blue") == (["f"] if runs else [])


def test_no_name_that_a_client_sends_takes_long_to_match() -> None:
    deployed = Deployed(function("f", Bind(Phase.HIT, models=("*a" * 60 + "*b",), path="/" + "*/" * 60 + "*b")))
    begun = time.perf_counter()
    assert chain(deployed, model="a" * 1000) == chain(deployed, model="a" * 60 + "b", path="/" * 1000) == []
    assert time.perf_counter() - begun < 0.2


def test_a_binding_to_a_tag_does_not_run_without_one() -> None:
    assert chain(Deployed(function("f", Bind(Phase.HIT, tags=("a", "b*"))))) == []


def test_a_chain_goes_by_order_then_by_name() -> None:
    deployed = Deployed(
        function("b", Bind(Phase.HIT)),
        function("a", Bind(Phase.HIT)),
        function("last", Bind(Phase.HIT, order=200)),
        function("z", Bind(Phase.HIT, order=1), Bind(Phase.HIT, order=300)),
    )
    assert chain(deployed) == ["z", "a", "b", "last", "z"]


def test_a_swap_shows_at_once() -> None:
    deployed = Deployed(function("f", Bind(Phase.HIT)))
    bindings = Bindings(deployed)  # type: ignore[arg-type]
    assert len(bindings.chains("acme", "m", PATH)[Phase.HIT]) == 1
    deployed.functions, deployed.generation = (), 2
    assert not bindings.any
    assert bindings.chains("acme", "m", PATH) == {}


def test_routes_go_by_name_and_path_and_the_tenants_own_comes_first() -> None:
    deployed = Deployed(
        function("f", Bind(Phase.ROUTE, path="/api/*")),
        function("f", Bind(Phase.ROUTE), tenant="*"),
        function("g", Bind(Phase.HIT)),
    )
    bindings = Bindings(deployed)  # type: ignore[arg-type]

    def owner(tenant: str, name: str, path: str) -> str | None:
        found = bindings.route(tenant, name, path)
        return None if found is None else found.active.deployment.tenant

    assert owner("acme", "f", "/api/x") == "acme"
    assert owner("acme", "f", "/x") == "*"
    assert owner("other", "f", "/api/x") == "*"
    assert owner("acme", "g", "/") is None
    assert owner("acme", "h", "/") is None


def test_routes_alone_concern_no_other_request() -> None:
    assert not Bindings(Deployed(function("f", Bind(Phase.ROUTE)))).any  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.text("ab", max_size=2), st.text("ab", max_size=2)), max_size=20))
def test_what_is_remembered_is_what_would_be_found(asked: list[tuple[str, str]]) -> None:
    deployed = Deployed(
        function("f", Bind(Phase.HIT, models=("a*",))), function("g", Bind(Phase.HIT, tags=("b",)), tenant="*")
    )
    bindings = Bindings(deployed)  # type: ignore[arg-type]
    for model, tag in asked:
        found = bindings.chains("acme", model, PATH, (tag,)).get(Phase.HIT, ())
        names = [bound.active.deployment.name for bound in found]
        assert names == ["f"] * model.startswith("a") + ["g"] * (tag == "b")
