"""A stand-in for the driver's library, with the calls that Corral makes and the answers that its manual describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class FakeError(Exception):
    """An error as the library raises it."""


class Usage:
    """A process on a card, as the library describes one."""

    def __init__(self, pid: Any, used: Any) -> None:
        self.pid, self.usedGpuMemory = pid, used


class Memory:
    """The memory of a card."""

    def __init__(self, total: int, used: int) -> None:
        self.total, self.used, self.free = total, used, total - used


class FakeCard:
    """A card, or a part of one; a field that is an error is raised when it is asked for."""

    def __init__(
        self,
        name: Any = "NVIDIA Test",
        memory: Any = None,
        compute: Any = (),
        graphics: Any = (),
        parts: Sequence[FakeCard | None] | None = None,
    ) -> None:
        self.name, self.memory = name, Memory(1000, 100) if memory is None else memory
        self.compute, self.graphics, self.parts = compute, graphics, parts


class FakeLibrary:
    """The module ``pynvml``; ``missing`` are functions that fail, and how."""

    def __init__(self, *cards: FakeCard, missing: Mapping[str, str] | None = None, broken: str = "") -> None:
        self._cards, self._missing, self._broken = cards, missing or {}, broken
        self.starts = 0

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in self._missing:
            raise FakeError(self._missing[name])
        return super().__getattribute__(name)

    def nvmlInit(self) -> None:  # noqa: N802 - as in the library
        """Connect to the driver."""
        self.starts += 1
        if self._broken:
            raise FakeError(self._broken)

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 - NVML's
        """How many cards there are."""
        return len(self._cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeCard:  # noqa: N802 - NVML's
        """A card."""
        return self._cards[index]

    def nvmlDeviceGetName(self, card: FakeCard) -> Any:  # noqa: N802 - NVML's
        """Its name."""
        return give(card.name)

    def nvmlDeviceGetMemoryInfo(self, card: FakeCard) -> Any:  # noqa: N802 - NVML's
        """Its memory."""
        return give(card.memory)

    def nvmlDeviceGetComputeRunningProcesses(self, card: FakeCard) -> Any:  # noqa: N802 - NVML's
        """Who computes on it."""
        return give(card.compute)

    def nvmlDeviceGetComputeRunningProcesses_v2(self, card: FakeCard) -> Any:  # noqa: N802 - NVML's
        """The same, of an old driver."""
        return give(card.compute)

    def nvmlDeviceGetGraphicsRunningProcesses(self, card: FakeCard) -> Any:  # noqa: N802 - NVML's
        """Who draws on it."""
        return give(card.graphics)

    def nvmlDeviceGetGraphicsRunningProcesses_v2(self, card: FakeCard) -> Any:  # noqa: N802 - NVML's
        """The same, of an old driver."""
        return give(card.graphics)

    def nvmlDeviceGetMigMode(self, card: FakeCard) -> list[int]:  # noqa: N802 - NVML's
        """Whether it is in parts, now and after the next reset."""
        if card.parts is None:
            raise FakeError("Not Supported")
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, card: FakeCard) -> int:  # noqa: N802 - NVML's
        """How many parts it may have."""
        return len(card.parts or ())

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: FakeCard, index: int) -> FakeCard:  # noqa: N802 - NVML's
        """A part."""
        part = (card.parts or ())[index]
        if part is None:
            raise FakeError("Not Found")
        return part


def give(value: Any) -> Any:
    """A value, or the error that stands for it."""
    if isinstance(value, Exception):
        raise value
    return list(value) if isinstance(value, tuple) else value
