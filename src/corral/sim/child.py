"""What a model's child process answers: chat, slots, metrics, props. Seen through the router's proxy.

A child that was told to stop takes no new request and makes no further token, and is killed at its stop-timeout
while an answer is open: that answer then ends with the router's words about the lost connection.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

from corral.sim.entries import build_child_props
from corral.sim.http import Reply, reply_json
from corral.sim.models import SimModel
from corral.sim.router import SimRouter

LOST = "proxy error: Failed to read connection"
_WORDS = (" fence", " gate", " herd", " hay")
_DEFAULT_TOKENS = 16


class LostChildError(Exception):
    """The child ended before its answer did."""


class Child:
    """One request at one child; counts as in flight from ``enter`` to ``leave``."""

    def __init__(self, router: SimRouter, model: SimModel) -> None:
        self._router, self._model = router, model
        self._generation = model.generation

    def enter(self, is_post: bool) -> None:
        """Begin; wakes a sleeping child."""
        self._model.begin_request(self._router.now(), is_post)
        self._model.wake(self._router.now())
        self._router.settle()

    def leave(self) -> None:
        """End, whether answered or not."""
        self._model.end_request(self._router.now())
        self._router.settle()

    async def wait_until_able(self) -> None:
        """Return when the child can work on; raises LostChildError when it is gone."""
        while True:
            if self._model.generation != self._generation or not self._model.is_resident:
                raise LostChildError
            if self._model.value == "loaded" and not self._model.is_stopping:
                return
            await self._router.wait_for_change()

    async def make_tokens(self, count: int) -> AsyncIterator[str]:
        """One token after another, at the configured pace."""
        for index in range(count):
            await self.wait_until_able()
            yield _WORDS[index % len(_WORDS)]
            await asyncio.sleep(self._router.config.token_s)
        await self.wait_until_able()


async def answer_chat(router: SimRouter, model: SimModel, body: dict[str, object]) -> Reply:
    """``POST /v1/chat/completions`` and its relatives: as many tokens as asked for."""
    asked = body.get("max_tokens", body.get("n_predict"))
    count = asked if isinstance(asked, int) and asked >= 0 else _DEFAULT_TOKENS
    child = Child(router, model)
    if body.get("stream") is True:
        chunks = _stream(child, model, count)
        return Reply(content_type="text/event-stream", chunks=chunks, is_proxied=True)
    child.enter(is_post=True)
    try:
        text = "".join([token async for token in child.make_tokens(count)])
    except LostChildError:
        return Reply(500, LOST.encode(), is_proxied=True)
    finally:
        child.leave()
    return reply_json(_build_completion(model.spec.id, text, count), is_proxied=True)


async def answer_slots(router: SimRouter, model: SimModel) -> Reply:
    """``GET /slots``: wakes the child, and shows what is in flight."""
    if not router.config.slots:
        return _refuse("This server does not support slots endpoint. Start it with `--slots`")
    child = Child(router, model)
    child.enter(is_post=False)
    try:
        await child.wait_until_able()
        busy = model.in_flight - 1
        slots = [
            {"id": index, "n_ctx": 256, "speculative": False, "is_processing": index < busy}
            for index in range(model.spec.slots)
        ]
    except LostChildError:
        return Reply(500, LOST.encode(), is_proxied=True)
    finally:
        child.leave()
    return reply_json(slots, is_proxied=True)


async def answer_metrics(router: SimRouter, model: SimModel) -> Reply:
    """``GET /metrics``: in text; only where it is switched on."""
    if not (router.config.metrics or model.spec.metrics):
        return _refuse("This server does not support metrics endpoint. Start it with `--metrics`")
    busy = model.in_flight
    if router.era.metrics_wakes:
        child = Child(router, model)
        child.enter(is_post=False)
        try:
            await child.wait_until_able()
        except LostChildError:
            return Reply(500, LOST.encode(), is_proxied=True)
        finally:
            child.leave()
    processing = min(busy, model.spec.slots)
    lines = [
        "# HELP llamacpp:requests_processing Number of requests processing.",
        "# TYPE llamacpp:requests_processing gauge",
        f"llamacpp:requests_processing {processing}",
        "# HELP llamacpp:requests_deferred Number of requests deferred.",
        "# TYPE llamacpp:requests_deferred gauge",
        f"llamacpp:requests_deferred {busy - processing}",
    ]
    text = "\n".join(lines) + "\n"
    return Reply(200, text.encode(), "text/plain; version=0.0.4", is_proxied=True)


def answer_props(router: SimRouter, model: SimModel) -> Reply:
    """``GET /props`` of a child: wakes nothing."""
    is_sleeping = model.value == "sleeping"
    props = build_child_props(model.spec.id, router.config, model.spec.slots, is_sleeping)
    return reply_json(props, is_proxied=True)


def _refuse(message: str) -> Reply:
    return reply_json({"error": {"code": 501, "message": message, "type": "not_supported_error"}}, 501, is_proxied=True)


async def _stream(child: Child, model: SimModel, count: int) -> AsyncIterator[bytes]:
    child.enter(is_post=True)
    try:
        yield _frame(model, {"role": "assistant", "content": None})
        async for token in child.make_tokens(count):
            yield _frame(model, {"content": token})
        yield _frame(model, {}, "length")
        yield b"data: [DONE]\n\n"
    except LostChildError:
        yield LOST.encode()
    finally:
        child.leave()


def _frame(model: SimModel, delta: dict[str, object], finish: str | None = None) -> bytes:
    choice = {"finish_reason": finish, "index": 0, "delta": delta}
    document = {"choices": [choice], "created": int(time.time()), "id": "chatcmpl-sim", "model": model.spec.id}
    text = json.dumps({**document, "object": "chat.completion.chunk"}, separators=(",", ":"), ensure_ascii=False)
    return b"data: " + text.encode("utf-8", "surrogatepass") + b"\n\n"


def _build_completion(model_id: str, text: str, count: int) -> dict[str, object]:
    message = {"role": "assistant", "content": text}
    return {
        "choices": [{"finish_reason": "length", "index": 0, "message": message}],
        "created": int(time.time()),
        "model": model_id,
        "object": "chat.completion",
        "usage": {"completion_tokens": count, "prompt_tokens": 25, "total_tokens": 25 + count},
        "id": "chatcmpl-sim",
    }
