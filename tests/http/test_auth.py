import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.config import Admin, AdminDeveloper, Auth, AuthKey, AuthTenant, Router
from edgecache.config.secret import HASHED, hashed
from edgecache.errors import Forbidden, NotFound, Unauthorized
from edgecache.http.auth import OPERATOR, Authenticator, actor
from edgecache.types import Allowance, ServiceClass


def keys(*given: str, models: tuple[str, ...] = ()) -> Authenticator:
    return Authenticator(Auth(mode="keys", tenant=(AuthTenant(id="acme", keys=given, models=models),)))


def test_without_authentication_everybody_is_the_default_tenant() -> None:
    assert Authenticator(Auth()).tenant("Bearer whatever").id == "default"


def test_a_key_may_stand_in_the_configuration_in_clear_or_hashed() -> None:
    assert keys("sk-1").tenant("Bearer sk-1").id == "acme"
    assert keys(hashed("sk-1")).tenant("bearer  sk-1").id == "acme"


def test_the_hash_of_a_key_is_no_key() -> None:
    with pytest.raises(Unauthorized):
        keys(hashed("sk-1")).tenant("Bearer " + hashed("sk-1"))


def test_a_hashed_key_does_not_hold_the_key() -> None:
    assert hashed("sk-1").startswith(HASHED)
    assert "sk-1" not in hashed("sk-1")


@given(st.text())
def test_no_text_but_the_key_opens(text: str) -> None:
    with pytest.raises(Unauthorized):
        keys("sk-" + "k" * 40).tenant(text)


def test_bytes_that_are_no_utf_8_are_just_a_wrong_key() -> None:
    with pytest.raises(Unauthorized):
        keys("sk-1").tenant("Bearer \udcff")
    assert Authenticator(Auth(mode="forward")).tenant("Bearer \udcff").id.startswith("fwd-")


def test_a_tenant_with_a_list_of_models_sees_and_may_use_only_those() -> None:
    limited = keys("sk-1", models=("tiny",))
    tenant = limited.tenant("Bearer sk-1")
    limited.admit(tenant, "tiny")
    assert limited.visible(tenant, [("tiny", "a"), ("huge", "a")]) == [("tiny", "a")]
    with pytest.raises(Forbidden):
        limited.admit(tenant, "huge")


def test_a_tenant_without_a_list_may_use_every_model() -> None:
    free = keys("sk-1")
    free.admit(free.tenant("Bearer sk-1"), "huge")


def test_the_repr_of_a_forwarding_tenant_does_not_show_the_credential() -> None:
    assert "secret" not in repr(Authenticator(Auth(mode="forward")).tenant("Bearer secret"))


def test_an_operator_needs_the_token_where_there_is_one() -> None:
    assert actor(None, Admin()) is OPERATOR
    assert actor("Bearer t", Admin(token="t")) is OPERATOR
    for wrong in (None, "", "Bearer", "Bearer x", "t"):
        with pytest.raises(Unauthorized):
            actor(wrong, Admin(token="t"))


def test_a_developer_is_known_by_the_token_in_either_form_and_reaches_one_tenant() -> None:
    developers = (
        AdminDeveloper(tenant="acme", tokens=("d-1", hashed("d-2"))),
        AdminDeveloper(tenant="b", tokens=("d-3",)),
    )
    settings = Admin(token="t", developer=developers)
    assert [actor(f"Bearer {token}", settings).tenant for token in ("t", "d-1", "d-2", "d-3")] == [
        None,
        "acme",
        "acme",
        "b",
    ]
    assert "d-1" not in actor("Bearer d-1", settings).name
    with pytest.raises(Unauthorized):
        actor("Bearer " + hashed("d-2"), settings)


def test_each_key_of_a_tenant_is_a_writer_by_the_name_that_keys_list_prints() -> None:
    both = keys("sk-1", hashed("sk-2"))
    first, second = both.tenant("Bearer sk-1").writer, both.tenant("Bearer sk-2").writer
    assert first != second
    assert hashed("sk-1").removeprefix(HASHED).startswith(first)
    assert len(first) == len(second) == 12


