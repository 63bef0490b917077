"""Corral's own API: held to its OpenAPI document, closed to whoever has no token, and clear about what is wrong."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from corral.client.target import parse_url
from corral.gateway.endpoints import ENDPOINTS
from corral.gateway.settings import Limits
from corral.sim.config import ModelSpec
from corral.sim.control import simulate
from tests.gateway.house import TOKEN, House, housed, run

PAIR = (ModelSpec("alpha", aliases=("al",), status="loaded"), ModelSpec("beta"))
CALLS: tuple[tuple[str, str, Any], ...] = (
    ("POST", "hold", {"models": "beta", "duration_s": 600, "reason": "why", "unload": True, "user": "anna"}),
    ("POST", "pin", {"models": ["al"]}),
    ("POST", "sets", {"name": "evening"}),
    ("POST", "load", {"models": ["alpha"]}),
    ("GET", "residents", None),
    ("GET", "residents?memory=1", None),
    ("GET", "holds", None),
    ("GET", "pins", None),
    ("GET", "sets", None),
    ("POST", "unload", {"all": True, "grace_s": 1, "include_pinned": True}),
    ("POST", "drain", {"models": "alpha"}),
    ("POST", "drain", {"models": "alpha", "cancel": True}),
    ("POST", "release", {"all": True}),
    ("POST", "release", {"models": "beta"}),
    ("POST", "unpin", {"models": ["alpha"]}),
    ("DELETE", "sets", {"name": "evening"}),
    ("GET", "log?limit=3", None),
    ("GET", "openapi.json", None),
)
"""One after another: each finds what those before it left."""


def check(value: Any, schema: dict[str, Any], where: str) -> None:
    """Whether a value is what a schema says, as far as our schemas say anything."""
    kinds: dict[str, Any] = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "integer": int,
        "number": (int, float),
    }
    if "type" in schema:
        assert isinstance(value, kinds[schema["type"]]), f"{where}: {value!r} is no {schema['type']}"
    for name in schema.get("required", ()):
        assert name in value, f"{where} lacks {name}"
    for name, part in schema.get("properties", {}).items():
        if name in value:
            check(value[name], part, f"{where}.{name}")
    if "items" in schema:
        for item in value:
            check(item, schema["items"], f"{where}[]")


def test_every_answer_is_as_described(tmp_path: Path) -> None:
    """Every endpoint is in the OpenAPI document, and answers what that says."""

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path) as house:
                document = await house.own("GET", "openapi.json")
                asked = set()
                for method, name, body in CALLS:
                    path = f"/corral/v1/{name.partition('?')[0]}"
                    operation = document["paths"][path][method.lower()]
                    if body is not None:
                        taken = operation["requestBody"]["content"]["application/json"]["schema"]
                        check(body, taken, f"what {path} takes")
                        assert set(body) <= set(taken["properties"])
                        assert {"user", "host"} <= set(taken["properties"]) and not taken["additionalProperties"]
                    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
                    check(await house.own(method, name, body), schema, f"{method} {path}")
                    asked.add((method, path))
                described = {(m.upper(), path) for path, methods in document["paths"].items() for m in methods}
                assert described == {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}
                assert described - asked == {("GET", "/corral/v1/events")}, "which has a test of its own"
                assert document["openapi"].startswith("3.")

    run(work())


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: f"{endpoint.method} {endpoint.path}")
def test_token_is_needed(tmp_path: Path, endpoint: Any) -> None:
    """Without the token, or with a wrong one, nothing of Corral's own API answers, and nothing is done."""

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path) as house:
                body = None if endpoint.method == "GET" else {"all": True, "models": ["alpha"], "duration_s": 60}
                for headers in ({}, {"Corral_Token": "x" * 40}, {"Authorization": "Bearer no"}):
                    reply = await house.ask(endpoint.method, endpoint.path, body, **headers)
                    assert (reply.status, reply.error["reason"]) == (401, "token_needed")
                foreign = {"Corral_Token": TOKEN, "Origin": "http://evil.example"}
                assert (await house.ask(endpoint.method, endpoint.path, body, **foreign)).status == 403
                assert sim.state("alpha") == "loaded" and not house.door.holds and not house.door.pinned

    run(work())


