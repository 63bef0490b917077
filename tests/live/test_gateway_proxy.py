"""The gateway in front of the real router: nothing that a client can see differs from the bare one."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import openai
import pytest

from corral import Router
from corral.sim.launch import RealRouter
from tests.gateway.kit import RunningGateway, connect, post, serving, wait_until
from tests.live.conftest import chat
from tests.support.live import QUOTED

pytestmark = pytest.mark.live

JSON = {"Content-Type": "application/json"}
LONG = {"model": "busy", "max_tokens": 1500, "stream": True, "messages": [{"role": "user", "content": "hi"}]}


class Seen(NamedTuple):
    """What a client sees of an answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def ask(url: str, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Seen:
    """One request on a connection of its own."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port or 0, timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        return Seen(reply.status, reply.getheaders(), reply.read())
    finally:
        connection.close()


@pytest.fixture
def gateway(live_router: RealRouter) -> Iterator[RunningGateway]:
    """A gateway in front of the session's router."""
    with serving(live_router.url) as running:
        yield running


@pytest.fixture(scope="module")
def steady(llama_server_binary: str, live_presets: Mapping[str, Mapping[str, str]]) -> Iterator[RealRouter]:
    """A router for what leaves none behind in another state."""
    with RealRouter(llama_server_binary, live_presets, context=4096) as router:
        yield router


@pytest.fixture(scope="module")
def front(steady: RealRouter) -> Iterator[RunningGateway]:
    """A gateway in front of the steady router."""
    with serving(steady.url) as running:
        yield running


def strip(seen: Seen) -> Seen:
    """Without what is of one connection, or of one moment."""
    own = ("connection", "keep-alive", "transfer-encoding", "corral-gateway")
    return seen._replace(headers=[pair for pair in seen.headers if pair[0].lower() not in own])


FORM = (
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nplain\r\n--b\r\n'
    b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    b"RIFF\0\xff\r\n--b--\r\n"
)
SAME: dict[str, tuple[str, str, Any, dict[str, str]]] = {
    "tokenize": ("POST", "/tokenize", {"model": "plain", "content": "a brown cow ü🐎"}, JSON),
    "detokenize": ("POST", "/detokenize", {"model": "plain", "tokens": [100, 101]}, JSON),
    "odd id": ("POST", "/tokenize", {"model": QUOTED, "content": "x"}, JSON),
    "template": ("POST", "/apply-template", {"model": "plain", "messages": [{"role": "user", "content": "x"}]}, JSON),
    "embeddings": ("POST", "/v1/embeddings", {"model": "plain", "input": "x"}, JSON),
    "rerank": ("POST", "/v1/rerank", {"model": "plain", "query": "x", "documents": ["y"]}, JSON),
    "infill": ("POST", "/infill", {"model": "plain", "input_prefix": "x", "input_suffix": "y"}, JSON),
    "transcription": ("POST", "/v1/audio/transcriptions", FORM, {"Content-Type": "multipart/form-data; boundary=b"}),
    "unknown model": ("POST", "/v1/chat/completions", {"model": "nobody", "messages": []}, JSON),
    "no model": ("POST", "/v1/chat/completions", {"messages": []}, JSON),
    "no JSON": ("POST", "/v1/chat/completions", b"{", JSON),
    "empty": ("POST", "/v1/chat/completions", b"", JSON),
    "unloaded, not to be loaded": ("POST", "/v1/completions?autoload=false", {"model": "busy", "prompt": "x"}, JSON),
    "props": ("GET", "/props", None, {}),
    "props of a model": ("GET", "/props?model=plain&autoload=false", None, {}),
    "slots without a model": ("GET", "/slots", None, {}),
    "health": ("GET", "/health", None, {}),
    "head": ("HEAD", "/health", None, {}),
    "preflight": ("OPTIONS", "/v1/chat/completions", None, {"Origin": "https://app.example"}),
    "reflected origin": ("GET", "/health", None, {"Origin": "https://app.example"}),
    "not found": ("GET", "/nothing/there?x=%2f", None, {}),
    "double slash": ("GET", "//v1/models", None, {}),
    "wrong method": ("PUT", "/v1/models", b"x", {}),
    "stop of a conversation": ("DELETE", "/v1/stream?conv_id=c", None, {}),
    "unknown conversation": ("GET", "/v1/stream?conv_id=c", None, {}),
    "conversations": ("POST", "/v1/streams/lookup", {"conversation_ids": ["c"]}, JSON),
}


@pytest.mark.parametrize("case", SAME)
def test_answers_are_the_routers(steady: RealRouter, front: RunningGateway, case: str) -> None:
    """Status, headers and body are those of the bare router, in a row on the same models."""
    method, path, body, headers = SAME[case]
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    if path.startswith(("/detok", "/tok", "/app", "/v1/emb", "/v1/rer", "/infill", "/v1/audio", "/props?")):
        # The first request loads it; what they answer afterwards is compared.
        model = body["model"] if isinstance(body, dict) else "plain"
        with Router(steady.url) as router:
            assert router.load(model).ok
    direct = ask(steady.url, method, path, data, headers)
    through = ask(front.url, method, path, data, headers)

    assert strip(direct) == strip(through)


def test_list_is_the_routers(steady: RealRouter, front: RunningGateway) -> None:
    """Open WebUI's list, and that of its dialog, have every field of the router's."""
    for path in ("/v1/models", "/models"):
        lists = [json.loads(ask(url, "GET", path).body) for url in (steady.url, front.url)]
        for entry in lists[0]["data"] + lists[1]["data"]:
            # The time of the request.
            del entry["created"]
        assert lists[0] == lists[1]


def test_answer_of_a_model(steady: RealRouter, front: RunningGateway) -> None:
    """The same question with the same seed has the same answer, whole and piece by piece."""
    body = {"model": "plain", "max_tokens": 30, "temperature": 0, "seed": 1, "cache_prompt": False}
    body["messages"] = [{"role": "user", "content": "a brown cow"}]
    texts = []
    for url in (steady.url, front.url, front.url):
        reply = ask(url, "POST", "/v1/chat/completions", json.dumps(body).encode(), JSON)
        texts.append(json.loads(reply.body)["choices"][0]["message"]["content"])
        reply = ask(url, "POST", "/v1/chat/completions", json.dumps(body | {"stream": True}).encode(), JSON)
        texts.append(read_stream(reply.body))

    assert 1 == len(set(texts)) and texts[0]


def read_stream(body: bytes) -> str:
    """The text of a streamed answer that is whole."""
    assert body.endswith(b"data: [DONE]\n\n")
    frames = [json.loads(line[6:]) for line in body.split(b"\n\n") if line.startswith(b"data: {")]
    return "".join(frame["choices"][0]["delta"].get("content") or "" for frame in frames if frame["choices"])


def test_large_upload_passes(front: RunningGateway) -> None:
    """A body of more than a megabyte, whose model is read beside the loop, arrives whole."""
    body = json.dumps({"content": "a brown cow " * 120_000, "model": "plain"}).encode()
    seen = ask(front.url, "POST", "/tokenize", body, JSON)

    assert 200 == seen.status
    assert len(json.loads(seen.body)["tokens"]) > 500_000
    assert front.look(lambda: front.lane.visits.last_ended_at("plain")) is not None


def test_web_page_of_the_router(start_router: Callable[..., RealRouter], tmp_path: Path) -> None:
    """The router's own page and its files pass, with their types."""
    (tmp_path / "index.html").write_text("<!DOCTYPE html><title>llama</title>")
    (tmp_path / "app.js").write_text("let x = 1" * 20_000)
    router = start_router(extra_args=("--webui", "--path", str(tmp_path)))
    with serving(router.url) as gateway:
        for path in ("/", "/app.js", "/missing.js"):
            assert strip(ask(router.url, "GET", path)) == strip(ask(gateway.url, "GET", path))


@pytest.mark.since(9661, "older builds have no events")
def test_event_stream_passes_at_once(live_router: RealRouter, gateway: RunningGateway) -> None:
    """What the router says about its models comes through as it is said."""
    with connect(gateway.port) as sock:
        sock.sendall(b"GET /models/sse HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"text/event-stream" in sock.recv(65536)
        with Router(live_router.url) as router:
            router.load("plain", wait=False)
        assert b'"plain"' in sock.recv(65536)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_official_client(front: RunningGateway, asynchronous: bool) -> None:
    """OpenAI's own Python client works unchanged: list, answer, stream, embeddings refused, unknown model."""
    if asynchronous:
        import asyncio

        asyncio.run(use_async_client(f"{front.url}/v1"))
        return
    question: Any = {"model": "plain", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key="none") as client:
        assert "plain" in [model.id for model in client.models.list()]
        whole = client.chat.completions.create(**question)
        assert "length" == whole.choices[0].finish_reason and whole.choices[0].message.content
        pieces = list(client.chat.completions.create(**question, stream=True))
        assert "length" == pieces[-1].choices[0].finish_reason
        assert 5 == sum(bool(piece.choices[0].delta.content) for piece in pieces)
        with pytest.raises(openai.BadRequestError, match="not found"):
            client.chat.completions.create(**question | {"model": "nobody"})


async def use_async_client(url: str) -> None:
    """The same with the async client."""
    question: Any = {"model": "plain", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
        whole = await client.chat.completions.create(**question)
        assert whole.choices[0].message.content
        stream = await client.chat.completions.create(**question, stream=True)
        pieces = [piece async for piece in stream]
        assert 5 == sum(bool(piece.choices[0].delta.content) for piece in pieces)


def test_official_client_hears_that_the_router_is_gone() -> None:
    """With the router away OpenAI's client raises the error of its kind, with our words in it."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with (
        serving(url) as gateway,
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client,
        pytest.raises(openai.InternalServerError, match="cannot be reached"),
    ):
        client.chat.completions.create(model="a", messages=[])


def test_client_that_leaves_frees_its_slot(live_router: RealRouter, gateway: RunningGateway) -> None:
    """The child stops making tokens for a client that left: its slots are free, soon after."""
    sock = connect(gateway.port)
    sock.sendall(post("/v1/chat/completions", json.dumps(LONG).encode(), "Content-Type: application/json"))
    while b"data:" not in sock.recv(65536):
        pass
    assert 1 == gateway.in_flight("busy")
    sock.close()

    wait_until(lambda: gateway.in_flight("busy") == 0)
    wait_until(lambda: not busy_slots(live_router.url))


def busy_slots(url: str) -> int:
    """How many slots of the busy model work."""
    return sum(slot["is_processing"] for slot in json.loads(ask(url, "GET", "/slots?model=busy").body))


def test_client_that_leaves_while_its_model_loads(live_router: RealRouter, gateway: RunningGateway) -> None:
    """Nothing is in flight any more, and the router answers others."""
    sock = connect(gateway.port)
    sock.sendall(post("/v1/chat/completions", json.dumps(LONG).encode()))
    wait_until(lambda: gateway.in_flight("busy") == 1)
    sock.close()

    wait_until(lambda: gateway.in_flight("busy") == 0)
    assert chat(gateway.url, "plain", 2)


@pytest.mark.since(11434, "older builds have no conversations")
def test_conversation_is_in_flight_until_the_router_ends_it(live_router: RealRouter, gateway: RunningGateway) -> None:
    """An answer that goes on without its client counts as in flight just as long as the router says it goes on."""
    body = json.dumps(LONG | {"max_tokens": 300}).encode()
    sock = connect(gateway.port)
    sock.sendall(post("/v1/chat/completions", body, "X-Conversation-Id: c1"))
    while b"data:" not in sock.recv(65536):
        pass
    sock.close()
    is_over = False
    while not is_over:
        # Looked at first: what is over for the gateway is over for the router.
        is_over = gateway.in_flight("busy") == 0
        found = json.loads(ask(gateway.url, "POST", "/v1/streams/lookup", b'{"conversation_ids":["c1"]}', JSON).body)
        assert not is_over or found[0]["is_done"]
        if found[0]["is_done"]:
            wait_until(lambda: gateway.in_flight("busy") == 0)
        time.sleep(0.01)
    replay = ask(gateway.url, "GET", "/v1/stream?conv_id=c1")

    assert replay.body.endswith(b"data: [DONE]\n\n")


def test_router_restarts_behind_the_gateway(live_router: RealRouter, gateway: RunningGateway) -> None:
    """Killed and started again, the router is used again without anything done to the gateway."""
    assert chat(gateway.url, "plain", 2)
    live_router.stop()
    assert 503 == ask(gateway.url, "GET", "/v1/models").status
    live_router.start()

    assert chat(gateway.url, "plain", 2)


def test_unix_sockets_on_both_sides(start_router: Callable[..., RealRouter], tmp_path: Path) -> None:
    """The router may be behind a socket, and the gateway too."""
    from corral.client.target import parse_url

    router = start_router(unix_socket=str(tmp_path / "r.sock"))
    with serving(router.url, address=parse_url(f"unix://{tmp_path}/g.sock")) as gateway, Router(gateway.url) as client:
        assert client.load("plain").ok
        assert ["plain"] == [model.id for model in client.residents()]
