"""Drains, holds and unloads through a whole gateway in front of a simulated router."""

from __future__ import annotations

import asyncio
from pathlib import Path

from corral.gateway.rules import Rules
from corral.ops.admission import Limits
from corral.sim.config import ModelSpec
from corral.sim.control import simulate
from tests.gateway.house import TOKEN, housed, run

PAIR = (ModelSpec("alpha", aliases=("al",), tags=("big",), status="loaded"), ModelSpec("beta"))


def test_nothing_promised(tmp_path: Path) -> None:
    """While nothing is promised, a request loads its model as at the bare router."""

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path) as house:
                assert (await house.chat("beta")).status == 200
                assert (await house.statuses())["beta"] == "loaded"
                assert "/v1/chat/completions" in [entry.target for entry in sim.requests()]

    run(work())


def test_unload_all_lets_a_stream_end(tmp_path: Path) -> None:
    """Unload-all lets a running stream end whole, then the model goes, and what came meanwhile is answered."""

    async def work() -> None:
        with simulate(models=PAIR, token_s=0.01) as sim:
            async with housed(sim.url, tmp_path) as house:
                stream = asyncio.create_task(house.chat("alpha", stream=True, tokens=150))
                await house.until_busy("alpha")
                unload = asyncio.create_task(house.ask("POST", "/models/unload-all"))
                await house.until(lambda: house.control.operator.drains.find("alpha"))
                late = asyncio.create_task(house.chat("al"))
                await house.until_parked(1)

                reply = await unload
                assert stream.done()
                assert (await stream).body.endswith(b"data: [DONE]\n\n")
                assert (await stream).body.count(b"delta") >= 150
                (model,) = reply.json["models"]
                assert (model["id"], model["outcome"], model["ok"]) == ("alpha", "unloaded", True)
                assert (await late).status == 200, "it is loaded again for whoever came meanwhile"

    run(work())


def test_hold_and_release(tmp_path: Path) -> None:
    """While a model is held nothing loads it and everybody is told why; after the release it is loaded again."""

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path) as house:
                held = await house.own("POST", "hold", {"all": True, "duration_s": 600, "reason": "rendering"})
                assert held["resident"] == ["alpha"]

                refused = await house.chat("beta")
                assert refused.status == 503
                assert 590 < int(refused.headers["retry-after"]) <= 600
                assert refused.headers["x-should-retry"] == "false"
                assert "rendering" in refused.error["message"] and held["hold"]["id"] in refused.error["message"]
                assert (await house.chat("alpha")).status == 200, "what is up goes on serving"
                locked = await house.ask("POST", "/models/load", {"model": "beta"})
                assert (locked.status, locked.error["reason"]) == (423, "model_held")
                assert (await house.statuses()) == {"alpha": "loaded", "beta": "unloaded"}

                released = await house.own("POST", "release", {"holds": [held["hold"]["id"]]})
                assert released["holds"] == [held["hold"]["id"]]
                assert (await house.chat("beta")).status == 200
                (first, *_, last) = (await house.own("GET", "log"))["entries"]
                assert (first["command"], last["command"]) == ("hold", "release")

    run(work())


def test_holds_show_in_every_answer(tmp_path: Path) -> None:
    """While anything is held every answer names the holds, and a report says which model is held by which."""

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path) as house:

                async def ask_all() -> list[str | None]:
                    replies = [
                        await house.chat("alpha", stream=True),
                        await house.chat("beta"),
                        await house.ask("GET", "/v1/models"),
                        await house.ask("GET", "/nowhere"),
                        await house.ask("GET", "/corral/v1/health"),
                        await house.ask("GET", "/corral/v1/nowhere"),
                        await house.ask("GET", "/corral/v1/pins", Corral_Token=TOKEN),
                        await house.ask("POST", "/models/unload-all", {"except": ["alpha"]}),
                        await house.ask("POST", "/models/unload-all", b"["),
                        await house.ask("POST", "/infill", b"x", Expect="100-continue", Content_Length="999999999"),
                    ]
                    assert [200, 404, 200, 404, 200, 200, 400, 413] == [reply.status for reply in replies[2:]]
                    events = f"{house.url}/corral/v1/events"
                    async with house.session.get(events, headers={"Corral-Token": TOKEN}) as stream:
                        assert (stream.status, stream.headers["Server"].partition("/")[0]) == (200, "corral")
                        told = stream.headers.get("Corral-Holds")
                    return [told, *(reply.headers.get("corral-holds") for reply in replies)]

                first = (await house.own("POST", "hold", {"models": "beta", "duration_s": 600, "reason": "a game"}))[
                    "hold"
                ]
                assert set(await ask_all()) == {first["id"]}
                second = (await house.own("POST", "hold", {"models": "alpha", "duration_s": 900}))["hold"]
                named = f"{first['id']}, {second['id']}"
                report = await house.ask("POST", "/models/unload-all")
                assert named == report.headers["corral-holds"]
                assert [held["id"] for held in report.json["holds"]] == [first["id"], second["id"]]
                assert report.json["holds"][0]["reason"] == "a game"
                (model,) = report.json["models"]
                assert (model["id"], model["held"], model["hold"]) == ("alpha", True, second["id"])

                await house.own("POST", "release", {"all": True})
                assert set(await ask_all()) == {None}
                report = await house.ask("POST", "/models/unload-all")
                assert report.json["holds"] == []
                assert {(model["held"], model["hold"]) for model in report.json["models"]} == {(False, None)}

    run(work())