@pytest.mark.parametrize(
    ("name", "body", "status", "word"),
    [
        ("hold", {"models": "alpha"}, 400, "duration_s"),
        ("hold", {"models": "alpha", "duration_s": "long"}, 400, "duration_s"),
        ("hold", {"models": "alpha", "duration_s": -1}, 400, "duration_s"),
        ("hold", {"models": "alpha", "all": True, "duration_s": 5}, 400, "--all"),
        ("hold", {"duration_s": 5}, 400, "No model"),
        ("hold", {"models": "alpha", "duration_s": 5, "reason": "x" * 1001}, 400, "reason"),
        ("hold", {"models": "nobody", "duration_s": 5}, 404, "nobody"),
        ("unload", {"models": "alpah"}, 404, "alpha"),
        ("unload", {"models": [1]}, 400, "models"),
        ("unload", {"models": "alpha", "forse": True}, 400, "forse"),
        ("unload", {"models": "alpha", "force": "yes"}, 400, "force"),
        ("load", {}, 400, "No model"),
        ("unpin", {}, 400, "No model"),
        ("release", {}, 400, "Nothing was named"),
        ("hold", {"models": "alpha", "duration_s": 366 * 86400 + 1}, 400, "duration_s"),
        ("release", {"models": "nobody"}, 404, "nobody"),
        ("sets", {"name": " "}, 400, "name"),
        ("pin", [], 400, "object"),
        ("pin", b"{", 400, "JSON"),
        ("pin", b"[" * 5000, 400, "JSON"),
    ],
)
def test_misuse(tmp_path: Path, name: str, body: Any, status: int, word: str) -> None:
    """What cannot be meant is refused with the field or name that is wrong, and nothing is done."""

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path) as house:
                reply = await house.ask("POST", f"/corral/v1/{name}", body, Corral_Token=TOKEN)
                assert reply.status == status, reply.body
                assert word in reply.error["message"]
                assert sim.state("alpha") == "loaded" and not house.door.holds

    run(work())


@pytest.mark.parametrize("path", ["/models/unload", "/models/unload-all", "/models/load"])
def test_changes_ask_for_json(tmp_path: Path, path: str) -> None:
    """A web page's simple request changes nothing, and a body that is not understood is refused."""

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path) as house:
                body = b'{"model": "alpha"}'
                assert (await house.ask("POST", path, body, Content_Type="text/plain")).status == 415
                assert (await house.ask("POST", path, body, Origin="http://evil.example")).status == 403
                assert (await house.ask("POST", path, body, Host="evil.example")).status == 403
                assert (await house.ask("POST", path, b"[1]")).status == 400
                assert (await house.ask("GET", path)).status >= 400
                assert (await house.ask("POST", path, b'{"grace_s": "x", "model": 7}')).status == 400
                assert (sim.state("alpha"), sim.state("beta")) == ("loaded", "unloaded")

    run(work())


def test_who_changes_is_believed_with_the_token(tmp_path: Path) -> None:
    """Who loads or ejects a model is logged by the name in its headers only when the token comes with it."""

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path) as house:
                for path, secret, state in (
                    ("load", "wrong", "loaded"),
                    ("unload", TOKEN, "unloaded"),
                    ("load", TOKEN, "loaded"),
                ):
                    signed = {"Corral_User": "an%C3%A1%1b", "Corral_Host": "box", "Corral_Token": secret}
                    assert (await house.ask("POST", f"/models/{path}", {"model": "beta"}, **signed)).status == 200
                    await house.until(partial(lambda wanted: sim.state("beta") == wanted, state))
                rows = (await house.own("GET", "log"))["entries"]

        assert [row["user"] for row in rows] == ["client", "an\u00e1\\e", "an\u00e1\\e"]
        assert {row["host"] for row in rows[1:]} == {"box"}

    run(work())


@pytest.mark.parametrize(
    ("query", "body"), [("", {"exept": ["alpha"]}), ("", {"model": "beta"}), ("?except=alpha", None), ("?force=1", {})]
)
def test_unload_all_takes_nothing_it_does_not_know(tmp_path: Path, query: str, body: Any) -> None:
    """A misspelt or misplaced field of unload-all is refused: without it, more would go than was meant."""

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path) as house:
                reply = await house.ask("POST", f"/models/unload-all{query}", body)
                assert (reply.status, reply.error["reason"]) == (400, "bad_argument")
                assert sim.state("alpha") == "loaded"

    run(work())


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"Content-Length: 9\r\n\r\n{", 408),
        (b"Content-Length: 2000000\r\n\r\n{", 413),
        (b"Transfer-Encoding: chunked\r\n\r\n200000\r\n" + b" " * 0x200000, 413),
    ],
)
def test_bodies_are_limited(tmp_path: Path, sent: bytes, status: int) -> None:
    """A body that the gateway reads for itself comes in time and is small, or is refused and held no longer."""

    async def work() -> None:
        limits = Limits(body_s=0.2, linger_s=0.1)
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path, transfer=limits) as house:
                target = parse_url(house.url)
                reader, writer = await asyncio.open_connection(target.host, target.port)
                head = b"POST /models/unload-all HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                writer.write(head + sent)
                received = await reader.read()
                writer.close()
                assert received.startswith(b"HTTP/1.1 %d " % status)
                assert sim.state("alpha") == "loaded"

    run(work())


async def read_events(house: House, seen: list[tuple[str, Any]]) -> None:
    """Collect what the stream says."""
    headers = {"Corral-Token": TOKEN}
    async with house.session.get(f"{house.url}/corral/v1/events", headers=headers) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        name = ""
        async for line in response.content:
            if line.startswith(b"event: "):
                name = line[7:].strip().decode()
            elif line.startswith(b"data: "):
                seen.append((name, json.loads(line[6:])))


