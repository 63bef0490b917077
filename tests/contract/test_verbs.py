"""Load and unload: that they are asynchronous, what they refuse, and what becomes of requests in flight."""

from __future__ import annotations

import time

import pytest

from tests.contract.eras import EXPECTED
from tests.contract.kit import ALIASES, BROKEN, BUSY, EMOJI, LOST, PLAIN, QUOTED, Server, Stream, wait_until


def test_load_is_asynchronous(router: Server) -> None:
    """A load is confirmed while the model is still loading."""
    assert router.load(BUSY).json == {"success": True}
    assert router.value(BUSY) == "loading"
    router.wait_for(BUSY, "loaded")


def test_unload_is_confirmed_before_it_is_done(router: Server) -> None:
    """An unload is confirmed with ``success`` and then ends as ``unloaded``, without a failure."""
    router.bring_up(PLAIN)
    assert router.unload(PLAIN).json == {"success": True}
    router.wait_for(PLAIN, "unloaded")
    if EXPECTED.never_run_exit_code is None:
        assert "failed" not in router.status(PLAIN)


@pytest.mark.parametrize("model", [QUOTED, EMOJI])
def test_odd_ids(router: Server, model: str) -> None:
    """Ids with quotes, slash, spaces and non-ASCII load and unload."""
    router.bring_up(model)
    assert router.unload(model).json == {"success": True}
    router.wait_for(model, "unloaded")


def test_alias_is_accepted(router: Server) -> None:
    """Load and unload accept an alias."""
    assert router.load(ALIASES[1]).json == {"success": True}
    router.wait_for(QUOTED, "loaded")
    assert router.unload(ALIASES[0]).json == {"success": True}
    router.wait_for(QUOTED, "unloaded")


def test_each_child_has_a_new_port(router: Server) -> None:
    """The listed port changes with each child, and stays when the child is gone."""
    router.bring_up(PLAIN)
    first = router.port_of(PLAIN)
    router.unload(PLAIN)
    router.wait_for(PLAIN, "unloaded")
    assert router.port_of(PLAIN) == first
    router.bring_up(PLAIN)
    assert router.port_of(PLAIN) not in (0, first)


@pytest.mark.parametrize("body", [{"model": "no such"}, {}, {"model": ""}, {"model": 5}, {"model": None}, []])
def test_unknown_model(router: Server, body: object) -> None:
    """Unload refuses an unknown or missing model with 400; a load's 404 arrives as the general error page."""
    unload = router.ask("POST", "/models/unload", body)
    assert unload.status == 400
    assert unload.json["error"] == {"code": 400, "message": "model is not found", "type": "invalid_request_error"}
    load = router.ask("POST", "/models/load", body)
    assert load.status == 404
    assert load.json["error"] == {"message": "File Not Found", "type": "not_found_error", "code": 404}


@pytest.mark.parametrize("verb", ["load", "unload"])
@pytest.mark.parametrize("raw", [b"", b"{bad", b'{"model":'])
def test_invalid_json(router: Server, verb: str, raw: bytes) -> None:
    """What is no JSON is refused with an error envelope."""
    answer = router.ask("POST", f"/models/{verb}", raw=raw)
    assert answer.status == EXPECTED.invalid_json_status
    assert answer.json["error"]["code"] == EXPECTED.invalid_json_status
    assert "parse error" in answer.message


def test_unload_of_an_unloaded_model(router: Server) -> None:
    """An unload of what is not there is refused with the router's own words."""
    answer = router.unload(PLAIN)
    assert (answer.status, answer.message) == (400, "model is not running")


def test_load_of_a_resident_model(router: Server) -> None:
    """A load is refused when the model is loading or loaded already."""
    router.load(BUSY)
    answer = router.load(BUSY)
    assert (answer.status, answer.message) == (400, "model is already running")
    router.wait_for(BUSY, "loaded")
    assert router.load(BUSY).status == 400


def fail_to_load(router: Server) -> None:
    """Load what cannot be loaded, and see it fail; again where the build has overlooked the child's end."""
    while True:
        assert router.load(BROKEN).json == {"success": True}
        if EXPECTED.notices_quick_failures:
            router.wait_for(BROKEN, "unloaded")
            return
        deadline = time.monotonic() + 2
        while router.value(BROKEN) != "unloaded" and time.monotonic() < deadline:
            time.sleep(0.02)
        if router.value(BROKEN) == "unloaded":
            return
        assert router.unload(BROKEN).json == {"success": True}
        router.wait_for(BROKEN, "unloaded")


