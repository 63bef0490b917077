"""Things that go wrong on purpose, as values: what, where, how often.

A fault with a path or a method meets the requests that match (the path without its query); one about a model changes
what that model does. The same faults come from a test, from the constructor, and from the program's ``--fault``.
"""

from __future__ import annotations

from dataclasses import dataclass

REQUEST_FAULTS = {
    "slow": "answer only after SECONDS",
    "hang": "accept the request, never answer",
    "reset-before": "break the connection, do nothing",
    "reset-after": "do what was asked, then break the connection",
    "cut": "promise more bytes than are sent",
    "html": "answer 200 with a web page",
    "huge": "answer 200 with SIZE bytes of white space before the answer",
    "redirect": "answer 302 to LOCATION",
    "status": "answer with the HTTP status CODE",
    "foreign": "answer without the Server header",
}
STREAM_FAULTS = {
    "events-drop": "end the event stream after COUNT events",
    "events-die": "break the event stream after COUNT events",
    "events-silent": "keep the event stream open, send nothing after COUNT events",
}
MODEL_FAULTS = {
    "never-unloads": "the unload is confirmed, the model stays",
    "comes-back": "a client asks for the model SECONDS after each time it is gone",
    "load-fails": "the load ends with the exit code CODE",
    "vanishes": "the model is not listed (COUNT looks; none: until cleared)",
}
FAULTS = {**REQUEST_FAULTS, **STREAM_FAULTS, **MODEL_FAULTS}
"""Every fault and what it does."""

_INTEGERS = {"times", "code", "size", "count"}


@dataclass(frozen=True)
class Fault:
    """One fault; a field that is None matches anything."""

    kind: str
    path: str | None = None
    method: str | None = None
    model: str | None = None
    times: int | None = None
    """How many requests it meets before it is over; None: all of them."""
    seconds: float = 0.5
    code: int | None = None
    """HTTP status (None: 500) or exit code (None: 1)."""
    size: int = 64 << 20
    count: int | None = None
    location: str = "http://127.0.0.1:9/elsewhere"

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise ValueError(f"Unknown fault {self.kind!r}; known: {', '.join(FAULTS)}")
        if self.kind in MODEL_FAULTS and self.model is None:
            raise ValueError(f"The fault {self.kind!r} needs a model")


def parse_fault(text: str) -> Fault:
    """Read ``KIND`` or ``KIND:key=value,key=value``; raises ValueError."""
    kind, _, rest = text.partition(":")
    values: dict[str, str | int | float] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals or key not in Fault.__dataclass_fields__ or key == "kind":
            raise ValueError(f"{part!r} in fault {text!r} is not KEY=VALUE with a known key")
        values[key] = int(value) if key in _INTEGERS else float(value) if key == "seconds" else value
    return Fault(kind, **values)  # type: ignore[arg-type]  # checked key by key


class FaultBox:
    """The faults in force; counts down those that are limited."""

    def __init__(self, faults: tuple[Fault, ...] = ()) -> None:
        self._left: list[list[object]] = []
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        """Put a fault in force, after those that are."""
        self._left = [*self._left, [fault, fault.times]]

    def clear(self) -> None:
        """End all faults."""
        self._left = []

    def take(self, kinds: dict[str, str], method: str, path: str) -> Fault | None:
        """The first fault of these kinds that meets this request, used up by one; None when there is none."""
        for item in self._left:
            fault, left = item
            assert isinstance(fault, Fault)
            if fault.kind not in kinds or left == 0:
                continue
            if fault.path not in (None, path) or fault.method not in (None, method):
                continue
            if isinstance(left, int):
                item[1] = left - 1
            return fault
        return None

    def find(self, kind: str, model: str) -> Fault | None:
        """The fault of this kind about this model; None when there is none."""
        for fault, _ in self._left:
            if isinstance(fault, Fault) and fault.kind == kind and fault.model == model:
                return fault
        return None

    def hides(self, model: str) -> bool:
        """Whether a look at the list misses this model now; counts as one look."""
        for item in self._left:
            fault = item[0]
            if isinstance(fault, Fault) and fault.kind == "vanishes" and fault.model == model:
                if fault.count is None:
                    return True
                seen = item[1] if isinstance(item[1], int) else fault.count
                item[1] = seen - 1
                return seen > 0
        return False
