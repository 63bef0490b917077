"""Bad days: the gateway killed under load, the router killed, hung, restarted, or answering garbage."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import pytest

import corral
from corral.ledger import Ledger
from corral.ops.promises import Moment, Owner, RouterKey
from corral.sim.config import ModelSpec
from corral.sim.control import simulate
from corral.sim.launch import SimRouter
from tests.gateway.house import TOKEN, House, housed, run

PAIR = (ModelSpec("alpha", status="loaded"), ModelSpec("beta"))
SOURCE = str(Path(corral.__file__).parent.parent)


@contextmanager
def serving(
    router: str, folder: Path, listen: str = "127.0.0.1:0", ignored: Sequence[int] = ()
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``corral serve`` as a process of its own, and its address; ``ignored`` are signals that its parent ignores."""
    environ = os.environ | {"PYTHONPATH": SOURCE, "CORRAL_STATE_DIR": str(folder)}
    command = [sys.executable, "-m", "corral", "serve", "--router", router, "--listen", listen, "--json"]

    def ignore() -> None:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)

    talk = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=talk, text=True, preexec_fn=ignore)
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())["listening"][0]
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=20)


async def chat(session: aiohttp.ClientSession, url: str, model: str, tokens: int = 200) -> tuple[int, bytes]:
    """Stream an answer; what has come when it ended, and the status, 0 for a connection that broke."""
    body = {"model": model, "stream": True, "max_tokens": tokens, "messages": []}
    received = b""
    try:
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            async for piece in response.content.iter_any():
                received += piece
            return response.status, received
    except aiohttp.ClientError:
        return 0, received


def test_gateway_killed_under_load(tmp_path: Path) -> None:
    """After SIGKILL the clients see a broken connection, nothing else is lost, and holds are in force again."""

    async def work() -> None:
        with simulate(models=PAIR, token_s=0.02) as sim:
            with serving(sim.url, tmp_path) as (process, url):
                token = (tmp_path / "token").read_text().strip()
                async with aiohttp.ClientSession() as session:
                    hold = {"models": ["beta"], "duration_s": 600, "reason": "rendering"}
                    headers = {"Corral-Token": token}
                    async with session.post(f"{url}/corral/v1/hold", json=hold, headers=headers) as response:
                        assert response.status == 200
                    streams = [asyncio.create_task(chat(session, url, "alpha")) for _ in range(8)]
                    while sim.in_flight("alpha") < 8:
                        await asyncio.sleep(0.005)
                    process.send_signal(signal.SIGKILL)
                    results = await asyncio.gather(*streams)
                    assert {status for status, _ in results} == {0}, "a broken connection, not a short answer"
                    process.wait(20)
            sim.wait_until(lambda: sim.in_flight("alpha") == 0)
            assert sim.state("alpha") == "loaded"
            with serving(sim.url, tmp_path, listen=url.removeprefix("http://")) as (_, again):
                assert again == url
                async with aiohttp.ClientSession() as session:
                    status, body = await chat(session, url, "beta")
                    assert (status, b"rendering" in body) == (503, True)
                    assert (await chat(session, url, "alpha", 3))[0] == 200
            assert sim.spawn_count("beta") == 0

    run(work())


def test_terminal_that_closes(tmp_path: Path) -> None:
    """A gateway that was started with nohup goes on when its terminal closes, and ends when it is told to."""

    async def work() -> None:
        with simulate(models=PAIR) as sim, serving(sim.url, tmp_path, ignored=[signal.SIGHUP]) as (process, url):
            process.send_signal(signal.SIGHUP)
            async with aiohttp.ClientSession() as session:
                for _ in range(10):
                    async with session.get(f"{url}/corral/v1/health") as response:
                        assert await response.json() == {"status": "ok"}
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0

    run(work())


def test_router_killed_and_restarted(tmp_path: Path) -> None:
    """While the router is gone every request gets a clear answer soon; when it is back all goes on by itself."""

    async def work() -> None:
        with SimRouter(["--models", "3"]) as router:
            async with housed(router.url, tmp_path) as house:
                assert (await house.chat("model-01")).status == 200
                await house.own("POST", "hold", {"models": "model-02", "duration_s": 600})
                router.stop()
                await expect_clear_answers(house, "unreachable")
                router.start()
                await house.until(lambda: house.control.watcher.error is None)
                assert (await house.chat("model-01")).status == 200
                assert (await house.chat("model-02")).error["reason"] == "model_held"

    run(work())


