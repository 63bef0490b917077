"""NVIDIA cards as the driver's library (NVML) describes them, through the package ``nvidia-ml-py``.

Written from the NVML reference and the package's source; it was not run on a card.

A process shows under compute (CUDA) or under graphics (Vulkan), so both lists are read and united. Its amount is
None under WSL, and under MIG without rights. A card in MIG mode is told by its parts.
"""

from __future__ import annotations

from corral.machine.readings import Card, CardsUnreadableError, Use

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MIG_IS_ON = 1
_LISTS = ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses")


def load_library() -> Any:
    """The module ``pynvml``, not yet started; raises CardsUnreadableError when it is missing."""
    try:
        import pynvml
    except ImportError:
        raise CardsUnreadableError("the package nvidia-ml-py is not installed") from None
    return pynvml


def start(library: Any) -> None:
    """Connect to the driver, once for the life of this process."""
    _, error = _ask(library, "nvmlInit")
    if error:
        raise CardsUnreadableError(f"NVML: {error}")


def read_cards(library: Any) -> list[Card]:
    """Every card that the driver shows; raises CardsUnreadableError when it shows none of them."""
    count, error = _ask(library, "nvmlDeviceGetCount")
    if not isinstance(count, int):
        raise CardsUnreadableError(f"NVML: {error}")
    cards: list[Card] = []
    for index in range(count):
        handle, error = _ask(library, "nvmlDeviceGetHandleByIndex", index)
        if error:
            cards.append(Card(f"nvidia:{index}", "NVIDIA", reason=error))
        else:
            cards += _read_parts(library, handle, index) or [_read_card(library, handle, f"nvidia:{index}")]
    return cards


def _read_parts(library: Any, card: Any, index: int) -> list[Card]:
    """The parts of a card in MIG mode; nothing for a whole card, or when no part may be seen."""
    mode, _ = _ask(library, "nvmlDeviceGetMigMode", card)
    if not isinstance(mode, (list, tuple)) or not mode or mode[0] != _MIG_IS_ON:
        return []
    count, _ = _ask(library, "nvmlDeviceGetMaxMigDeviceCount", card)
    parts = []
    for number in range(count if isinstance(count, int) else 0):
        part, error = _ask(library, "nvmlDeviceGetMigDeviceHandleByIndex", card, number)
        if not error:
            parts.append(_read_card(library, part, f"nvidia:{index}:{number}"))
    return parts


def _read_card(library: Any, handle: Any, card_id: str) -> Card:
    name, _ = _ask(library, "nvmlDeviceGetName", handle)
    memory, no_memory = _ask(library, "nvmlDeviceGetMemoryInfo", handle)
    uses, no_uses = _read_uses(library, handle)
    total, used, free = (_as_size(getattr(memory, part, None)) for part in ("total", "used", "free"))
    reasons = [f"memory: {no_memory}"] * bool(no_memory) + [f"processes: {no_uses}"] * bool(no_uses)
    return Card(card_id, _as_text(name) or "NVIDIA", total, used, free, uses, "; ".join(reasons))


def _read_uses(library: Any, handle: Any) -> tuple[tuple[Use, ...] | None, str]:
    """Who uses a card, by both lists, and why a list is missing; None when both are."""
    found: dict[int, Use] = {}
    errors = []
    for name in _LISTS:
        processes, error = _ask(library, name, handle)
        if error:
            # The newest form of this question is unknown to drivers from before 2021.
            processes, error = _ask(library, f"{name}_v2", handle)
        if error:
            errors.append(error)
        for process in processes if isinstance(processes, (list, tuple)) else ():
            pid, used = getattr(process, "pid", None), _as_size(getattr(process, "usedGpuMemory", None))
            if isinstance(pid, int):
                before = found.get(pid)
                known = [one for one in (used, before.used_bytes if before else None) if one is not None]
                found[pid] = Use(pid, max(known) if known else None)
    return None if len(errors) == len(_LISTS) else tuple(found.values()), "; ".join(dict.fromkeys(errors))


def _ask(library: Any, name: str, *arguments: Any) -> tuple[Any, str]:
    """What a function of the library gives, and the error that it raised instead."""
    try:
        return getattr(library, name)(*arguments), ""
    except Exception as error:  # noqa: BLE001 - its errors are of many kinds, and one figure must not hide the others
        return None, str(error) or type(error).__name__


def _as_size(value: object) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _as_text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value if isinstance(value, str) else ""
