"""What both clients refuse before a request goes out: one text for several, and times that cannot be waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from corral.client import Timeouts
from corral.sim import ModelSpec, simulate
from corral.wire import BadArgumentError
from tests.support.clients import Use

MODELS = (ModelSpec("qwen", status="loaded", tags=("t",)), ModelSpec("gemma", status="loaded"))
NOT_SEVERAL: dict[str, Callable[[Any], Any]] = {
    "match": lambda router: router.unload_all(match="qwen*"),
    "match as bytes": lambda router: router.unload_all(match=b"qwen*"),
    "tags": lambda router: router.unload_all(tags="t"),
    "keep": lambda router: router.unload_all(keep="qwen"),
    "keep of numbers": lambda router: router.unload_all(keep=[1]),
    "keep is nothing": lambda router: router.unload_all(keep=None),
    "unload of a list": lambda router: router.unload(["qwen", "gemma"]),
    "load of a list": lambda router: router.load(["qwen"]),
    "wait for a list": lambda router: router.wait(["qwen"], state="loaded"),
    "unload of a number": lambda router: router.unload("qwen", 7),
}
NO_TIMES = [float("nan"), float("inf"), -1.0, float("-inf"), 1e9, "5", True, 10**400]


@pytest.mark.parametrize("name", NOT_SEVERAL)
def test_one_text_is_not_several(use: Use, name: str) -> None:
    """One text where several belong, or a list where names belong, is refused with what to write; nothing is sent."""
    with simulate(models=MODELS) as sim:
        with pytest.raises(BadArgumentError) as caught:
            use(sim.url, NOT_SEVERAL[name])

        assert caught.value.hint
        assert sim.request_log == []


def test_any_kind_of_several_is_taken(use: Use) -> None:
    """Lists, tuples, sets and generators of texts are all several."""
    with simulate(models=MODELS) as sim:
        report = use(sim.url, lambda router: router.unload_all(match={"q*"}, tags=("t",), keep=(n for n in ["gemma"])))

        assert [item.model for item in report.outcomes] == ["qwen"]


@pytest.mark.parametrize("seconds", [*NO_TIMES, 0], ids=repr)
def test_time_limits_that_cannot_be_waited_for(use: Use, seconds: Any) -> None:
    """A verb's limit is a number above zero, and at most a year: all else is refused before anything is sent."""
    verbs: list[Callable[[Any], Any]] = [
        lambda router: router.unload("qwen", timeout_s=seconds),
        lambda router: router.unload_all(timeout_s=seconds),
        lambda router: router.load("qwen", timeout_s=seconds),
        lambda router: router.wait("qwen", state="loaded", timeout_s=seconds),
    ]
    with simulate(models=MODELS) as sim:
        for verb in verbs:
            with pytest.raises(BadArgumentError, match="timeout_s"):
                use(sim.url, verb)
        assert sim.request_log == []


@pytest.mark.parametrize("seconds", NO_TIMES, ids=repr)
def test_grace_that_cannot_be_waited_for(use: Use, seconds: Any) -> None:
    """A grace is checked like a limit, and may be zero."""
    with simulate(models=MODELS) as sim:
        for verb in (
            lambda router: router.unload("qwen", grace_s=seconds),
            lambda router: router.unload_all(grace_s=seconds),
        ):
            with pytest.raises(BadArgumentError, match="grace_s"):
                use(sim.url, verb)
        assert sim.request_log == []
        assert use(sim.url, lambda router: router.unload("qwen", grace_s=0)).ok


@pytest.mark.parametrize("field", ["connect_s", "read_s", "total_s"])
@pytest.mark.parametrize("seconds", [*NO_TIMES, 0], ids=repr)
def test_limits_of_a_call_are_checked(use: Use, field: str, seconds: Any) -> None:
    """The limits of a single call are checked when the client is made; None is no limit."""
    with pytest.raises(BadArgumentError, match=field):
        use("http://127.0.0.1:9", lambda router: router.list_models(), timeouts=Timeouts(**{field: seconds}))
    with simulate(models=MODELS) as sim:
        assert use(sim.url, lambda router: router.list_models(), timeouts=Timeouts(**{field: None})).models
