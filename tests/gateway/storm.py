"""Many requests at a gateway while drains, holds, releases, pins and unloads of all run at random, and what is seen.

Used by the tests and by ``scripts/storm.py``. Everything is judged from outside: by the answers, by the loads that
the router counts, and by the order in which visits are let on.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from typing import Any

from corral.gateway.visits import Visit
from corral.wire.attribution import WORK
from tests.gateway.house import House, Reply

REASONS = frozenset({"model_held", "model_draining", "too_many_waiting", "no_room", "model_not_up"})
"""Why a request may be refused in a storm; nothing fails to load there."""


class Findings:
    """What was seen."""

    def __init__(self) -> None:
        self.answered = 0
        self.refused: Counter[str] = Counter()
        self.cut: list[str] = []
        self.lost: list[str] = []
        self.wrong: list[str] = []
        self.unexplained: list[str] = []
        self.out_of_order: list[str] = []
        self.loads_while_held: list[str] = []
        self.left_over: list[str] = []
        """Models that were thought busy, or waited for, when nobody was there any more."""
        self.deeds: Counter[str] = Counter()
        self.most_parked = 0

    @property
    def faults(self) -> dict[str, list[str]]:
        """What must not be; empty when all is well."""
        names = ("cut", "lost", "wrong", "unexplained", "out_of_order", "loads_while_held", "left_over")
        return {name: found for name in names if (found := getattr(self, name))}

    def __str__(self) -> str:
        refused = ", ".join(f"{count} {reason}" for reason, count in self.refused.most_common()) or "none"
        deeds = ", ".join(f"{count} {deed}" for deed, count in self.deeds.most_common())
        faults = "; ".join(f"{len(found)} {name}: {found[0]}" for name, found in self.faults.items()) or "none"
        return (
            f"{self.answered} answered, {sum(self.refused.values())} refused ({refused}); at most {self.most_parked} "
            f"waited at once; meanwhile {deeds}. Faults: {faults}"
        )


class Storm:
    """One storm over one gateway."""

    def __init__(
        self,
        house: House,
        models: Sequence[str],
        count_loads: Callable[[str], int],
        random: Random,
        *,
        tokens: int = 6,
        pace_s: float = 0.1,
    ) -> None:
        self._house, self._models, self._count_loads, self._random = house, models, count_loads, random
        self._tokens, self._pace_s = tokens, pace_s
        self.findings = Findings()
        self._forwarded: set[int] = set()
        self._is_over = False

    async def run(self, requests: int, clients: int) -> Findings:
        """Send so many requests from so many clients, with operators at work, and report."""
        left = iter(range(requests))
        house = self._house
        house.control.visits.subscribe(self._watch_order)
        operators = [asyncio.create_task(self._operate(Random(self._random.random()))) for _ in range(2)]
        try:
            await asyncio.gather(*(self._ask_on(left, Random(self._random.random())) for _ in range(clients)))
        finally:
            self._is_over = True
            await asyncio.gather(*operators)
        await house.own("POST", "release", {"all": True})
        # An answer may be whole at its client a moment before the gateway has put it away.
        await house.until(lambda: not house.control.visits.busy())
        self.findings.left_over = [line.model for line in house.door.lines() if line.in_flight or line.parked]
        return self.findings

    # Clients.

    async def _ask_on(self, left: Any, random: Random) -> None:
        for number in left:
            model = random.choice(self._models)
            stream = random.random() < 0.5
            try:
                reply = await self._house.chat(model, stream=stream, tokens=random.randint(1, self._tokens))
            except Exception as error:  # noqa: BLE001 - whatever a client may meet is a finding
                self.findings.lost.append(f"{number} {model}: {error!r}")
                continue
            self._judge(f"{number} {model}", model, stream, reply)
            self.findings.most_parked = max(self.findings.most_parked, self._house.door.parked)
            if reply.status == 503:
                await asyncio.sleep(random.random() * self._pace_s)

    def _judge(self, label: str, model: str, stream: bool, reply: Reply) -> None:
        found = self.findings
        if reply.status == 503:
            error = reply.error
            found.refused[error["reason"]] += 1
            has_words = model in error["message"] and error["reason"] in REASONS and "retry-after" in reply.headers
            if error["reason"] == "model_held":
                has_words = has_words and "until" in error["message"] and "corral release h" in error["message"]
            if not has_words:
                found.unexplained.append(f"{label}: {reply.body!r}")
            return
        if reply.status != 200:
            found.lost.append(f"{label}: {reply.status} {reply.body[:200]!r}")
            return
        found.answered += 1
        if stream and not reply.body.endswith(b"data: [DONE]\n\n"):
            found.cut.append(f"{label}: {reply.body[-100:]!r}")
            return
        document = json.loads(reply.body.split(b"\n")[0].removeprefix(b"data: ") if stream else reply.body)
        if document["model"] != model:
            found.wrong.append(f"{label}: {document['model']}")

    def _watch_order(self) -> None:
        """Of one model, nobody who came later is let on before one who still waits."""
        waiting: dict[str, int] = {}
        for visit in self._house.control.visits:
            if visit.model is None or visit.route.kind != WORK:
                continue
            if visit.forwarded_at is None:
                waiting.setdefault(visit.model, visit.id)
            elif visit.id not in self._forwarded:
                self._forwarded.add(visit.id)
                self._check_order(visit, waiting)

    def _check_order(self, visit: Visit, waiting: dict[str, int]) -> None:
        first = waiting.get(visit.model or "")
        if first is not None:
            self.findings.out_of_order.append(f"{visit.id} before {first} of {visit.model}")

    # Operators.

    async def _operate(self, random: Random) -> None:
        deeds = (self._hold, self._unload_all, self._unload_all, self._unload, self._eject, self._pin, self._load)
        while not self._is_over:
            deed = random.choice(deeds)
            self.findings.deeds[deed.__name__.lstrip("_")] += 1
            await deed(random)
            await asyncio.sleep(random.random() * self._pace_s)

    async def _hold(self, random: Random) -> None:
        """Held models are not loaded by anybody from when the hold is told until it is released."""
        names = random.sample(list(self._models), random.randint(1, 3))
        asked: dict[str, Any] = {"models": names} if random.random() < 0.9 else {"all": True}
        asked |= {"duration_s": random.choice((20, 600)), "reason": "storm", "unload": random.random() < 0.5}
        held = await self._house.own("POST", "hold", asked | {"grace_s": 5})
        covered = list(self._models) if "all" in asked else names
        before = {model: self._count_loads(model) for model in covered if model not in held["unsettled"]}
        await asyncio.sleep(random.random() * self._pace_s * 4)
        for model, count in before.items():
            loads = self._count_loads(model) - count
            if loads:
                self.findings.loads_while_held.append(f"{model}: {loads}")
        await self._house.own("POST", "release", {"holds": [held["hold"]["id"]]})

    async def _unload_all(self, random: Random) -> None:
        reply = await self._house.ask("POST", "/models/unload-all", {"grace_s": 10})
        assert reply.status == 200, reply.body

    async def _unload(self, random: Random) -> None:
        names = random.sample(list(self._models), 2)
        await self._house.own("POST", "unload", {"models": names, "grace_s": random.choice((0, 1, 10))})

    async def _eject(self, random: Random) -> None:
        reply = await self._house.ask("POST", "/models/unload", {"model": random.choice(self._models)})
        assert reply.status in (200, 409), reply.body

    async def _pin(self, random: Random) -> None:
        names = random.sample(list(self._models), 1)
        await self._house.own("POST", "pin", {"models": names})
        await asyncio.sleep(random.random() * self._pace_s * 4)
        await self._house.own("POST", "unpin", {"models": names})

    async def _load(self, random: Random) -> None:
        with suppress(AssertionError):
            await self._house.own("POST", "load", {"models": [random.choice(self._models)]})
