"""``corral events`` and what is shown of events while a load is under way."""

from __future__ import annotations

import fcntl
import json
import os
import re
import struct
import subprocess
import termios
from collections.abc import Callable

import pytest

from tests.faces.kit import Answer, RawRouter, Result, reply

Cli = Callable[..., Result]
Serve = Callable[[Answer], str]
Spawn = Callable[..., "subprocess.Popen[str]"]

HEAD = b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Type: text/event-stream\r\n"


def make_event(model: str, kind: str, **data: object) -> bytes:
    """One event as it is on the wire."""
    return b"data: " + json.dumps({"model": model, "event": kind, "data": data}).encode() + b"\n\n"


LOADING = make_event("alpha", "status_change", status="loading", progress={"current": "text_model", "value": 0.45})
GONE = make_event("alpha", "status_change", status="unloaded", exit_code=1)
ALL = make_event("*", "models_reload")
ODD = make_event("esc\x1b[31m\n", "\x07new", whatever=[1])


class StreamingRouter(RawRouter):
    """A raw router with an event stream: each connection gets the next batch of bytes."""

    def __init__(self, *batches: bytes) -> None:
        super().__init__({"alpha": "loaded"})
        self.batches = list(batches)

    def __call__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> bytes | None:
        """Answer one request."""
        if path != "/models/sse":
            return super().__call__(method, path, headers, body)
        return self.batches.pop(0) if self.batches else HEAD + b"\r\n"


def test_events_in_words(cli: Cli, serve: Serve) -> None:
    """A line an event: the time, the model and what happened, safe to print."""
    url = serve(StreamingRouter(HEAD + b"\r\n" + LOADING + GONE + ALL + ODD))
    result = cli("events", "--count", "4", "--url", url)
    lines = [line.split(maxsplit=1) for line in result.out.splitlines()]

    assert 0 == result.code
    assert all(len(line[0]) == len("12:00:00") for line in lines)
    assert [
        "alpha  loading  text_model 45 %",
        "alpha  unloaded  (exit 1)",
        "(all models)  models_reload",
        r"$'esc\e[31m\n'  \x07new",
    ] == [line[1] for line in lines]
    assert result.err.startswith(f"Listening to {url}.")


def test_events_as_ndjson(cli: Cli, serve: Serve) -> None:
    """With --json each line is a document that carries the router's own event through."""
    url = serve(StreamingRouter(HEAD + b"\r\n" + LOADING + ODD))
    documents = [json.loads(line) for line in cli("events", "--json", "--count=2", "--url", url).out.splitlines()]

    assert [1, 1] == [document["schema_version"] for document in documents]
    assert ("alpha", "loading", "text_model", 0.45) == tuple(
        documents[0][key] for key in ("model", "status", "stage", "progress")
    )
    assert {"whatever": [1]} == documents[1]["raw"]["data"]


def test_stream_that_breaks_is_opened_again(cli: Cli, serve: Serve) -> None:
    """A broken stream is told once, opened again, and what came in between is said not to be known."""
    broken = HEAD + b"Connection: close\r\n\r\n" + LOADING
    url = serve(StreamingRouter(broken, HEAD + b"\r\n" + GONE))
    result = cli("events", "--count", "2", "--url", url)

    assert (0, 2) == (result.code, len(result.out.splitlines()))
    assert ["Listening", "The event stream broke", "The stream is back"] == [
        start
        for line in result.err.splitlines()
        for start in ("Listening", "The event stream broke", "The stream is back")
        if line.startswith(start)
    ]


def test_time_ends_a_silent_stream(cli: Cli, serve: Serve) -> None:
    """--timeout is how long to listen; silence until then is no error."""
    assert (0, "") == cli("events", "--timeout", "500ms", "--url", serve(StreamingRouter()))[:2]


def test_each_event_is_handed_on_at_once(spawn: Spawn, serve: Serve) -> None:
    """An event reaches a pipe when it happens, not when a buffer is full; a reader that leaves ends the command."""
    process = spawn("events", "--url", serve(StreamingRouter(HEAD + b"\r\n" + LOADING)))
    assert process.stdout is not None

    assert "alpha  loading" in process.stdout.readline()
    assert process.poll() is None


def test_progress_is_shown_on_a_terminal_alone(spawn: Spawn, serve: Serve) -> None:
    """A load's progress is a line that is wiped before the next output, and only on a terminal."""
    shown = {}
    for terminal in (True, False):
        router = StreamingRouter()
        router.models = {"alpha": "unloaded"}

        def load(verb: str, model: str, router: StreamingRouter = router) -> bytes:
            router.models["alpha"] = "loading"
            router.ports["alpha"] += 1
            return reply(200, {"success": True})

        router.on_post = load
        reader, writer = os.openpty() if terminal else os.pipe()
        process = spawn("load", "alpha", "--url", serve(router), "--timeout", "1s", stderr=writer)
        os.close(writer)
        process.wait(20)
        shown[terminal] = read_all(reader)

    assert re.search(r"waiting for alpha \(loading\); [01] s left\r\x1b\[K", shown[True])
    assert "\x1b" not in shown[False]
    assert "Loading alpha" in shown[True]
    assert "Loading alpha" in shown[False]


def test_progress_fits_on_one_row_of_the_terminal(spawn: Spawn, serve: Serve) -> None:
    """A status line of wide characters is cut by columns: one that wraps could not be wiped."""
    name = "日本🦙" * 20
    router = RawRouter({name: "loading"})
    reader, writer = os.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    process = spawn("wait", name, "--for", "loaded", "--url", serve(router), "--timeout", "1s", stderr=writer)
    os.close(writer)
    process.wait(20)
    wiped = [part.rpartition("\n")[2] for part in read_all(reader).split("\r\x1b[K")[:-1]]

    assert wiped
    assert all("日本🦙" in line and sum(1 + (char in "日本🦙") for char in line) < 40 for line in wiped), wiped


def read_all(descriptor: int) -> str:
    """Everything that was written until the last writer left."""
    pieces = []
    try:
        while piece := os.read(descriptor, 65536):
            pieces.append(piece)
    except OSError:
        # How Linux says that a terminal's last writer left.
        pass
    finally:
        os.close(descriptor)
    return b"".join(pieces).decode()


@pytest.mark.parametrize("status", [500, 503])
def test_stream_that_is_refused_is_an_error(cli: Cli, serve: Serve, status: int) -> None:
    """A stream that the router refuses for another reason is told in the router's words."""
    refused = reply(status, {"error": {"code": status, "message": "not today", "type": "server_error"}})
    result = cli("events", "--url", serve(StreamingRouter(*[refused] * 9)), "--timeout", "5s")

    assert 1 == result.code
    assert "not today" in result.err
