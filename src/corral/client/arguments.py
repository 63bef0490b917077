"""What a caller may hand over: the checks that both clients make before anything is sent.

A mistake here could do far more than was meant: ``match="qwen*"`` taken letter by letter holds a ``*``, which is
every model; a time limit that is no number never ends. So each is refused, with what to write instead.
"""

from __future__ import annotations

from corral.wire import BadArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.client.settings import Timeouts

MAX_SECONDS = 366 * 86400.0
"""The longest limit that is taken, as on the command line; there is no "for ever"."""


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names of models that a method takes one by one; BadArgumentError for a list in their place."""
    for name in names:
        if not isinstance(name, str):
            raise BadArgumentError(
                f"A model's name is a text, not {_describe(name)}.",
                "Give the names one by one; a list goes in with a star, as in unload(*names).",
            )
    return tuple(names)


def check_texts(parameter: str, values: Sequence[str]) -> tuple[str, ...]:
    """The values of a parameter that takes several; BadArgumentError for a single text in their place."""
    hint = f'Write {parameter}=["..."], even for a single one.'
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        raise BadArgumentError(f"{parameter} takes a list of texts, not {_describe(values)}.", hint)
    texts = tuple(values)
    for text in texts:
        if not isinstance(text, str):
            raise BadArgumentError(f"{parameter} takes a list of texts, and one of them is {_describe(text)}.", hint)
    return texts


def check_seconds(parameter: str, seconds: float | None, *, least_s: float | None = None) -> float | None:
    """A time limit in seconds, or None as it is.

    Raises BadArgumentError for what is no number, not above zero (``least_s``: not at least that), or over a year;
    infinity is over a year.
    """
    if seconds is None:
        return None
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    # Written so that "not a number", for which every comparison is false, is refused too.
    is_long_enough = is_number and (seconds > 0 if least_s is None else seconds >= least_s)
    if not (is_long_enough and seconds <= MAX_SECONDS):
        bound = "more than 0" if least_s is None else f"at least {least_s:g}"
        raise BadArgumentError(
            f"{parameter} is no time that can be waited for: {_describe(seconds)}.",
            f"Give seconds, {bound} and at most a year, or leave it out for the usual.",
        )
    return float(seconds)


def check_timeouts(timeouts: Timeouts) -> Timeouts:
    """The limits of a call as they are; BadArgumentError names the one that cannot be used."""
    for field in ("connect_s", "read_s", "total_s"):
        check_seconds(field, getattr(timeouts, field))
    return timeouts


def _describe(value: object) -> str:
    """A wrong value in a few words; texts are not shown, since they may be long or secret."""
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 1 << 64):
        return str(value)
    return "a single text" if isinstance(value, str | bytes) else f"a {type(value).__name__}"
