"""One line of a diagnosis, and the words that lines share."""

from __future__ import annotations

from corral.wire import Record, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

OK = "ok"
WARN = "warn"
FAIL = "fail"
LEVELS = (OK, WARN, FAIL)

_FEW = 3


class Finding(Record):
    """What one check found."""

    check: str
    """The check's name: one lower-case word."""
    level: str
    """``ok``; ``warn``: works, but look at it; ``fail``: does not work."""
    seen: str
    """What was seen, in whole sentences that are safe to print."""
    do: str = ""
    """The next step, one sentence; empty when there is nothing to do."""


def ok(check: str, seen: str, do: str = "") -> Finding:
    """A finding that all is well."""
    return Finding(check, OK, seen, do)


def warn(check: str, seen: str, do: str) -> Finding:
    """A finding that deserves a look."""
    return Finding(check, WARN, seen, do)


def fail(check: str, seen: str, do: str) -> Finding:
    """A finding that something does not work."""
    return Finding(check, FAIL, seen, do)


def end_sentence(text: str) -> str:
    """The text with a full stop, where it has none yet."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def name_some(names: Sequence[str], limit: int = _FEW) -> str:
    """The first few names, safe to print, and how many more there are."""
    shown = ", ".join(show_name(name, 40) for name in names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


def tell_count(number: int, noun: str, nouns: str = "") -> str:
    """``no models``, ``1 model``, ``2 models``."""
    return f"{number or 'no'} {noun if number == 1 else nouns or noun + 's'}"


def tell_bytes(amount: int | None) -> str:
    """``3.2 GiB``, ``512 MiB``; a word where the amount is not known."""
    if amount is None:
        return "an unknown amount"
    if amount >= 1 << 30:
        return f"{amount / (1 << 30):.1f} GiB"
    return f"{amount / (1 << 20):.0f} MiB" if amount >= 1 << 20 else f"{amount / 1024:.0f} KiB"


def tell_duration(seconds: float) -> str:
    """``40 s``, ``3 min``, ``2.5 h``, ``4 days``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.0f} days"