def test_short_hold_parks_a_chat(tmp_path: Path) -> None:
    """A chat waits for a hold that ends soon; a background task of Open WebUI does not."""

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path) as house:
                held = await house.own("POST", "hold", {"models": "beta", "duration_s": 20})
                parked = asyncio.create_task(house.chat("beta"))
                await house.until_parked(1)
                task = await house.chat("beta", X_OWUI_Task="title_generation")
                assert (task.status, task.error["reason"]) == (503, "model_held")

                await house.own("POST", "release", {"models": "beta"})
                assert (await parked).status == 200
                assert held["hold"]["models"] == ["beta"]

    run(work())


def test_hold_survives_a_restart(tmp_path: Path) -> None:
    """A hold is in force again after a restart, before the first request is taken."""

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path) as house:
                await house.own("POST", "hold", {"models": ["beta"], "duration_s": 600})
            async with housed(sim.url, tmp_path) as house:
                assert (await house.chat("beta")).status == 503
                (held,) = (await house.own("GET", "holds"))["holds"]
                assert held["models"] == ["beta"]

    run(work())


def test_hold_ends_by_itself(tmp_path: Path) -> None:
    """A hold ends at its expiry, and whoever waited goes on."""

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path) as house:
                await house.own("POST", "hold", {"models": ["beta"], "duration_s": 0.5})
                assert (await house.chat("beta")).status == 200

    run(work())


def test_other_models_load_during_a_hold(tmp_path: Path) -> None:
    """While one model is held, another one is loaded for whoever asks, by the gateway and not by the router."""

    async def work() -> None:
        with simulate(models=("a", "b", "c")) as sim:
            async with housed(sim.url, tmp_path) as house:
                await house.own("POST", "hold", {"models": "a", "duration_s": 600})
                replies = await asyncio.gather(*(house.chat(name) for name in "bcbcb"))
                assert [reply.status for reply in replies] == [200] * 5
                chats = [entry.target for entry in sim.requests() if entry.path == "/v1/chat/completions"]
                assert chats == ["/v1/chat/completions?autoload=false"] * 5

    run(work())


def test_room_is_made_and_pins_are_kept(tmp_path: Path) -> None:
    """At the router's maximum an idle model makes room, and a pinned one never does."""

    async def work() -> None:
        with simulate(models=("a", "b", "c", "d"), models_max=2) as sim:
            async with housed(sim.url, tmp_path) as house:
                assert (await house.chat("a")).status == 200
                await house.own("POST", "pin", {"models": ["a"]})
                for name in "bcd":
                    assert (await house.chat(name)).status == 200
                    statuses = await house.statuses()
                    assert (statuses["a"], statuses[name]) == ("loaded", "loaded")
                outcomes = [(entry["command"], entry["name"]) for entry in (await house.own("GET", "log"))["entries"]]
                assert outcomes == [("pin", "a"), ("make-room", "b"), ("make-room", "c")]

    run(work())


