from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from edgecache.upstream.target import Target, TargetRefused, parse

HOSTS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z0-9]{1,5}){0,3}\.[a-z]{2,6}", fullmatch=True)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://api.example.com", Target("https", "api.example.com", 443)),
        ("HTTPS://API.Example.COM./v1?q=%20#top", Target("https", "api.example.com", 443, "/v1?q=%20")),
        ("http://a.b:8080?x", Target("http", "a.b", 8080, "/?x")),
        ("http://localhost/", Target("http", "localhost", 80)),
        ("http://xn--bcher-kva.example/", Target("http", "xn--bcher-kva.example", 80)),
        ("http://192.0.2.7./", Target("http", "192.0.2.7", 80, "/", IPv4Address("192.0.2.7"))),
        ("http://[2001:DB8:0::1]:81/", Target("http", "2001:db8::1", 81, "/", IPv6Address("2001:db8::1"))),
        ("http://[::ffff:127.0.0.1]/", Target("http", "::ffff:7f00:1", 80, "/", IPv6Address("::ffff:7f00:1"))),
    ],
)
def test_a_url_has_one_reading(url: str, target: Target) -> None:
    assert parse(url) == target


@pytest.mark.parametrize(
    "url",
    [
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://127.0.1/",
        "http://127.0.0.01/",
        "http://127.0.0.0x1/",
        "http://0/",
        "http://0x/",
        "http://1.2.3.4.5/",
        "http://256.1.1.1/",
        "http://127.0.0.1../",
        "http://example.1/",
        "http://\uff11\uff12\uff17.0.0.1/",
        "http://\u2460\u2461\u2466.0.0.1/",
        "http://127\u30020\u30020\u30021/",
        "http://ex\u00e4mple.com/",
        "http://\u0661\u0662\u0667.0.0.1/",
        "http://127%2e0%2e0%2e1/",
        "http://%31%32%37.0.0.1/",
        "http://[::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://[::1/",
        "http://::1/",
        "http://[::1]x/",
        "http://[127.0.0.1]/",
        "http://[]/",
        "http://[v1.fe80::a]/",
        "http://user:pass@127.0.0.1/",
        "http://example.com@127.0.0.1/",
        "http://example.com%40127.0.0.1/",
        "http://@example.com/",
        "http://example.com\\@127.0.0.1/",
        "http:\\\\127.0.0.1/",
        "http:/\\127.0.0.1/",
        "http:///127.0.0.1/",
        "http:127.0.0.1/",
        "//127.0.0.1/",
        "127.0.0.1",
        "",
        " http://example.com/",
        "http://example.com/ ",
        "http://example.com/a b",
        "http://exam\tple.com/",
        "http://example.com/\r\nHost: evil",
        "http://example.com/\n",
        "http://example.com\r\n/",
        "http://example.com/\x00",
        "http://example.com/caf\u00e9",
        "http://example.com:0/",
        "http://example.com:00/",
        "http://example.com:65536/",
        "http://example.com:99999/",
        "http://example.com:123456/",
        "http://example.com:/",
        "http://example.com:80:81/",
        "http://example.com:-1/",
        "http://example.com:8\u0660/",
        "http://example.com:a/",
        "http://:80/",
        "http://",
        "http://?q",
        "http://.example.com/",
        "http://example..com/",
        "http://./",
        "http://-a.example.com/",
        "http://a_b.example.com/",
        "http://*.example.com/",
        "http://exa$mple.com/",
        "http://exa,mple.com/",
        "http://" + "a" * 64 + ".com/",
        "http://" + ".".join(["abcdefgh"] * 29) + ".com/",
        "https://example.com/" + "a" * 8192,
        "file:///etc/passwd",
        "gopher://127.0.0.1:11211/_stats",
        "ftp://example.com/",
        "ws://example.com/",
        "unix:///var/run/docker.sock",
        "dict://example.com/",
        "data:text/plain,hello",
        "javascript:alert(1)",
        "httpx://example.com/",
        "http+unix://%2Fvar%2Frun%2Fdocker.sock/",
        "jar:http://example.com!/",
    ],
)
def test_odd_forms_are_refused(url: str) -> None:
    with pytest.raises(TargetRefused):
        parse(url)


@given(HOSTS, st.integers(1, 65535), st.sampled_from(["http", "https"]), st.sampled_from(["", "/", "/a?b=c", "?d"]))
def test_the_client_reads_it_as_the_check_did(host: str, port: int, scheme: str, path: str) -> None:
    target = parse(f"{scheme}://{host.upper()}:{port}{path}#f")
    read = URL(target.origin + target.path, encoded=True)
    assert (read.scheme, read.raw_host, read.port) == (target.scheme, target.host, target.port) == (scheme, host, port)
    assert read.raw_path_qs == target.path
    assert parse(target.origin + target.path) == target


@given(st.ip_addresses(v=6))
def test_an_address_has_one_spelling(address: IPv6Address) -> None:
    for text in (address.compressed, address.exploded, address.exploded.upper()):
        target = parse(f"http://[{text}]:81/")
        assert (target.address, target.host) == (address, str(address))
        assert URL(target.origin, encoded=True).raw_host == target.host
        assert parse(target.origin) == target


@given(st.ip_addresses(v=4))
def test_other_spellings_of_an_address_are_refused(address: IPv4Address) -> None:
    number = int(address)
    first, rest = number >> 24, number & 0xFFFFFF
    octets = str(address).split(".")
    octal = ".".join(f"0{int(octet):o}" for octet in octets)
    hexed = ".".join(f"0x{int(octet):x}" for octet in octets)
    padded = ".".join(octet.zfill(4) for octet in octets)
    wide = str(address).translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)})
    for text in (str(number), f"{number:#x}", f"0{number:o}", f"{first}.{rest}", octal, hexed, padded, wide):
        with pytest.raises(TargetRefused):
            parse(f"http://{text}/")
        with pytest.raises(TargetRefused):
            parse(f"http://{text}./")
    assert parse(f"http://{address}/").address == address


@given(st.text(max_size=40))
def test_whatever_it_is_it_is_read_or_refused(text: str) -> None:
    for url in (text, "http://" + text, f"http://{text}.example.com/", "http://example.com" + text):
        try:
            target = parse(url)
        except TargetRefused:
            continue
        read = URL(target.origin + target.path, encoded=True)
        assert (read.raw_host, read.port, read.user) == (target.host, target.port, None)
