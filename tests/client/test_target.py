"""Which router a URL means, which are this machine's own, and what an error shows of one that is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.client import Target, identify, parse_url
from corral.client.settings import build_headers
from corral.client.target import encode_path
from corral.wire import BadArgumentError

OWN = (
    "localhost",
    "LOCALHOST.",
    "router.localhost",
    "127.0.0.1",
    "127.8.9.10",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "0.0.0.0",
    "0",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::ffff:127.0.0.1]",
)
OTHERS = ("128.0.0.1", "10.0.0.1", "1", "127.0.0.1.example", "localhost.example", "[fe80::1]", "[::2]", "gpu-box")


@pytest.mark.parametrize("host", OWN)
def test_every_spelling_of_loopback(host: str) -> None:
    """However this machine's own address is written, it is known as that."""
    assert parse_url(f"http://{host}:8080").is_loopback


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("http://127.1:1", "http://127.0.0.1:1"),
        ("http://0x0a000001", "http://10.0.0.1"),
        ("http://[0:0::1]:8080/p", "http://[::1]:8080/p"),
        ("http://[fe80::1%25lo]:1", "http://[fe80::1%25lo]:1"),
        ("http://10.0.0.1.example:1", "http://10.0.0.1.example:1"),
        ("http://1password:1", "http://1password:1"),
    ],
)
def test_one_address_has_one_spelling(url: str, label: str) -> None:
    """An address is shown, compared and asked for in one way, however it was written; a name is left as it is."""
    assert label == parse_url(url).label


@pytest.mark.parametrize("host", OTHERS)
def test_other_hosts_are_not_loopback(host: str) -> None:
    """What only looks like it is another host's."""
    assert not parse_url(f"http://{host}:8080").is_loopback


@pytest.mark.parametrize(
    "url",
    [
        "http://user:SECRET@host:99999",
        "user:SECRET@host:99999",
        "ftp://user:SECRET@host",
        "http://user:SECRET@host",
        "http://user:S@ECRET@host:99999",
        "http://user:SEC/RET@host:99999",
        "http://user:S?ECRET@host:99999",
        "http://user:S#ECRET@host:99999",
        "unix:user:SECRET@host",
        "http://host:99999/?api_key=SECRET",
        "http://host:99999/?api_key=S@ECRET",
        "http://host:99999/#SECRET",
        "http://host/?api_key=SECRET",
        "SECRET@x://y z",
    ],
)
def test_no_error_shows_a_password(url: str) -> None:
    """An address that cannot be used is named without what may be a secret in it."""
    with pytest.raises(BadArgumentError) as caught:
        parse_url(url)

    told = caught.value.message + caught.value.hint
    assert not any(part in told for part in ("SECRET", "ECRET", "user:S", "SEC/"))


def test_wrong_address_is_still_named() -> None:
    """What is no secret is shown, so that the mistake can be seen."""
    with pytest.raises(BadArgumentError, match=r"http://host:99999/path") as caught:
        parse_url("http://host:99999/path")

    assert "***" not in caught.value.message
    with pytest.raises(BadArgumentError, match=r"ftp://\*\*\*@host"):
        parse_url("ftp://u:p@host")


def resolve(host: str) -> list[str]:
    """A name server with one name, whose addresses come in any order."""
    return {"gpu-box": ["fd00::1", "10.0.0.2"], "10.0.0.2": ["10.0.0.2"]}.get(host, [])


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://localhost:8080", "http://127.0.0.1:8080"),
        ("127.0.0.1:8080/v1/", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://127.0.0.1:8080"),
        ("http://gpu-box:8080/llm", "http://10.0.0.2:8080/llm"),
        ("https://GPU-BOX", "https://10.0.0.2:443"),
        ("http://10.0.0.2", "http://10.0.0.2:80"),
        ("http://unknown:1", "http://unknown:1"),
        ("unix:///run/../run/llama.sock?prefix=/p", "unix:/run/llama.sock?prefix=/p"),
    ],
)
def test_urls_of_one_router_have_one_key(url: str, key: str) -> None:
    """A router is known by scheme, address, port and prefix, however its URL is written."""
    assert key == identify(url, resolve).key
    assert identify(url, resolve) == identify(identify(url, resolve).label, resolve)


def test_system_resolves_names() -> None:
    """Without a resolver the system is asked; a name that it does not know stands for itself."""
    assert "http://127.0.0.2:1" == identify("http://127.0.0.2:1").key
    assert "http://no-such-host.invalid:1" == identify("http://no-such-host.invalid:1").key


def test_url_with_a_password_is_no_router() -> None:
    """A password never becomes part of a key: such a URL is refused."""
    with pytest.raises(BadArgumentError):
        identify("http://ann:secret@gpu-box:8080", resolve)


def test_requests_carry_ascii_alone() -> None:
    """A host name and a prefix in any script go out as HTTP wants them; what is encoded already stays so."""
    assert "xn--bcher-kva.example:81" == build_headers(parse_url("http://bücher.example:81"), None)["Host"]
    assert "xn--r8jz45g.xn--zckzah:8080" == build_headers(parse_url("http://例え.テスト:8080"), None)["Host"]
    assert "[::1]:81" == build_headers(parse_url("http://[::1]:81"), None)["Host"]
    assert "/pr%C3%A4fix%20x" == encode_path(parse_url("http://a/präfix%20x").prefix)


@given(
    rest=st.text("az09.-:/%[]@?#_ ä", max_size=12) | st.from_regex(r"[a-z0-9.-]{1,9}(:[0-9]{0,6})?/?", fullmatch=True)
)
def test_plain_urls_are_read_like_all_others(rest: str) -> None:
    """The short way for what is a name and a port ends where the long way does, which a scheme in capitals takes."""

    def read(url: str) -> Target | str:
        try:
            return parse_url(url)
        except BadArgumentError as error:
            return error.message.replace("HTTP:", "http:")

    assert read(f"http://{rest}") == read(f"HTTP://{rest}")