def test_eject_waits_and_is_true(tmp_path: Path) -> None:
    """An Eject answers when the model is gone, so that the next list is true; one already gone is a success."""

    async def work() -> None:
        with simulate(models=PAIR, exit_s=0.2) as sim:
            async with housed(sim.url, tmp_path) as house:
                reply = await house.ask("POST", "/models/unload", {"model": "alpha", "instance_id": "alpha"})
                assert (reply.status, reply.json) == (200, {"success": True})
                assert (await house.statuses())["alpha"] == "unloaded"
                assert (await house.ask("POST", "/models/unload", {"model": "alpha"})).json == {"success": True}
                assert (await house.ask("POST", "/models/unload", {"model": "nobody"})).status == 400

    run(work())


def test_eject_of_a_busy_model(tmp_path: Path) -> None:
    """An Eject that would take too long says how busy the model is, goes on draining, and can be called off."""

    async def work() -> None:
        rules = Rules(eject_s=0.2)
        with simulate(models=PAIR, token_s=0.02) as sim:
            async with housed(sim.url, tmp_path, rules=rules) as house:
                streams = [asyncio.create_task(house.chat("alpha", stream=True, tokens=150)) for _ in range(2)]
                await house.until_busy("alpha", 2)
                reply = await house.ask("POST", "/models/unload", {"model": "alpha"})
                assert (reply.status, reply.error["message"]) == (409, "still busy: 2 requests")
                assert house.control.operator.drains.find("alpha") is not None
                assert (await house.own("POST", "drain", {"cancel": True, "models": "alpha"}))["cancelled"] == ["alpha"]
                assert (await house.chat("alpha")).status == 200
                assert all(reply.body.endswith(b"data: [DONE]\n\n") for reply in await asyncio.gather(*streams))
                assert (await house.statuses())["alpha"] == "loaded"

                again = [asyncio.create_task(house.chat("alpha", stream=True, tokens=100)) for _ in range(2)]
                await house.until_busy("alpha", 2)
                assert (await house.ask("POST", "/models/unload", {"model": "alpha"})).status == 409
                assert all(reply.body.endswith(b"data: [DONE]\n\n") for reply in await asyncio.gather(*again))
                await house.until(lambda: house.control.operator.drains.find("alpha") is None)
                assert (await house.statuses())["alpha"] == "unloaded"

    run(work())


def test_forced_unload_counts_what_it_cuts(tmp_path: Path) -> None:
    """A forced unload cuts what is in flight when the grace is over, and says how many that were."""

    async def work() -> None:
        with simulate(models=PAIR, token_s=0.02, stop_timeout_s=0.3) as sim:
            async with housed(sim.url, tmp_path) as house:
                stream = asyncio.create_task(house.chat("alpha", stream=True, tokens=500))
                await house.until_busy("alpha")
                reply = await house.ask("POST", "/models/unload-all", {"grace_s": 0.1, "force": True})
                (model,) = reply.json["models"]
                assert (model["outcome"], model["cut"]) == ("unloaded", 1)
                assert b"[DONE]" not in (await stream).body

    run(work())


def test_unload_all_that_is_not_patient(tmp_path: Path) -> None:
    """Without force a model that is still busy when the grace is over stays, and is told as such; nothing is cut."""

    async def work() -> None:
        with simulate(models=PAIR, token_s=0.01) as sim:
            async with housed(sim.url, tmp_path) as house:
                stream = asyncio.create_task(house.chat("alpha", stream=True, tokens=150))
                await house.until_busy("alpha")
                reply = await house.ask("POST", "/models/unload-all", {"grace_s": 0.1})
                (model,) = reply.json["models"]
                assert (reply.json["ok"], model["outcome"], model["in_flight"]) == (False, "still_busy", 1)
                assert (await stream).body.endswith(b"data: [DONE]\n\n")

    run(work())


def test_unload_all_of_some(tmp_path: Path) -> None:
    """Unload-all takes exceptions and tags, and leaves alone what is pinned."""

    async def work() -> None:
        specs = tuple(ModelSpec(name, tags=("t",) if name in "ab" else (), status="loaded") for name in "abcd")
        with simulate(models=specs) as sim:
            async with housed(sim.url, tmp_path) as house:
                await house.own("POST", "pin", {"models": "d"})
                reply = await house.ask("POST", "/models/unload-all", {"tag": "t", "except": ["a"]})
                assert [model["id"] for model in reply.json["models"]] == ["b"]
                reply = await house.ask("POST", "/models/unload-all", {})
                assert [model["id"] for model in reply.json["models"]] == ["a", "c"]
                assert (await house.statuses())["d"] == "loaded"

    run(work())


