from functools import reduce

import pytest

from edgecache.config import Cache, Config, Log, Semantic, Server, Store, Upstream, reload

OLD = Config()


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        pytest.param(Config(), (), id="nothing changed"),
        pytest.param(Config(cache=Cache(ttl=5.0)), (), id="a lifetime"),
        pytest.param(Config(upstream=(Upstream(name="a", url="http://a"),)), (), id="an upstream"),
        pytest.param(Config(store=Store(sync=False)), ("store",), id="a whole section waits"),
        pytest.param(Config(server=Server(listen="[::]:1", pop="x")), ("server.listen",), id="one of two waits"),
        pytest.param(
            Config(cache=Cache(ttl=1.0, semantic=Semantic(enabled=False)), log=Log(access=False)),
            ("cache.semantic.enabled", "log.access"),
            id="settings deep down wait",
        ),
    ],
)
def test_it_says_what_waits_for_a_restart(new: Config, expected: tuple[str, ...]) -> None:
    assert reload.waiting(OLD, new) == expected


def test_what_waits_stays_as_it_was_and_the_rest_is_taken() -> None:
    new = Config(
        server=Server(listen="[::]:1", pop="x"), cache=Cache(ttl=1.0, semantic=Semantic(enabled=False, threshold=0.9))
    )
    merged = reload.merge(OLD, new)
    assert (merged.server.listen, merged.server.pop) == (OLD.server.listen, "x")
    assert (merged.cache.ttl, merged.cache.semantic) == (1.0, Semantic(enabled=True, threshold=0.9))
    assert reload.waiting(OLD, merged) == ()


@pytest.mark.parametrize("name", reload.NEEDS_RESTART)
def test_every_name_in_the_list_is_a_setting(name: str) -> None:
    reduce(getattr, name.split("."), OLD)
