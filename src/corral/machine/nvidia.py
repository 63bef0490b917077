"""NVIDIA devices: whichever way of asking the driver works, and which process is whose.

The driver names processes by number. Old drivers give the host's numbers even inside a container, newer ones those of
the caller's namespace and leave out all others; so outside the first namespace a number counts only if that process
has an NVIDIA device open, and a process that is not named may hold memory all the same.

Source: ``_gpuConvertPid`` and ``os_find_ns_pid`` in NVIDIA's open kernel modules.
"""

from __future__ import annotations

import os

from corral.machine import nvidia_smi, nvml
from corral.machine.devices import WSL_DEVICE, has_nvidia_driver
from corral.machine.procfs import list_open_files, read_link, read_stat
from corral.machine.readings import Card, CardsUnreadableError, Reading
from corral.ops.measurement import Device, Holder, Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from typing import Any

    from corral.machine.readings import Use

_FIRST_NAMESPACE = "pid:[4026531836]"
"""The number is a constant of the kernel, ``PROC_PID_INIT_INO``."""
_NOT_NAMED = "the driver does not name every process to this container or system"


class Nvidia:
    """Reads NVIDIA devices.

    Parameters:
        proc, dev: the roots of the trees.
        load: gives the module ``pynvml``, or raises CardsUnreadableError.
        run: gives what a command prints, or raises CardsUnreadableError.
    """

    def __init__(
        self,
        *,
        proc: str = "/proc",
        dev: str = "/dev",
        load: Callable[[], Any] = nvml.load_library,
        run: Callable[[Sequence[str]], str] = nvidia_smi.run_tool,
    ) -> None:
        self._proc, self._dev, self._load, self._run = proc, dev, load, run
        self._library: Any = None

    def read(self, children: Collection[int]) -> Reading:
        """Look at all cards; ``children`` are the pids for which it matters whether they are told."""
        if not has_nvidia_driver(self._proc, self._dev):
            return Reading()
        try:
            cards = self._read_cards()
        except CardsUnreadableError as error:
            unknown = frozenset(pid for pid in children if self._touches(pid) is not False)
            return Reading((), unknown, f"NVIDIA devices cannot be read: {error}")
        is_all = self._names_all(cards)
        named = {use.pid for card in cards for use in card.uses or ()}
        unknown = frozenset(pid for pid in children if not self._is_told(pid, named, is_all=is_all))
        reasons = dict.fromkeys([card.reason for card in cards if card.reason] or [_NOT_NAMED])
        return Reading(tuple(map(self._describe, cards)), unknown, "; ".join(reasons))

    def _read_cards(self) -> list[Card]:
        """By the library; where it does not work by the program; the error names what both lack."""
        try:
            if self._library is None:
                library = self._load()
                nvml.start(library)
                self._library = library
            return nvml.read_cards(self._library)
        except CardsUnreadableError as first:
            try:
                return nvidia_smi.read_cards(self._run)
            except CardsUnreadableError as second:
                raise CardsUnreadableError(f"{first}; {second}") from None

    def _names_all(self, cards: Sequence[Card]) -> bool:
        is_first = read_link(f"{self._proc}/self/ns/pid") == _FIRST_NAMESPACE
        is_wsl = os.path.exists(f"{self._dev}/{WSL_DEVICE}")
        return is_first and not is_wsl and not any(card.uses is None or card.reason for card in cards)

    def _is_told(self, pid: int, named: Collection[int], *, is_all: bool) -> bool:
        """Whether what the driver says of a process, or that it says nothing, is the truth about it."""
        return pid in named or is_all or self._touches(pid) is False

    def _touches(self, pid: int) -> bool | None:
        """Whether a process has an NVIDIA device open; None when its open files may not be read."""
        files = list_open_files(self._proc, pid)
        if files is None:
            return None
        return any(target.startswith(("/dev/nvidia", f"/dev/{WSL_DEVICE}")) for _, target in files)

    def _describe(self, card: Card) -> Device:
        holders = None if card.uses is None else tuple(map(self._find_holder, card.uses))
        sizes = (card.total_bytes, card.used_bytes, card.free_bytes)
        return Device(card.id, card.name, *sizes, holders, card.reason)

    def _find_holder(self, use: Use) -> Holder:
        """Who that is; a number that is another process's here keeps the name that the driver gave."""
        stat = read_stat(self._proc, use.pid)
        is_ours = stat is not None and self._touches(use.pid) is not False
        return Holder(stat.process if stat is not None and is_ours else Process(use.pid, 0, use.name), use.used_bytes)
