"""Who is being answered now: the one registry of requests that passed through. One writer, the proxy's handler.

A visit is opened when the request has been read, forwarded when it was let through to the router, and closed when it
is over, whichever way. What is in flight at a model is what was forwarded and not closed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

from corral.wire.attribution import Route

_MAX_ENDS = 10_000
_MAX_CONVERSATIONS = 10_000


class Visit:
    """One client's request. Times are of the event loop's clock."""

    __slots__ = (
        "arrived_at",
        "autoload",
        "client",
        "conversation",
        "ended_at",
        "first_byte_at",
        "forwarded_at",
        "id",
        "key_label",
        "method",
        "model",
        "named",
        "path",
        "route",
        "size",
        "task",
        "user_agent",
    )

    def __init__(self, id: int, method: str, path: str, route: Route, client: str, arrived_at: float) -> None:  # noqa: A002 - it is one
        self.id = id
        self.method = method
        self.path = path
        """Decoded, without query and without the router's prefix."""
        self.route = route
        self.client = client
        """``127.0.0.1:5432`` or ``unix pid 123``."""
        self.arrived_at = arrived_at
        self.named: str | None = None
        """The model as the client wrote it; None when the request names none that can be read."""
        self.model: str | None = None
        """The model's id, an alias resolved; None when it cannot be attributed or is about no model."""
        self.conversation: str | None = None
        self.user_agent = ""
        self.key_label = ""
        """Which key the client showed; empty where none was asked for."""
        self.task = ""
        """Open WebUI's word for a background task, as ``title_generation``; empty for a chat."""
        self.autoload: bool | None = None
        """Whether the client lets the router load the model for it; None where it does not say."""
        self.size = 0
        """Bytes of the body, which are kept while the request waits."""
        self.forwarded_at: float | None = None
        self.first_byte_at: float | None = None
        self.ended_at: float | None = None

    @property
    def counts(self) -> bool:
        """Whether it is in flight at its model while it lasts, and its end is the model's last use."""
        return self.route.counts

    @property
    def is_in_flight(self) -> bool:
        """Whether the router has it and it has not ended."""
        return self.forwarded_at is not None and self.ended_at is None


class Visits:
    """All visits that are open, and when each model was last used."""

    def __init__(self) -> None:
        self._open: dict[int, Visit] = {}
        self._by_model: dict[str, dict[int, Visit]] = {}
        self._ends: OrderedDict[str, float] = OrderedDict()
        self._conversations: OrderedDict[str, str] = OrderedDict()
        self._callbacks: list[Callable[[], None]] = []
        self._unattributed = 0

    def __iter__(self) -> Iterator[Visit]:
        """Every open visit, parked ones too, in order of arrival."""
        return iter(list(self._open.values()))

    def __len__(self) -> int:
        return len(self._open)

    def open(self, visit: Visit) -> None:
        """A request has been read."""
        self._open[visit.id] = visit
        self._tell()

    def forward(self, visit: Visit, now: float) -> None:
        """It was let through: from now on it is in flight."""
        visit.forwarded_at = now
        if visit.counts:
            if visit.model is None:
                self._unattributed += 1
            else:
                self._by_model.setdefault(visit.model, {})[visit.id] = visit
                if visit.conversation is not None:
                    _remember(self._conversations, visit.conversation, visit.model, _MAX_CONVERSATIONS)
        self._tell()

    def first_byte(self, visit: Visit, now: float) -> None:
        """The router has begun to answer."""
        visit.first_byte_at = now

    def close(self, visit: Visit, now: float) -> None:
        """It is over; closing it once more does nothing."""
        if self._open.pop(visit.id, None) is None:
            return
        visit.ended_at = now
        if visit.forwarded_at is not None and visit.counts:
            if visit.model is None:
                self._unattributed -= 1
            else:
                same = self._by_model[visit.model]
                del same[visit.id]
                if not same:
                    del self._by_model[visit.model]
                _remember(self._ends, visit.model, now, _MAX_ENDS)
        self._tell()

    def in_flight(self, model: str) -> int:
        """How many requests the router is answering with this model."""
        return len(self._by_model.get(model, ()))

    @property
    def in_flight_unattributed(self) -> int:
        """How many requests for some model or other are being answered that cannot be attributed to one."""
        return self._unattributed

    def of(self, model: str) -> list[Visit]:
        """The requests in flight at a model, in order of their forwarding."""
        return list(self._by_model.get(model, {}).values())

    def busy(self) -> dict[str, int]:
        """The models that are answering now, and how many requests each."""
        return {model: len(visits) for model, visits in self._by_model.items()}

    def last_ended_at(self, model: str) -> float | None:
        """When the last request to the model ended; None when none was seen."""
        return self._ends.get(model)

    def model_of(self, conversation: str) -> str | None:
        """The model that a conversation was last sent to; None when that was not through here."""
        return self._conversations.get(conversation)

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call back, on the same loop, after every change of what is open or in flight."""
        self._callbacks.append(callback)

    def _tell(self) -> None:
        for callback in self._callbacks:
            callback()


def _remember(memory: OrderedDict[str, float] | OrderedDict[str, str], key: str, value: float | str, most: int) -> None:
    """Keep the latest, forget the oldest."""
    memory[key] = value  # type: ignore[assignment]  # of the kind that the memory holds
    memory.move_to_end(key)
    if len(memory) > most:
        memory.popitem(last=False)
