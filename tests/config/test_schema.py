import msgspec

from edgecache.config import Admin, AuthTenant, Config, Upstream, schema
from edgecache.config.origin import dotted


def test_every_setting_says_what_it_means() -> None:
    assert [dotted(leaf.path) for leaf in schema.leaves() if not leaf.doc] == []


def test_the_secrets_are_the_settings_documented_as_such() -> None:
    documented = {leaf.path for leaf in schema.leaves() if "(secret)" in leaf.doc}
    assert documented == schema.SECRETS


def test_kinds_are_words_with_bounds() -> None:
    kinds = {dotted(leaf.path): leaf.kind for leaf in schema.leaves()}
    assert kinds["cache.enabled"] == "true or false"
    assert kinds["cache.ttl"] == "number, at least 0"
    assert kinds["cache.semantic.neighbours"] == "whole number from 1 to 64"
    assert kinds["auth.mode"] == "one of forward, keys, none"
    assert kinds["admin.token"] == "string"
    assert kinds["upstream.models"] == "array (string)"
    assert kinds["upstream.url"] == "string matching ^https?://"


def test_flattening_keeps_every_value() -> None:
    config = Config(upstream=(Upstream(name="a", url="http://a"), Upstream(name="b", url="http://b")))
    flat = schema.flatten(config)
    assert flat["upstream[1].name"] == "b"
    assert flat["cache.semantic.threshold"] == 0.98
    assert flat["auth.tenant"] == ()
    assert "upstream" not in flat


def test_redaction_hides_secrets_that_are_set() -> None:
    config = Config(admin=Admin(token="hush"), upstream=(Upstream(name="a", url="http://a", api_key="sk-1"),))
    shown = schema.redacted(config)
    assert shown["admin.token"] == "(set)"
    assert shown["upstream[0].api_key"] == "(set)"
    assert "hush" not in str(shown)
    assert schema.redacted(Config())["admin.token"] is None


def test_the_json_schema_knows_the_file_form_of_secrets() -> None:
    definitions = schema.json_schema()["$defs"]
    assert "token_file" in definitions["Admin"]["properties"]
    assert "api_key_file" in definitions["Upstream"]["properties"]
    assert "keys_file" in definitions["AuthTenant"]["properties"]
    assert definitions["AuthTenant"]["additionalProperties"] is False
    assert set(definitions["AuthTenant"]["properties"]) == {"keys_file", *AuthTenant.__struct_fields__}


def test_the_json_schema_is_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(schema.json_schema()))["title"] == "edgecache.toml"