async def expect_clear_answers(house: House, word: str) -> None:
    """Whatever is asked of a router that is gone is answered within three seconds, and says so."""
    began = monotonic()
    for model in ("model-01", "model-03"):
        reply = await house.chat(model)
        assert reply.status in (502, 503, 504)
        assert word in reply.error["reason"]
    stale = await house.ask("GET", "/v1/models")
    assert (stale.status, stale.headers["corral-stale"]) == (200, "1")
    assert {entry["status"]["value"] for entry in stale.json["data"]} == {"unloaded"}
    assert stale.json["stale"] is True and "models" not in stale.json
    one, every = {"model": "model-01"}, None
    for path, body in (("unload-all", every), ("unload", one), ("load", one)):
        reply = await house.ask("POST", f"/models/{path}", body)
        assert (reply.status, reply.error["reason"]) == (503, "router_unreachable")
    own = await house.ask("GET", "/corral/v1/residents", Corral_Token="a-token-that-only-the-tests-know")
    assert (own.status, own.error["reason"]) == (503, "router_unreachable")
    assert monotonic() - began < 15.0


def test_router_hung(tmp_path: Path) -> None:
    """A router that hangs costs its lists two seconds, and is served again when it goes on."""

    async def work() -> None:
        with SimRouter(["--models", "3"]) as router:
            assert router.process is not None
            async with housed(router.url, tmp_path) as house:
                assert (await house.chat("model-01")).status == 200
                os.kill(router.process.pid, signal.SIGSTOP)
                try:
                    began = monotonic()
                    stale = await house.ask("GET", "/v1/models")
                    assert (stale.status, stale.headers["corral-stale"]) == (200, "1")
                    assert 1.5 < monotonic() - began < 4.0
                    own = await house.ask(
                        "GET", "/corral/v1/residents", Corral_Token="a-token-that-only-the-tests-know"
                    )
                    assert own.error["reason"] == "router_unreachable"
                finally:
                    os.kill(router.process.pid, signal.SIGCONT)
                assert (await house.chat("model-01")).status == 200

    run(work())


@pytest.mark.parametrize("fault", ["html", "cut", "status", "reset-before"])
def test_router_answers_garbage(tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    """What the router says instead of its list hurts nobody, is logged once, and the next good list is believed."""
    caplog.set_level("INFO", "corral.gateway")

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path) as house:
                await house.own("POST", "hold", {"models": "beta", "duration_s": 600})
                sim.set_fault(fault, path="/models", method="GET")
                house.control.watcher.hurry()
                await house.until(lambda: house.control.watcher.error is not None)
                assert (await house.chat("alpha")).status == 200
                reply = await house.chat("beta")
                assert reply.status in (400, 503), "and in no case is it loaded"
                assert sim.spawn_count("beta") == 0
                reply = await house.ask("POST", "/models/unload-all")
                assert reply.status >= 400 and reply.error["message"]
                sim.clear_faults()
                house.control.watcher.hurry()
                await house.until(lambda: house.control.watcher.error is None)
                assert (await house.ask("POST", "/models/unload-all")).json["ok"] is True
                said = [record.getMessage() for record in caplog.records if record.getMessage().startswith(sim.url)]
                assert ["gives no list", "gives its list"] == [" ".join(line.split()[1:4]) for line in said]

    run(work())


def test_ledger_full_of_old_promises(tmp_path: Path) -> None:
    """A hold that somebody else writes into the ledger is in force at the gateway within two seconds."""

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path) as house:
                with Ledger.open(str(tmp_path)) as ledger:
                    key, owner = house.control.promises.router, Owner("otto", "box")
                    now = _read_moment()
                    held = ledger.holds.add(key, ("beta",), owner=owner, duration_s=600, now=now)
                await house.until(lambda: house.door.holds)
                assert "otto@box" in (await house.chat("beta")).error["message"]
                with Ledger.open(str(tmp_path)) as ledger:
                    assert ledger.holds.find(held.id) is not None
                    ledger.holds.release(held.id, _read_moment())
                await house.until(lambda: not house.door.holds)
                assert (await house.chat("beta")).status == 200

    run(work())


def test_promise_of_a_moment_ago(tmp_path: Path) -> None:
    """What somebody else has just written to the ledger counts at once for whoever releases, lists or unloads."""

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path) as house:
                key, owner = house.control.promises.router, Owner("otto", "box")
                with Ledger.open(str(tmp_path)) as ledger:
                    ledger.pins.add(key, ["alpha"], owner=owner, wall=1.0)
                    assert (await house.ask("POST", "/models/unload-all")).json["models"] == []
                    ledger.pins.remove(key, ["alpha"])
                    assert (await house.own("GET", "pins"))["pins"] == []
                    held = ledger.holds.add(key, None, owner=owner, duration_s=600, now=_read_moment())
                assert (await house.own("POST", "release", {"all": True}))["holds"] == [held.id]

    run(work())


