"""The environment's proxy: for whom it is used, how it is told its password, and how its own failures are told."""

from __future__ import annotations

import base64
import socket
import ssl
from pathlib import Path

import pytest
import trustme

from corral.client import Timeouts, parse_url
from corral.client.proxy import read_proxy
from corral.client.settings import find_proxy
from corral.sim import simulate
from corral.wire import BadArgumentError, UnreachableError
from tests.support.clients import Use
from tests.support.proxies import Proxies

QUICK = Timeouts(0.5, 0.5, 2.0)
LOGIN = "Basic " + base64.b64encode("us@er:pa ss/ü".encode()).decode()
USERINFO = "us%40er:pa%20ss%2F%C3%BC"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "0.0.0.0", "2130706433"])
def test_no_proxy_comes_before_this_machine(use: Use, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """However this machine's own address is written, no proxy is asked to reach it."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with simulate(models=2) as sim:
        listing = use(f"http://{host}:{sim.port}", lambda router: router.list_models())

        assert len(listing.models) == 2


def test_own_host_name_is_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name that this machine gives itself, whole or up to its first dot, needs no proxy; another's does."""
    monkeypatch.setenv("http_proxy", "http://proxy.invalid:3128")
    name = socket.gethostname()

    assert read_proxy(parse_url(f"http://{name.upper()}:8080")) is None
    assert read_proxy(parse_url("http://gpu-box:8080"), "gpu-box.example.org") is None
    assert read_proxy(parse_url("http://gpu-box.example.org:8080"), "gpu-box.example.org.") is None
    assert read_proxy(parse_url("http://gpu-box.example.com:8080"), "gpu-box") is not None
    assert read_proxy(parse_url("http://gpu-box-2:8080"), "gpu-box") is not None


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_password_of_the_proxy_goes_to_the_proxy(
    use: Use, monkeypatch: pytest.MonkeyPatch, proxies: Proxies, tmp_path: Path, scheme: str
) -> None:
    """User and password in the proxy's URL are sent to it as such a proxy wants them, and to nobody else."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("router.invalid").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    options = {"ca_file": str(tmp_path / "ca.pem")} if scheme == "https" else {}
    with simulate(models=2, tls=context if scheme == "https" else None) as sim:
        proxy = proxies.start(sim.port, login=LOGIN)
        monkeypatch.setenv(f"{scheme}_proxy", f"http://{USERINFO}@127.0.0.1:{proxy.port}")
        listing = use(f"{scheme}://router.invalid:8443", lambda router: router.list_models(), **options)

        assert len(listing.models) == 2
        assert [LOGIN] == [headers.get("proxy-authorization") for _, headers in proxy.heads]
        assert not any("proxy-authorization" in request.headers for request in sim.request_log)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_that_wants_a_password(use: Use, monkeypatch: pytest.MonkeyPatch, proxies: Proxies, scheme: str) -> None:
    """A proxy that lets nobody through without a password is named, and what to do; it is no wrong API key."""
    proxy = proxies.start(9, login=LOGIN)
    monkeypatch.setenv(f"{scheme}_proxy", f"http://wrong:SECRET@127.0.0.1:{proxy.port}")
    with pytest.raises(UnreachableError, match="407") as caught:
        use(f"{scheme}://router.invalid:8443", lambda router: router.list_models(), timeouts=QUICK)

    _check_told(caught.value, f"http://127.0.0.1:{proxy.port}", f"{scheme}_proxy")


def test_proxy_that_lets_nobody_through(use: Use, monkeypatch: pytest.MonkeyPatch, proxies: Proxies) -> None:
    """A proxy that refuses the way to an https router is named with what it said."""
    proxy = proxies.start(9, refusal="403 Forbidden")
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
    with pytest.raises(UnreachableError, match="403") as caught:
        use("https://router.invalid", lambda router: router.list_models(), timeouts=QUICK)

    _check_told(caught.value, f"http://127.0.0.1:{proxy.port}", "https_proxy")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_dead_proxy_is_named(use: Use, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """Where nothing listens at the proxy's address, the error is about the proxy, not about the router."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        monkeypatch.setenv("ALL_PROXY", f"http://user:SECRET@127.0.0.1:{port}")
        with pytest.raises(UnreachableError, match="Nothing listens on the proxy") as caught:
            use(f"{scheme}://gpu-box.invalid:8080", lambda router: router.list_models(), timeouts=QUICK)

    _check_told(caught.value, f"http://127.0.0.1:{port}", "ALL_PROXY")


def test_unknown_proxy_is_named(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy whose host is not known is told as that."""
    monkeypatch.setenv("http_proxy", "no-such-proxy.invalid:3128")
    with pytest.raises(UnreachableError, match="host name of the proxy") as caught:
        use("http://gpu-box.invalid:8080", lambda router: router.list_models(), timeouts=QUICK)

    _check_told(caught.value, "http://no-such-proxy.invalid:3128", "http_proxy")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_that_hangs_is_named(use: Use, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """A proxy that says nothing ends in time, and the error names it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv(f"{scheme}_proxy", f"http://127.0.0.1:{port}")
        with pytest.raises(UnreachableError, match="No answer") as caught:
            use(f"{scheme}://gpu-box.invalid:8080", lambda router: router.list_models(), timeouts=QUICK)

    assert f"the proxy http://127.0.0.1:{port}" in caught.value.message


@pytest.mark.parametrize(
    "proxy",
    [
        "http://127.0.0.1:99999",
        "http://user:SECRET@127.0.0.1:99999",
        "http://user:SECRET@h:port",
        "http://",
        "http://:3128",
        "http://[::1",
        "socks5://user:SECRET@h:1080",
        "https://h",
    ],
)
def test_proxy_that_cannot_be_used(use: Use, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """A proxy that is no http:// address is refused with the variable that names it, and no password."""
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(BadArgumentError, match="HTTP_PROXY") as caught:
        use("http://gpu-box.invalid:8080", lambda router: router.list_models(), timeouts=QUICK)

    assert "NO_PROXY" in caught.value.hint
    assert "SECRET" not in caught.value.message + caught.value.hint


def test_proxy_shows_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed of a proxy holds neither user nor password."""
    monkeypatch.setenv("http_proxy", "http://user:SECRET@proxy.invalid:3128/")
    target = parse_url("http://gpu-box.invalid:8080")

    assert "http://proxy.invalid:3128" == find_proxy(target)
    assert not any(part in repr(read_proxy(target)) for part in ("user", "SECRET", "Basic"))


def _check_told(error: UnreachableError, proxy: str, variable: str) -> None:
    """The error names proxy and variable, says what to do, and shows no password."""
    assert proxy in error.message
    assert variable in error.hint and "NO_PROXY" in error.hint
    assert "SECRET" not in error.message + error.hint