def test_bounds(tmp_path: Path) -> None:
    """When too many wait already, the next one is told so."""

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path, limits=Limits(parked_max=2)) as house:
                await house.own("POST", "hold", {"models": "beta", "duration_s": 20})
                parked = [asyncio.create_task(house.chat("beta")) for _ in range(2)]
                await house.until_parked(2)
                assert (await house.chat("beta")).error["reason"] == "too_many_waiting"
                await house.own("POST", "release", {"all": True})
                assert [(await reply).status for reply in parked] == [200, 200]

    run(work())


def test_client_leaves_while_parked(tmp_path: Path) -> None:
    """A client that leaves while it waits is forgotten at once, and nothing is loaded for it."""

    async def work() -> None:
        with simulate(models=PAIR) as sim:
            async with housed(sim.url, tmp_path) as house:
                await house.own("POST", "hold", {"models": "beta", "duration_s": 20})
                parked = asyncio.create_task(house.chat("beta"))
                await house.until_parked(1)
                parked.cancel()
                await house.until_parked(0)
                await house.own("POST", "release", {"all": True})
                assert (await house.statuses())["beta"] == "unloaded"

    run(work())


def test_turned_away_unheard(tmp_path: Path) -> None:
    """A request that the router turned away because its model had just gone is asked for anew, and answered."""

    async def work() -> None:
        # A router without an event stream, so that the gateway cannot know what somebody else has just done there.
        with simulate(models=PAIR, era="b9093") as sim:
            async with housed(sim.url, tmp_path) as house:
                await house.own("POST", "pin", {"models": "beta"})
                sim.unload("alpha")
                sim.wait_for("alpha", "unloaded")
                assert (await house.chat("alpha")).status == 200
                chats = [entry.target for entry in sim.requests("POST", "/v1/chat/completions")]
                assert chats == ["/v1/chat/completions?autoload=false"] * 2
                assert house.door.count_in_flight("alpha") == 0

                sim.unload("alpha")
                sim.wait_for("alpha", "unloaded")
                reply = await house.ask("POST", "/v1/chat/completions?autoload=false", {"model": "alpha"})
                assert (reply.status, reply.error["message"]) == (400, "model is not loaded"), "as it was asked for"
                assert (await house.statuses())["alpha"] == "unloaded"

    run(work())


def test_router_with_a_key_of_its_own(tmp_path: Path) -> None:
    """Before a router that wants a key, a client's own key does through the gateway what it does at the router."""

    async def work() -> None:
        with simulate(models=PAIR, api_keys=("secret",)) as sim:
            async with housed(sim.url, tmp_path) as house:
                one, every = {"model": "alpha"}, None
                for path, body in (("unload", one), ("load", one), ("unload-all", every)):
                    for key in ("", "Bearer wrong"):
                        assert (await house.ask("POST", f"/models/{path}", body, Authorization=key)).status == 401
                key = "Bearer secret"
                assert (await house.chat("beta", Authorization=key)).status == 200
                reply = await house.ask("POST", "/models/unload", {"model": "beta"}, Authorization=key)
                assert reply.json == {"success": True}
                assert (await house.ask("POST", "/models/load", {"model": "alpha"}, Authorization=key)).status == 400
                reply = await house.ask("POST", "/models/unload-all", None, X_Api_Key="secret")
                assert [model["id"] for model in reply.json["models"]][:1] == ["alpha"]
                assert sim.state("alpha") == "unloaded"

    run(work())


def test_key_of_the_gateway(tmp_path: Path) -> None:
    """A gateway that has the router's key drains and holds for clients that show a key of their own."""

    async def work() -> None:
        with simulate(models=PAIR, api_keys=("secret",)) as sim:
            clients = (("anna", "annas-key"),)
            async with housed(sim.url, tmp_path, api_key="secret", client_keys=clients) as house:
                await house.own("POST", "hold", {"models": "beta", "duration_s": 600})
                key = "Bearer annas-key"
                assert (await house.chat("beta")).status == 401
                assert (await house.chat("beta", Authorization=key)).error["reason"] == "model_held"
                assert (await house.ask("POST", "/models/unload", {"model": "alpha"})).status == 401
                reply = await house.ask("POST", "/models/unload", {"model": "alpha"}, Authorization=key)
                assert reply.json == {"success": True}
                entries = (await house.own("GET", "log"))["entries"]
                assert (entries[-1]["user"], entries[-1]["host"]) == ("anna", "127.0.0.1")

    run(work())
