"""The router's event stream, ``GET /models/sse``: what one event says.

The manual names every status event ``model_status``; the code sends ``status_change`` for nearly all. There is
no snapshot, no heartbeat and no replay, so an event is a hint and the list is the truth.

Source: llama.cpp ``tools/server/server-models.cpp``, b9760 to b11434.
"""

from __future__ import annotations

from json import loads

from corral.wire.reading import as_dict, as_int, as_str
from corral.wire.record import Record
from corral.wire.reply import Call, Reply, read_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EVERY_MODEL = "*"


class Event(Record):
    """One thing the router said about a model."""

    model: str
    """The model's id; ``*`` when the event is about the whole list. It may be an id that the list hides."""
    kind: str
    """The router's name for it: ``status_change``, ``model_remove``, ... or one not known yet."""
    status: str | None
    """The new status; None when the event is not about one."""
    progress: float | None
    """How far the current stage of a load has come, 0 to 1; None when not told."""
    stage: str | None
    """What is being loaded, such as ``text_model``; None when not told."""
    exit_code: int | None
    raw: dict[str, Any]


def follow_events() -> Call:
    """Open the event stream; the reply's body never ends by itself."""
    return Call("GET", "/models/sse", _read_stream_refusal)


def read_event(data: str) -> Event | None:
    """Read the data of one server-sent event; None when it is not one of the router's."""
    try:
        document = loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    kind, model = as_str(document, "event"), as_str(document, "model")
    if kind is None or model is None:
        return None
    detail = as_dict(document, "data")
    progress = as_dict(detail, "progress") or as_dict(as_dict(detail, "info"), "progress")
    return Event(
        model,
        kind,
        as_str(detail, "status"),
        _read_fraction(progress.get("value")),
        as_str(progress, "current") or as_str(progress, "stage"),
        as_int(detail, "exit_code"),
        document,
    )


def _read_fraction(value: object) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    return None


def _read_stream_refusal(reply: Reply) -> None:
    read_document(reply)
