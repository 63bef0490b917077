"""Both clients against the simulated router: the verbs, the key, the path, and bad days."""

from __future__ import annotations

import gc
import inspect
import socket
import ssl
import threading
from pathlib import Path
from time import monotonic

import pytest
import trustme

from corral import AsyncRouter, Router
from corral.client import Timeouts
from corral.client.session import KeyGuard
from corral.ops import Requested
from corral.sim import ModelSpec, simulate
from corral.wire import (
    AuthError,
    BadArgumentError,
    NotARouterError,
    Reply,
    UnknownModelError,
    UnreachableError,
    list_models,
)
from tests.support.clients import Use

QUICK = Timeouts(0.5, 0.5, 2.0)
ERAS = ["v1", "b9093", "b10240", "b11434"]


@pytest.mark.parametrize("era", ERAS)
def test_unload_all_is_seen_in_every_era(use: Use, era: str) -> None:
    """Loaded models of any era are unloaded, each asked for once."""
    with simulate(models=3, era=era) as sim:
        for name in ("model-01", "model-03"):
            sim.load(name)
            sim.wait_for(name, "loaded")
        report = use(sim.url, lambda router: router.unload_all())

        assert report.ok and [item.outcome for item in report.outcomes] == ["unloaded", "unloaded"]
        assert {sim.state(f"model-0{number}") for number in (1, 2, 3)} == {"unloaded"}
        assert len(sim.requests("POST", "/models/unload")) == 2


@pytest.mark.parametrize("era", ERAS)
def test_load_and_wait_in_every_era(use: Use, era: str) -> None:
    """Models are loaded one after another and seen loaded."""
    with simulate(models=3, era=era) as sim:
        report = use(sim.url, lambda router: router.load("model-02", "model-01"))
        waited = use(sim.url, lambda router: router.wait("model-01", state="loaded", timeout_s=1))

        assert report.ok and [item.model for item in report.outcomes] == ["model-02", "model-01"]
        assert waited.ok and sim.state("model-01") == sim.state("model-02") == "loaded"


def test_status_as_a_string(use: Use) -> None:
    """A fork that sends the status as a string is unloaded like any other."""
    with simulate(models=(ModelSpec("a", status="loaded"),), string_status=True) as sim:
        assert use(sim.url, lambda router: router.unload("a")).ok
        assert sim.state("a") == "unloaded"


@pytest.mark.parametrize("name", ['we "quote" it\'s', "a/b:c d", "line\nend", "🐎 ü", "x" * 10_000, "\x1b[31mred"])
def test_any_id(use: Use, name: str) -> None:
    """Any id is loaded and unloaded by its very name."""
    with simulate(models=(name,)) as sim:
        assert use(sim.url, lambda router: router.load(name)).ok
        assert sim.state(name) == "loaded"
        assert use(sim.url, lambda router: router.unload(name)).ok
        assert sim.state(name) == "unloaded"


def test_looking_never_loads_or_wakes(use: Use) -> None:
    """Listing, waiting and following change no model."""
    models = (ModelSpec("a"), ModelSpec("s", status="sleeping"), ModelSpec("l", status="loaded"))
    with simulate(models=models) as sim:
        listing = use(sim.url, lambda router: router.list_models())
        residents = use(sim.url, lambda router: router.residents())
        use(sim.url, lambda router: router.wait("a", state="unloaded"))

        assert [model.status for model in listing.models] == ["unloaded", "loaded", "sleeping"]
        assert {model.id for model in residents} == {"s", "l"}
        assert [sim.state(name) for name in "asl"] == ["unloaded", "sleeping", "loaded"]
        assert {request.path for request in sim.request_log} <= {"/models", "/models/sse"}


def test_selection_by_tag_pattern_and_exception(use: Use) -> None:
    """Tags, patterns and exceptions narrow what ``unload_all`` takes."""
    models = tuple(
        ModelSpec(name, status="loaded", tags=tags) for name, tags in (("a1", ("t",)), ("a2", ("t",)), ("b", ()))
    )
    with simulate(models=models) as sim:
        said: list[object] = []
        report = use(sim.url, lambda r: r.unload_all(tags=["t"], match=["a*"], keep=["a2"], say=said.append))

        assert report.ok and Requested("a1", "unload") in said
        assert [sim.state(name) for name in ("a1", "a2", "b")] == ["unloaded", "loaded", "loaded"]


