"""Raw HTTP for the contract suite: it must not depend on the code whose ground it checks."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

PLAIN = "plain"
QUOTED = 'we "quote" it\'s / here'
EMOJI = "emoji 🐎 ü:Q4"
BUSY = "busy"
BROKEN = "broken"
NAP = "nap"
ALIASES = ("al1", "al2")
LOST = b"proxy error: Failed to read connection"
DEADLINE_S = 30.0


@dataclass(frozen=True)
class Answer:
    """One answer, body read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """The message of the error envelope."""
        return str(self.json["error"]["message"])


class Server:
    """A running server under test."""

    def __init__(self, port: int, prefix: str = "") -> None:
        self.port, self.prefix = port, prefix

    def connect(self) -> http.client.HTTPConnection:
        """A fresh connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)

    def ask(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None, raw: bytes = b""
    ) -> Answer:
        """Send one request on a connection of its own; ``body`` goes as JSON, ``raw`` as it is."""
        data = raw if body is None else json.dumps(body).encode()
        connection = self.connect()
        try:
            connection.request(method, self.prefix + path, data or None, headers or {})
            reply = connection.getresponse()
            return Answer(reply.status, reply.headers, reply.read())
        finally:
            connection.close()

    def entries(self) -> dict[str, dict[str, Any]]:
        """The list, by id."""
        return {entry["id"]: entry for entry in self.ask("GET", "/models").json["data"]}

    def status(self, model: str) -> dict[str, Any]:
        """The model's status object."""
        found: dict[str, Any] = self.entries()[model]["status"]
        return found

    def value(self, model: str) -> str:
        """The model's status value."""
        return str(self.status(model)["value"])

    def port_of(self, model: str) -> int:
        """The child's port as listed."""
        args = self.status(model)["args"]
        return int(args[args.index("--port") + 1])

    def load(self, model: str) -> Answer:
        """Ask for a load."""
        return self.ask("POST", "/models/load", {"model": model})

    def unload(self, model: str) -> Answer:
        """Ask for an unload."""
        return self.ask("POST", "/models/unload", {"model": model})

    def bring_up(self, *models: str) -> None:
        """Load models and see them loaded."""
        for model in models:
            assert self.load(model).json == {"success": True}
            self.wait_for(model, "loaded")

    def wait_for(self, model: str, value: str) -> None:
        """Return when the model is listed with this value."""
        wait_until(lambda: self.value(model) == value, f"{model} {value}")

    def clear(self) -> None:
        """Unload whatever is resident: the state each test starts from."""

        def is_clear() -> bool:
            values = {model: entry["status"]["value"] for model, entry in self.entries().items()}
            for model, value in values.items():
                if value != "unloaded":
                    self.unload(model)
            return set(values.values()) == {"unloaded"}

        wait_until(is_clear, "all models unloaded")

    def metrics(self, model: str) -> tuple[int, int]:
        """Requests in a slot and waiting for one, as the model's child counts them."""
        lines = self.ask("GET", f"/metrics?model={model}&autoload=false").body.decode().splitlines()
        values = dict(line.split(" ") for line in lines if line.startswith("llamacpp:requests_"))
        return int(values["llamacpp:requests_processing"]), int(values["llamacpp:requests_deferred"])

    def chat(self, model: str, tokens: int = 2, query: str = "") -> Answer:
        """Ask for an answer of so many tokens."""
        return self.ask("POST", f"/v1/chat/completions{query}", _build_chat(model, tokens, stream=False))


class Stream:
    """A streamed answer, read in a thread."""

    def __init__(self, server: Server, model: str, tokens: int) -> None:
        self.body = b""
        self.status = 0
        self._connection = server.connect()
        body = json.dumps(_build_chat(model, tokens, stream=True))
        self._connection.request("POST", server.prefix + "/v1/chat/completions", body)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait_for_tokens(self) -> None:
        """Return when the first tokens have come."""
        wait_until(lambda: self.body.count(b"data: ") > 3, "tokens in the stream")

    def finish(self) -> bytes:
        """The whole body, once it has ended."""
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        self._connection.close()
        return self.body

    def _read(self) -> None:
        reply = self._connection.getresponse()
        self.status = reply.status
        while data := reply.read1(65536):
            self.body += data


class Events:
    """The event stream, read in a thread; it is open when the constructor returns."""

    def __init__(self, server: Server) -> None:
        self.raw = b""
        self._connection = server.connect()
        self._connection.request("GET", server.prefix + "/models/sse")
        self._socket: socket.socket = self._connection.sock
        self._reply = self._connection.getresponse()
        self.headers = self._reply.headers
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def frames(self) -> list[bytes]:
        """The frames that have come whole."""
        return self.raw.split(b"\n\n")[:-1]

    def of(self, model: str) -> list[dict[str, Any]]:
        """The events about one model so far."""
        events = [json.loads(frame.removeprefix(b"data: ")) for frame in self.frames]
        return [event for event in events if event["model"] == model]

    def wait_for(self, model: str, status: str) -> None:
        """Return when this status of this model was told."""
        wait_until(lambda: status in [event["data"]["status"] for event in self.of(model)], f"event {model} {status}")

    def close(self) -> None:
        """Leave; the thread ends with the connection."""
        # A shutdown wakes the thread that reads; a close from here would wait for it.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(DEADLINE_S)
        self._reply.close()
        self._connection.close()

    def _read(self) -> None:
        try:
            while data := self._reply.read1(65536):
                self.raw += data
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            return


@contextmanager
def follow(server: Server) -> Iterator[Events]:
    """Follow the event stream for a while."""
    events = Events(server)
    try:
        yield events
    finally:
        events.close()


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Return when ``is_so`` says so; fails after a deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline, f"not seen in {DEADLINE_S:g} s: {what}"
        time.sleep(0.002)


def _build_chat(model: str, tokens: int, *, stream: bool) -> dict[str, object]:
    messages = [{"role": "user", "content": "hi"}]
    return {"model": model, "messages": messages, "max_tokens": tokens, "stream": stream}