def test_events(tmp_path: Path) -> None:
    """Whoever listens gets a snapshot first, and then every change of a model, a request or a hold."""

    async def work() -> None:
        seen: list[tuple[str, Any]] = []
        with simulate(models=PAIR, token_s=0.05) as sim:
            async with housed(sim.url, tmp_path) as house:
                reader = asyncio.create_task(read_events(house, seen))
                await house.until(lambda: seen)
                assert seen[0][0] == "snapshot"
                assert {model["id"]: model["status"] for model in seen[0][1]["models"]} == {
                    "alpha": "loaded",
                    "beta": "unloaded",
                }
                await house.chat("alpha", tokens=4)
                await house.until(lambda: ("alpha", 1) in counts(seen) and counts(seen)[-1] == ("alpha", 0))
                await house.own("POST", "hold", {"models": "beta", "duration_s": 60})
                await house.until(lambda: any(name == "state" and told["holds"] for name, told in seen))
                await house.ask("POST", "/models/unload", {"model": "alpha"})
                await house.until(lambda: seen[-1][1].get("status") == "unloaded")
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)

    run(work())


def counts(seen: list[tuple[str, Any]]) -> list[tuple[str, int]]:
    """How busy models were told to be, one after another."""
    return [(told["id"], told["in_flight"]) for name, told in seen if name == "model"]


def test_who_asks(tmp_path: Path) -> None:
    """Residents tell of every request in flight who sent it, with what, and since when."""

    async def work() -> None:
        with simulate(models=PAIR, token_s=0.05) as sim:
            async with housed(sim.url, tmp_path) as house:
                asked = asyncio.create_task(house.chat("al", tokens=400, User_Agent="probe/1", X_OWUI_Task="tags"))
                await house.until_busy("alpha")
                (alpha, beta) = (await house.own("GET", "residents"))["models"]
                (one,) = alpha["requests"]
                assert (one["user_agent"], one["task"], one["path"]) == ("probe/1", "tags", "/v1/chat/completions")
                assert one["client"].startswith("127.0.0.1:") and one["since_s"] >= 0
                assert (alpha["in_flight"], alpha["idle_s"], beta["idle_s"]) == (1, 0.0, None)
                await house.ask("GET", "/props?model=alpha")
                asked.cancel()
                await house.until_busy("alpha", 0)
                (alpha, _) = (await house.own("GET", "residents"))["models"]
                assert alpha["requests"] == [] and 0 <= alpha["idle_s"] < 5

    run(work())


@pytest.mark.parametrize(
    ("query", "count"),
    [("", 3), ("limit=0", 0), ("limit=2", 2), ("limit=1e9", 3), ("since_s=1e12", 3), ("since_s=0", 0)]
    + [
        (f"{name}={value}", None) for name in ("limit", "since_s") for value in ("-1", "NaN", "inf", "1e99", "x", "%00")
    ],
)
def test_log_takes_numbers(tmp_path: Path, query: str, count: int | None) -> None:
    """What limits the log is any number from 0 on, and nothing else."""

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path) as house:
                for name in ("a", "b", "c"):
                    await house.own("POST", "sets", {"name": name})
                reply = await house.ask("GET", f"/corral/v1/log?{query}", Corral_Token=TOKEN)
                assert (200 if count is not None else 400) == reply.status
                assert count is None or len(reply.json["entries"]) == count

    run(work())


def test_nameless_set(tmp_path: Path) -> None:
    """To forget a set takes its name."""

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path) as house:
                assert (await house.ask("DELETE", "/corral/v1/sets", {}, Corral_Token=TOKEN)).status == 400

    run(work())


def test_looks_are_no_use(tmp_path: Path) -> None:
    """Monitoring never counts as use: it neither ends a model's idle time nor keeps a drain waiting."""

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path) as house:
                line = house.door.find_line("alpha")
                assert line is not None
                before = line.idle_since
                for path in ("/props?model=alpha", "/slots?model=alpha", "/v1/models", "/health", "/metrics?model=al"):
                    await house.ask("GET", path)
                assert line.idle_since == before
                await house.chat("alpha")
                assert line.idle_since > before

    run(work())


def test_what_is_not_there(tmp_path: Path) -> None:
    """What is asked below /corral/ and is not there never reaches the router, and no token with it."""

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path) as house:
                before = len(sim.requests())
                for method, path in (("GET", "v1/nothing"), ("POST", "v2"), ("DELETE", "v1/holds"), ("GET", "v1/hold")):
                    reply = await house.ask(method, f"/corral/{path}", Corral_Token=TOKEN)
                    assert reply.status in (404, 405)
                    assert reply.error["message"]
                    assert (reply.status == 405) == ("allow" in reply.headers)
                assert {entry.path for entry in sim.requests()[before:]} <= {"/models", "/models/sse", "/props"}

    run(work())


def test_lists_are_not_touched(tmp_path: Path) -> None:
    """Also while something is held, what the router answers itself is asked exactly as the client asked."""

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path) as house:
                await house.own("POST", "hold", {"all": True, "duration_s": 600})
                for path in ("/v1/models", "/v1/models?x=1", "/health"):
                    assert (await house.ask("GET", path)).status == 200
                targets = [entry.target for entry in sim.requests("GET")]
                assert {"/v1/models", "/v1/models?x=1", "/health"} <= set(targets)

    run(work())