def test_loading_model_is_let_up_and_never_killed(use: Use) -> None:
    """A loading model comes up before it is unloaded; ``at_once`` kills it."""
    with simulate(models=(ModelSpec("a", load_s=0.3), ModelSpec("b", load_s=60.0))) as sim:
        sim.load("a")
        report = use(sim.url, lambda router: router.unload("a"))
        assert report.ok and report.outcomes[0].exit_code is None
        sim.load("b")
        killed = use(sim.url, lambda router: router.unload("b", at_once=True))
        assert killed.ok and "killed" in killed.outcomes[0].detail


def test_busy_model_is_left_alone_or_cut_by_force(use: Use) -> None:
    """A model that answers is left alone when the grace ends; with force the router kills it, and that is told."""
    with simulate(models=(ModelSpec("a", status="loaded", stop_timeout_s=0.2),)) as sim, sim.busy("a"):
        patient = use(sim.url, lambda router: router.unload("a", grace_s=0.2))
        forced = use(sim.url, lambda router: router.unload("a", grace_s=0.0, force=True))

        assert patient.outcomes[0].outcome == "still_busy" and patient.outcomes[0].in_flight == 1
        assert forced.ok and forced.outcomes[0].exit_code == 1 and forced.outcomes[0].cut == 1


def test_model_that_comes_back(use: Use) -> None:
    """A client that asks again while Corral waits is noticed."""
    models = (ModelSpec("a", status="loaded"), ModelSpec("b", status="loaded", exit_s=0.4))
    with simulate(models=models) as sim:
        sim.set_fault("comes-back", model="a", seconds=0.01)
        report = use(sim.url, lambda router: router.unload_all())

        assert {item.model: item.outcome for item in report.outcomes} == {"a": "came_back", "b": "unloaded"}


def test_model_that_never_unloads(use: Use) -> None:
    """Success from the router is not believed."""
    with simulate(models=(ModelSpec("a", status="loaded"),)) as sim:
        sim.set_fault("never-unloads", model="a")
        report = use(sim.url, lambda router: router.unload("a", timeout_s=0.6))

        assert report.outcomes[0].outcome == "not_seen_unloaded" and not report.ok


def test_failed_load_and_eviction(use: Use) -> None:
    """A load that fails has its exit code; one that needs room names whom the router evicted."""
    models = (ModelSpec("a", status="loaded"), ModelSpec("b"), ModelSpec("bad", fails_with=3))
    with simulate(models=models, models_max=1) as sim:
        bad = use(sim.url, lambda router: router.load("bad"))
        assert bad.outcomes[0].outcome == "load_failed" and bad.outcomes[0].exit_code == 3
        sim.load("a")
        sim.wait_for("a", "loaded")
        report = use(sim.url, lambda router: router.load("b"))
        assert report.ok and report.outcomes[0].evicted == ("a",)


@pytest.mark.parametrize("kind", ["reset-before", "reset-after"])
def test_broken_post_is_read_before_it_is_decided(use: Use, kind: str) -> None:
    """A POST that breaks is sent again only when the list shows that nothing came of it."""
    with simulate(models=(ModelSpec("a", status="loaded"),)) as sim:
        sim.set_fault(kind, path="/models/unload", times=1)
        report = use(sim.url, lambda router: router.unload("a"))

        assert report.ok and sim.state("a") == "unloaded"
        paths = [r.path for r in sim.request_log if r.path != "/models/sse"]
        first = paths.index("/models/unload")
        assert paths[first + 1] == "/models", "a look comes before anything else"
        assert len(sim.requests("POST")) <= 2


