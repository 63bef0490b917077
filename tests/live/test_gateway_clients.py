"""What chat clients send, to the bare router and through a gateway: the same state and the same result.

The calls are those of Open WebUI: its list, a chat with a background task beside it, Eject, and the dialog in which
models are managed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from corral.sim.launch import RealRouter
from tests.gateway.house import housed
from tests.live.conftest import HAS_EVENTS

pytestmark = pytest.mark.live
SHAPE = ("id", "aliases", "tags", "object", "owned_by", "source", "can_remove")


class OpenWebUi:
    """Sends what Open WebUI sends."""

    def __init__(self, session: aiohttp.ClientSession, root: str) -> None:
        self._session, self._root = session, root
        self.answers: list[Any] = []

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, str, Any]:
        """One call; its status, content type and document."""
        headers = {"Authorization": "Bearer sk-none", "X-OpenWebUI-User-Name": "Anna"}
        async with self._session.request(method, self._root + path, json=body, headers=headers) as response:
            text = await response.text()
            return response.status, response.content_type, json.loads(text) if text else None

    async def list(self) -> dict[str, str]:
        """What it takes for loaded, by its own rule."""
        status, kind, document = await self.call("GET", "/v1/models")
        assert (status, kind) == (200, "application/json")
        assert "models" not in document and document["object"] == "list"
        self.answers.append([{key: entry.get(key) for key in SHAPE} for entry in document["data"]])
        return {entry["id"]: entry["status"]["value"] for entry in document["data"]}

    async def until(self, model: str, status: str) -> None:
        """List until a model has a status."""
        async with asyncio.timeout(20):
            while (await self.list())[model] != status:
                await asyncio.sleep(0.02)
                self.answers.pop()
        self.answers[-1:] = [f"{model} is {status}"]

    async def note(self, method: str, path: str, body: Any = None) -> Any:
        """One call whose status and error are to be the same everywhere."""
        status, kind, document = await self.call(method, path, body)
        error = document.get("error", {}) if isinstance(document, dict) else {}
        self.answers.append((method, path, status, kind, error.get("message"), error.get("type")))
        return document

    async def chat(self, model: str, *, stream: bool) -> Any:
        """A chat, with its title asked for at the same time."""
        asked = {"model": model, "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}], "seed": 1}
        title = self.call("POST", "/v1/chat/completions", asked | {"stream": False})
        if not stream:
            replies = await asyncio.gather(self.call("POST", "/v1/chat/completions", asked), title)
            return replies[0][2]["choices"][0]["message"]["content"]
        url = f"{self._root}/v1/chat/completions"
        async with self._session.post(url, json=asked | {"stream": True}) as response:
            assert response.content_type == "text/event-stream"
            body = await response.read()
        await title
        assert body.rstrip().endswith(b"data: [DONE]")
        return len(body.split(b"\n\n"))


async def replay(root: str, is_patient: bool) -> list[Any]:
    """A session with it; what it was told, in order."""
    async with aiohttp.ClientSession() as session:
        client = OpenWebUi(session, root)
        assert set((await client.list()).values()) == {"unloaded"}
        client.answers.append(await client.chat("plain", stream=False))
        client.answers.append(await client.chat("plain", stream=True))
        assert (await client.list())["plain"] == "loaded"

        assert await client.note("POST", "/models/unload", {"model": "plain"}) == {"success": True}
        if is_patient:
            assert (await client.list())["plain"] == "unloaded", "the list right after an Eject is true"
            client.answers.pop()
        await client.until("plain", "unloaded")

        await client.note("POST", "/models/load", {"model": "al1"})
        await client.until('we "quote" it\'s / here', "loaded")
        await client.note("POST", "/models/load", {"model": "al1"})
        await client.note("POST", "/models/unload", {"model": "al2", "instance_id": "al2"})
        await client.until('we "quote" it\'s / here', "unloaded")

        await client.note("POST", "/models/unload", {"model": "nobody"})
        await client.note("POST", "/v1/chat/completions", {"model": "nobody", "messages": []})
        await client.note("POST", "/v1/chat/completions?autoload=false", {"model": "plain", "messages": []})
        await client.note("POST", "/v1/chat/completions", {"messages": []})
        await client.note("POST", "/v1/embeddings", {"model": "plain", "input": "hi"})
        if HAS_EVENTS:
            await client.note("DELETE", "/models?model=plain")
            await client.note("POST", "/models", {"model": "no such repository"})
        await client.until("plain", "loaded")
        return client.answers


def test_open_webui(start_router: Callable[..., RealRouter], tmp_path: Path) -> None:
    """Open WebUI's calls come to the same through a gateway, except that its list is true right after an Eject."""

    async def through_gateway(url: str) -> list[Any]:
        async with housed(url, tmp_path, sees_machine=True) as house:
            return await replay(house.url, is_patient=True)

    router = start_router()
    bare = asyncio.run(replay(router.url, is_patient=False))
    router.restart()
    guarded = asyncio.run(through_gateway(router.url))

    assert bare == guarded