def test_hold_that_is_over_at_once(tmp_path: Path) -> None:
    """A hold that has ended before it could be told of is told of as ended."""

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path) as house:
                held = await house.own("POST", "hold", {"models": "beta", "duration_s": 1e-9})
                assert (held["hold"]["models"], held["hold"]["left_s"]) == (["beta"], 0)
                assert (await house.chat("beta")).status == 200

    run(work())


def test_hold_that_nobody_waits_for(tmp_path: Path) -> None:
    """A hold whose operator left while the ledger was locked is in force like any other, and so is its release."""

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path) as house:
                for name, body in (("hold", {"models": "beta", "duration_s": 600}), ("release", {"all": True})):
                    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as other:
                        other.execute("BEGIN IMMEDIATE")
                        impatient = asyncio.create_task(house.own("POST", name, body))
                        await house.until(lambda: house.control.works)
                        impatient.cancel()
                        await asyncio.wait([impatient])
                    await house.until(lambda: not house.control.works)
                    assert bool(house.door.holds) == (name == "hold")

    run(work())


def test_second_gateway_takes_over(tmp_path: Path) -> None:
    """A hold of a gateway that was killed is seen to by the other one in front of the same router."""

    async def work() -> None:
        with simulate(models=PAIR) as sim, serving(sim.url, tmp_path) as (process, url):
            async with housed(sim.url, tmp_path) as house:
                body, token = {"models": "beta", "duration_s": 600}, (tmp_path / "token").read_text().strip()
                headers = {"Corral-Token": token}
                async with house.session.post(f"{url}/corral/v1/hold", json=body, headers=headers) as response:
                    assert response.status == 200
                await house.until(lambda: house.door.holds)
                process.kill()
                process.wait()
                with Ledger.look(str(tmp_path)) as ledger:

                    def find_pid() -> int:
                        (hold,) = ledger.holds.list_in_force(_read_moment())
                        assert hold.enforcer is not None
                        return hold.enforcer.process.pid

                    assert find_pid() in (process.pid, os.getpid())
                    await house.until(lambda: find_pid() == os.getpid())

    run(work())


def test_full_disk_at_the_start(tmp_path: Path) -> None:
    """A gateway that can read what is promised, and write nothing, starts and keeps it."""

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            with Ledger.open(str(tmp_path)) as ledger:
                key = RouterKey(sim.url, sim.url)
                ledger.holds.add(key, ("beta",), owner=Owner("otto", "box"), duration_s=600, now=_read_moment())
            with closing(sqlite3.connect(tmp_path / "ledger.db")) as other:
                other.execute("CREATE TRIGGER full BEFORE UPDATE ON holds BEGIN SELECT RAISE(ABORT, 'full'); END")
            async with housed(sim.url, tmp_path) as house:
                assert (await house.chat("beta")).error["reason"] == "model_held"

    run(work())


def test_ledger_that_fails_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While the ledger cannot be read the holds stay in force; the log says so once, and when it is over."""
    caplog.set_level("INFO", "corral.gateway")

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            folder = tmp_path / "state"
            async with housed(sim.url, folder) as house:
                held = await house.own("POST", "hold", {"models": "beta", "duration_s": 600})
                folder.rename(tmp_path / "away")
                folder.write_bytes(b"")
                for _ in range(3):
                    await house.control.promises.catch_up()
                refused = await house.ask("POST", "/corral/v1/release", {"all": True}, Corral_Token=TOKEN)
                assert (refused.status, refused.error["reason"]) == (500, "ledger")
                assert (await house.chat("beta")).error["reason"] == "model_held"
                folder.unlink()
                (tmp_path / "away").rename(folder)
                await house.control.promises.catch_up()
                assert (await house.own("POST", "release", {"all": True}))["holds"] == [held["hold"]["id"]]

                held = await house.own("POST", "hold", {"models": "beta", "duration_s": 600})
                folder.rename(tmp_path / "away")
                await house.control.promises.catch_up()
                assert (await house.chat("beta")).status == 200

    run(work())
    said = [record.getMessage() for record in caplog.records if "ledger" in record.getMessage()]
    assert len(said) == 3
    assert said[0].startswith("what was promised stays in force, but ")
    assert said[1:] == ["the ledger can be used again", "the ledger was moved or deleted, and these holds with it: h2"]


def _read_moment() -> Moment:
    from corral.ledger import read_moment

    moment: Any = read_moment()
    assert isinstance(moment, Moment)
    return moment