def test_without_keys_nobody_is_a_writer_and_a_forwarded_credential_is_one() -> None:
    assert Authenticator(Auth()).tenant("Bearer whatever").writer == ""
    forwarding = Authenticator(Auth(mode="forward"))
    assert forwarding.tenant("Bearer a").writer != forwarding.tenant("Bearer b").writer
    assert forwarding.tenant("Bearer a").writer == forwarding.tenant("Bearer a").writer != ""


# ------------------------------------------------------------------------------------------ terms
ROUTER = Router(service_class=ServiceClass.INTERACTIVE, residency=("EU",))


def test_whoever_has_no_policy_is_served_as_all() -> None:
    for auth in (Auth(), Auth(mode="forward")):
        terms = Authenticator(auth, ROUTER).tenant("Bearer x").terms
        assert (terms.service, terms.residency) == (ServiceClass.INTERACTIVE, frozenset({"EU"}))


def test_a_tenants_own_policy_holds_for_all_of_its_keys() -> None:
    tenant = AuthTenant(id="acme", keys=("a", "b"), service_class=ServiceClass.REALTIME, residency=("CH",), weight=2.0)
    known = Authenticator(Auth(mode="keys", tenant=(tenant,)), ROUTER)
    for key in ("a", "b"):
        terms = known.tenant(f"Bearer {key}").terms
        assert (terms.service, terms.residency, terms.weight) == (ServiceClass.REALTIME, frozenset({"CH"}), 2.0)


def test_a_key_has_its_own_limits_beside_those_of_its_tenant_and_no_better_class() -> None:
    own = AuthKey(key="k", name="app", requests_per_minute=5, service_class=ServiceClass.REALTIME)
    tenant = AuthTenant(id="acme", key=(own,), budget=10.0, period="day", service_class=ServiceClass.STANDARD)
    found = Authenticator(Auth(mode="keys", tenant=(tenant,))).tenant("Bearer k")
    assert found.writer == "app"
    assert found.terms.service is ServiceClass.STANDARD
    assert found.terms.allowances == (
        Allowance("acme", budget=10.0, period="day"),
        Allowance("acme/app", requests_per_minute=5),
    )


def test_a_tenant_is_known_by_name_and_without_keys_any_name_is_one() -> None:
    with pytest.raises(NotFound):
        keys("k").known("nobody")
    assert keys("k").known("acme").id == "acme"
    assert Authenticator(Auth(), ROUTER).known("any").terms.residency == frozenset({"EU"})


# ------------------------------------------------------------------------------------------ neighbours
def test_a_neighbour_says_whose_request_it_hands_over_and_our_terms_hold() -> None:
    tenant = AuthTenant(id="acme", keys=("k",), residency=("CH",))
    known = Authenticator(Auth(mode="keys", tenant=(tenant,), peers=("pop",)))
    handed = known.peer("Bearer pop", "acme")
    assert handed is not None
    assert (handed.id, handed.terms.residency) == ("acme", frozenset({"CH"}))
    with pytest.raises(Forbidden):
        known.peer("Bearer pop", "nobody")


def test_nobody_else_speaks_for_a_tenant() -> None:
    tenants = (AuthTenant(id="acme", keys=("k",)), AuthTenant(id="evil", keys=("e",)))
    known = Authenticator(Auth(mode="keys", tenant=tenants, peers=("pop",)))
    assert known.peer("Bearer e", "acme") is None
    assert Authenticator(Auth()).peer(None, "acme") is None


@pytest.mark.parametrize("mode", ["keys", "forward"])
def test_a_neighbour_that_does_not_say_whose_request_it_is_is_told_so(mode) -> None:
    known = Authenticator(Auth(mode=mode, tenant=(AuthTenant(id="acme", keys=("k",)),), peers=("pop",)))
    for _ in range(2):
        with pytest.raises(Forbidden, match="EdgeCache-Tenant"):
            known.tenant("Bearer pop")


def test_only_a_bearer_of_its_key_is_a_neighbour() -> None:
    known = Authenticator(Auth(mode="keys", tenant=(AuthTenant(id="acme", keys=("k",)),), peers=(hashed("pop"),)))
    assert known.neighbour("bearer  pop")
    for other in ("Bearer k", "Basic pop", "pop", "Bearer " + hashed("pop"), "Bearer ", "", None):
        assert not known.neighbour(other)
    assert not Authenticator(Auth()).neighbour("Bearer ")