@pytest.mark.parametrize("kind", ["events-drop", "events-die", "events-silent"])
def test_event_stream_is_only_a_hint(use: Use, kind: str) -> None:
    """Whatever happens to the stream, the list ends the verb."""
    with simulate(models=(ModelSpec("a", status="loaded"), ModelSpec("b", status="loaded"))) as sim:
        sim.set_fault(kind, count=1)
        assert use(sim.url, lambda router: router.unload_all()).ok


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"kind": "hang"}, UnreachableError),
        ({"kind": "slow", "seconds": 3.0}, UnreachableError),
        ({"kind": "reset-before"}, UnreachableError),
        ({"kind": "cut"}, UnreachableError),
        ({"kind": "html"}, NotARouterError),
        ({"kind": "redirect"}, NotARouterError),
        ({"kind": "status", "code": 404}, NotARouterError),
        ({"kind": "status", "code": 503}, NotARouterError),
    ],
)
def test_bad_replies_have_a_next_step(use: Use, fault: dict[str, object], error: type[Exception]) -> None:
    """Each way of answering badly is an error of the right kind, in time, with a hint."""
    with simulate(models=1) as sim:
        sim.set_fault(path="/models", **fault)  # type: ignore[arg-type]  # the table's values fit the fields
        with pytest.raises(error) as caught:
            use(sim.url, lambda router: router.list_models(), timeouts=QUICK)

        assert getattr(caught.value, "hint", "")


VERBS = {
    "unload": lambda router: router.unload_all(timeout_s=0.4),
    "load": lambda router: router.load("model-01", timeout_s=0.4),
    "wait": lambda router: router.wait("model-01", state="loaded", timeout_s=0.4),
}


@pytest.mark.parametrize("verb", VERBS)
def test_router_that_hangs_does_not_outlast_the_verb(use: Use, verb: str) -> None:
    """A call under way when the time of a verb is up ends with it, however long a single call may take."""
    with simulate(models=1) as sim:
        sim.set_fault("hang", path="/models")
        started = monotonic()
        with pytest.raises(UnreachableError):
            use(sim.url, VERBS[verb])

        assert monotonic() - started < 5.0 < (Timeouts().read_s or 0.0)


def test_unload_that_is_not_answered_in_time(use: Use) -> None:
    """A router that takes an unload and never answers leaves a report, not an error, when the time is up."""
    with simulate(models=(ModelSpec("a", status="loaded"),)) as sim:
        sim.set_fault("hang", path="/models/unload")
        started = monotonic()
        report = use(sim.url, lambda router: router.unload("a", timeout_s=1.0))

        assert monotonic() - started < 5.0
        assert report.outcomes[0].outcome in ("unreachable", "not_seen_unloaded") and not report.ok


def test_huge_reply_is_read_or_refused(use: Use) -> None:
    """A reply of 300 MiB is refused, one of 1 MiB is read."""
    with simulate(models=1) as sim:
        sim.set_fault("huge", path="/models", size=1 << 20, times=1)
        assert len(use(sim.url, lambda router: router.list_models()).models) == 1
        sim.set_fault("huge", path="/models", size=300 << 20, times=1)
        with pytest.raises(NotARouterError, match="larger"):
            use(sim.url, lambda router: router.list_models())