def test_failed_load(router: Server) -> None:
    """A load that fails is confirmed first, and then listed as failed with the exit code; a request gets a 500."""
    fail_to_load(router)
    status = router.status(BROKEN)
    assert (status["failed"], status["exit_code"]) == (True, 1)
    if EXPECTED.notices_quick_failures:
        # Else the request may wait for ever, as the load does.
        answer = router.chat(BROKEN)
        assert (answer.status, answer.message) == (500, "model name=broken failed to load")


def test_unload_while_loading_kills(router: Server) -> None:
    """An unload of a loading model kills it at once, which is listed like a crash."""
    router.load(BUSY)
    assert router.unload(BUSY).json == {"success": True}
    router.wait_for(BUSY, "unloaded")
    status = router.status(BUSY)
    assert (status["failed"], status["exit_code"]) == (True, 1)


SLOTS = f"/slots?model={BUSY}&autoload=false"


def keep_busy(router: Server) -> list[Stream]:
    """Three streams on two slots: with one that waits for a slot, a stop always takes the whole stop-timeout.

    With a single stream the child may also end at once, by chance, on every build measured.
    """
    router.bring_up(BUSY)
    streams = [Stream(router, BUSY, 900) for _ in range(3)]
    if EXPECTED.counts_reliably:
        wait_until(lambda: router.metrics(BUSY) == (2, 1), "two streams in slots and one that waits")
    else:
        wait_until(lambda: sum(bool(stream.body) for stream in streams) == 2, "two streams in slots")
    return streams


def test_unload_of_a_busy_model_cuts_its_stream(router: Server) -> None:
    """With requests in flight the model stays loaded for its stop-timeout, then is killed, and streams are cut."""
    streams = keep_busy(router)
    started = time.monotonic()
    assert router.unload(BUSY).json == {"success": True}
    assert router.value(BUSY) == "loaded"
    assert router.unload(BUSY).json == {"success": True}
    router.wait_for(BUSY, "unloaded")
    assert 0.8 < time.monotonic() - started < 3
    status = router.status(BUSY)
    assert (status["failed"], status["exit_code"]) == (True, 1)
    bodies = [stream.finish() for stream in streams]
    assert sorted(stream.status for stream in streams)[:2] == [200, 200]
    assert all(body.endswith(LOST) for body in bodies)
    assert not any(b"[DONE]" in body for body in bodies)


def test_single_stream_is_cut_too(router: Server) -> None:
    """A single stream is cut all the same, whether its child ends at once or at the stop-timeout."""
    router.bring_up(BUSY)
    stream = Stream(router, BUSY, 900)
    stream.wait_for_tokens()
    router.unload(BUSY)
    router.wait_for(BUSY, "unloaded")
    body = stream.finish()
    assert stream.status == 200 and body.endswith(LOST) and b"[DONE]" not in body


def test_slots_of_a_stopping_model(router: Server) -> None:
    """A child that stops takes no connection, or answers none: without autoload that is a 500 in plain text."""
    streams = keep_busy(router)
    router.unload(BUSY)
    answer = router.ask("GET", SLOTS)
    while answer.status == 200:
        # The child has not read yet that it is to end; the stop-timeout bounds this.
        answer = router.ask("GET", SLOTS)
    assert answer.status == 500
    assert answer.body in (b"proxy error: Could not establish connection", LOST)
    router.wait_for(BUSY, "unloaded")
    for stream in streams:
        stream.finish()


def test_request_during_a_stop(router: Server) -> None:
    """A request for a stopping model waits and brings it back, where the build queues it."""
    streams = keep_busy(router)
    port = router.port_of(BUSY)
    router.unload(BUSY)
    answer = router.chat(BUSY)
    for stream in streams:
        stream.finish()
    if EXPECTED.reloads_stopping:
        assert answer.status == 200
        assert router.value(BUSY) == "loaded"
        assert router.port_of(BUSY) != port
    else:
        assert answer.status == 500


def test_refusals_of_download_and_removal(router: Server) -> None:
    """A download needs a repository's name, and only models of the cache can be removed."""
    if not EXPECTED.has_events:
        assert router.ask("DELETE", "/models?model=plain").status == 404
        return
    assert router.ask("POST", "/models", {}).message == "model must be a non-empty string"
    assert router.ask("POST", "/models", {"model": "plain"}).status == 400
    assert router.ask("DELETE", "/models").message == "model must be a non-empty string"
    answer = router.ask("DELETE", "/models?model=plain")
    assert (answer.status, answer.message) == (500, "model name=plain is not removable (not from cache)")
