"""NVIDIA cards as the program ``nvidia-smi`` prints them, for where ``nvidia-ml-py`` is not installed.

Written from ``nvidia-smi --help-query-gpu`` and ``--help-query-compute-apps``; it was not run on a card. Only compute
processes (CUDA) are printed this way, none that uses Vulkan.
"""

from __future__ import annotations

from corral.machine.readings import Card, CardsUnreadableError, Use

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_FORMAT = "--format=csv,noheader,nounits"
CARDS = ("nvidia-smi", "--query-gpu=index,uuid,name,memory.total,memory.used,memory.free", _FORMAT)
USES = ("nvidia-smi", "--query-compute-apps=gpu_uuid,pid,used_memory,process_name", _FORMAT)
_TIMEOUT_S = 10.0
_MIB = 1 << 20
_PARTIAL = "nvidia-smi names compute processes only; install llama-corral[nvidia] for the others"


def run_tool(command: Sequence[str]) -> str:
    """What a program prints; raises CardsUnreadableError when it is missing, fails or hangs."""
    from subprocess import DEVNULL, TimeoutExpired, run

    try:
        done = run(command, stdin=DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except FileNotFoundError:
        raise CardsUnreadableError(f"{command[0]} is not installed") from None
    except (OSError, TimeoutExpired) as error:
        raise CardsUnreadableError(f"{command[0]}: {error}") from None
    if done.returncode != 0:
        last = (done.stderr + done.stdout).decode(errors="replace").strip().rpartition("\n")[2]
        raise CardsUnreadableError(f"{command[0]} failed: {last or done.returncode}")
    return done.stdout.decode(errors="replace")


def read_cards(run: Callable[[Sequence[str]], str]) -> list[Card]:
    """Every card that the program prints; raises CardsUnreadableError when it prints none."""
    printed = run(CARDS)
    try:
        uses, reason = list(parse_uses(run(USES))), _PARTIAL
    except CardsUnreadableError as error:
        uses, reason = None, str(error)
    return [
        Card(card.id, card.name, card.total_bytes, card.used_bytes, card.free_bytes, _pick(uses, uuid), reason)
        for uuid, card in parse_cards(printed)
    ]


def parse_cards(printed: str) -> Iterator[tuple[str, Card]]:
    """UUID and card, still without processes; lines of another shape are skipped."""
    for line in printed.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) >= 6 and (index := _read_number(fields[0])) is not None:
            total, used, free = map(_read_mib, fields[-3:])
            yield fields[1], Card(f"nvidia:{index}", ",".join(fields[2:-3]), total, used, free)


def parse_uses(printed: str) -> Iterator[tuple[str, Use]]:
    """UUID of the card, and who uses it."""
    for line in printed.splitlines():
        fields = [field.strip() for field in line.split(",", 3)]
        if len(fields) == 4 and (pid := _read_number(fields[1])) is not None:
            yield fields[0], Use(pid, _read_mib(fields[2]), fields[3].rpartition("/")[2])


def _pick(uses: Sequence[tuple[str, Use]] | None, card: str) -> tuple[Use, ...] | None:
    return None if uses is None else tuple(use for uuid, use in uses if uuid == card)


def _read_mib(text: str) -> int | None:
    """A number of MiB; ``[N/A]``, ``[Not Supported]`` and the like are None."""
    number = _read_number(text)
    return None if number is None else number * _MIB


def _read_number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None
