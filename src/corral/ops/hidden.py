"""Models that the list hides (``dedup-cache-models``), as far as the event stream tells of them.

They can be asked for and hold memory like any other. One that came up before the stream was open is not known.
"""

from __future__ import annotations

from corral.wire import DEFAULT_STOP_TIMEOUT_S, Listing, Model

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.wire import Event


class HiddenModels:
    """Those that came up since the stream is open, and what became of them."""

    def __init__(self) -> None:
        self._statuses: dict[str, str] = {}

    def hear(self, event: Event, listing: Listing) -> None:
        """The stream told a status."""
        if event.status is None:
            return
        begins = event.status == "loading" and listing.find(event.model) is None
        if begins or event.model in self._statuses:
            self._statuses[event.model] = event.status

    def forget(self) -> None:
        """The stream broke: what is known may no longer be so."""
        self._statuses.clear()

    def add_to(self, listing: Listing) -> Listing:
        """The list with those that it lacks; a model that is in it is none of them."""
        if not self._statuses:
            return listing
        for model in listing.models:
            self._statuses.pop(model.id, None)
        hidden = (
            Model(name, status, (), (), None, None, DEFAULT_STOP_TIMEOUT_S, {})
            for name, status in self._statuses.items()
        )
        return Listing((*listing.models, *hidden), listing.has_events, listing.unreadable)