def test_nobody_there_and_unknown_names(use: Use) -> None:
    """A closed port, an unknown host name and a missing socket are unreachable; an unknown model is its own error."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{probe.getsockname()[1]}"
    for url in (closed, "http://no-such-host.invalid:1", "unix:///nonexistent/socket"):
        with pytest.raises(UnreachableError) as caught:
            use(url, lambda router: router.list_models(), timeouts=QUICK)
        assert caught.value.hint
    with simulate(models=("qwen",)) as sim, pytest.raises(UnknownModelError):
        use(sim.url, lambda router: router.unload("quen"))


def test_single_model_server_is_told_apart(use: Use) -> None:
    """A llama-server with one model, and one that still loads, are no routers."""
    with simulate(single="m") as sim, pytest.raises(NotARouterError) as caught:
        use(sim.url, lambda router: router.list_models())
    assert caught.value.found == "single"
    with simulate(is_starting=True) as sim, pytest.raises(NotARouterError) as starting:
        use(sim.url, lambda router: router.list_models())
    assert starting.value.found == "starting"


@pytest.mark.parametrize("era", ["b9093", "b11434"])
def test_key_goes_only_to_llama_cpp(use: Use, era: str) -> None:
    """The first call carries no key; after llama-server has answered, every call does."""
    models = (ModelSpec("a", status="loaded"),)
    with simulate(models=models, api_keys=("sesame",), era=era) as sim:
        assert use(sim.url, lambda router: router.unload_all(), api_key="sesame").ok
        first, *others = sim.request_log
        assert "authorization" not in first.headers
        assert all(request.headers.get("authorization") == "Bearer sesame" for request in others)


def test_key_is_not_sent_elsewhere(use: Use) -> None:
    """A server that does not answer as llama.cpp never sees the key."""
    for fault in ("html", "redirect"):
        with simulate(models=1, api_keys=("sesame",)) as sim:
            sim.set_fault(fault)
            with pytest.raises(NotARouterError):
                use(sim.url, lambda router: router.list_models(), api_key="sesame")
            assert all("sesame" not in str(request.headers) for request in sim.request_log)


def test_stranger_that_wants_a_key() -> None:
    """A key that was given is not asked for again where it was withheld: the address is what is doubtful."""
    guard = KeyGuard("sesame")
    reply = Reply(401, {"server": "nginx"}, b"who are you?")
    guard.learn(reply)
    with pytest.raises(AuthError) as refused:
        list_models().read(reply)
    error = guard.explain(refused.value)

    assert guard.key is None
    assert "was not sent to it" in error.message and "Check the URL" in error.hint


def test_missing_and_wrong_key(use: Use) -> None:
    """No key and a wrong key are told apart, and the key is in neither message."""
    with simulate(models=1, api_keys=("sesame",)) as sim:
        with pytest.raises(AuthError, match="none was given"):
            use(sim.url, lambda router: router.list_models())
        with pytest.raises(AuthError, match="does not accept") as caught:
            use(sim.url, lambda router: router.list_models(), api_key="wrong-key")
        assert "wrong-key" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("key", ["a b", "line\nend", "ü"])
def test_key_that_no_header_carries(use: Use, key: str) -> None:
    """Such a key is refused at once, and not shown."""
    with pytest.raises(BadArgumentError) as caught:
        use("http://127.0.0.1:1", lambda router: router.list_models(), api_key=key)
    assert key not in caught.value.message


def test_path_prefix_and_unix_socket(use: Use, tmp_path: Path) -> None:
    """A router under an --api-prefix and one on a unix socket are reached."""
    with simulate(models=(ModelSpec("a", status="loaded"),), api_prefix="/llm") as sim:
        assert sim.url.endswith("/llm")
        assert use(sim.url + "/", lambda router: router.unload_all()).ok
    path = tmp_path / "router.sock"
    with simulate(models=(ModelSpec("a", status="loaded"),), unix_socket=str(path)):
        assert use(f"unix://{path}", lambda router: router.unload_all()).ok


def test_environment_proxy_is_not_used_for_loopback(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment does not come between Corral and this machine."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with simulate(models=2) as sim:
        assert len(use(sim.url, lambda router: router.list_models()).models) == 2


def test_environment_proxy_is_used_elsewhere(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    """For another host the environment's proxy is asked, unless NO_PROXY names the host."""
    with simulate(models=2) as sim:
        monkeypatch.setenv("http_proxy", sim.url)
        with pytest.raises(NotARouterError):
            # The simulator is no proxy: that it was asked at all, with the whole URL, is the point.
            use("http://router.invalid:8080", lambda router: router.list_models())
        assert "router.invalid" in str(sim.request_log[0])
        monkeypatch.setenv("no_proxy", "router.invalid")
        with pytest.raises(UnreachableError):
            use("http://router.invalid:8080", lambda router: router.list_models(), timeouts=QUICK)


def test_tls_with_an_authority_of_ones_own(use: Use, tmp_path: Path) -> None:
    """A certificate is checked: trusted with its authority's file, refused without, a bad file named."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with simulate(models=(ModelSpec("a", status="loaded"),), tls=context) as sim:
        url = f"https://localhost:{sim.port}"
        assert use(url, lambda router: router.unload_all(), ca_file=str(ca_file)).ok
        with pytest.raises(UnreachableError, match="not trusted") as caught:
            use(url, lambda router: router.list_models(), timeouts=QUICK)
        assert "--ca-file" in caught.value.hint
        with pytest.raises(BadArgumentError):
            use(url, lambda router: router.list_models(), ca_file=str(tmp_path / "missing.pem"))


def test_certificate_for_another_name(use: Use, tmp_path: Path) -> None:
    """A trusted certificate that is for another name is told as that: a --ca-file would not help."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("gpu-box.example").configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with simulate(models=1, tls=context) as sim:
        for host in ("localhost", "127.0.0.1"):
            with pytest.raises(UnreachableError, match="is for another name") as caught:
                use(f"https://{host}:{sim.port}", lambda r: r.list_models(), ca_file=str(ca_file), timeouts=QUICK)
            assert host in caught.value.message
            assert "--ca-file" not in caught.value.hint and "--url" in caught.value.hint


@pytest.mark.parametrize("answer", [None, b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_https_where_plain_http_is_spoken(use: Use, answer: bytes | None) -> None:
    """A server that does not take part in TLS, silently or not, brings the question whether it speaks plain http."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        if answer is not None:
            threading.Thread(target=_answer_all, args=(server, answer), daemon=True).start()
        with pytest.raises(UnreachableError) as caught:
            use(f"https://127.0.0.1:{server.getsockname()[1]}", lambda r: r.list_models(), timeouts=QUICK)
        # Closing alone would leave the other thread waiting for ever.
        server.shutdown(socket.SHUT_RDWR)

    assert "plain http://" in caught.value.hint


def test_ca_file_that_is_no_path(use: Use) -> None:
    """A path that the system cannot take is a bad argument that names the file."""
    with pytest.raises(BadArgumentError, match="CA file a"):
        use("https://127.0.0.1:9", lambda router: router.list_models(), ca_file="a\0b")


def _answer_all(server: socket.socket, answer: bytes) -> None:
    """Answer whoever connects, whatever is asked, until the server is closed."""
    try:
        while True:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)
    except OSError:
        # Closed: the test is over.
        return


def test_both_clients_have_the_same_verbs() -> None:
    """Every public method of one is on the other, with the same parameters."""
    renamed = {"aclose": "close"}
    blocking = {name: value for name, value in inspect.getmembers(Router) if not name.startswith("_")}
    awaited = {renamed.get(name, name): value for name, value in inspect.getmembers(AsyncRouter) if name[0] != "_"}

    # Only a blocking call can be interrupted half way: a task is cancelled at an await.
    assert blocking.keys() - {"writes", "break_off"} == awaited.keys()
    for name, method in blocking.items():
        if callable(method) and name in awaited and name != "open_stream":
            assert list(inspect.signature(method).parameters) == list(inspect.signature(awaited[name]).parameters), name


def test_restore_evicts_nobody(use: Use) -> None:
    """Models come back in order as far as there is room; the rest, and what is no model any more, are outcomes."""
    with simulate(models=("a", "b", "c", "x"), models_max=3) as sim:
        sim.load("x")
        sim.wait_for("x", "loaded")
        report = use(sim.url, lambda router: router.restore("c", "gone", "a", "b", timeout_s=20))
        assert "loaded" == sim.state("x")

    assert [("c", "loaded"), ("gone", "vanished"), ("a", "loaded"), ("b", "no_room")] == [
        (item.model, item.outcome) for item in report.outcomes
    ]
    assert not report.ok


def test_no_connection_is_left_over_tls(use: Use, tmp_path: Path) -> None:
    """A client that is closed holds no connection, even to a server that never says goodbye."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    accepted: list[socket.socket] = []
    body = b'{"data": []}'
    answer = b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    def serve() -> None:
        connection = context.wrap_socket(server.accept()[0], server_side=True)
        accepted.append(connection)
        connection.recv(65536)
        connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        thread = threading.Thread(target=serve)
        thread.start()
        listing = use(f"https://localhost:{port}", lambda r: r.list_models(), ca_file=str(ca_file), timeouts=QUICK)
        left = [found for found in gc.get_objects() if isinstance(found, socket.socket) and _is_open_to(found, port)]
        thread.join()
    for connection in accepted:
        connection.close()

    assert listing.models == () and left == []


def _is_open_to(found: socket.socket, port: int) -> bool:
    try:
        return found.fileno() >= 0 and found.getpeername()[1] == port
    except (OSError, IndexError):
        return False
