"""What is said of an unload as a whole, once each of its models has its outcome."""

from __future__ import annotations

from corral.ops import outcome as words
from corral.ops.outcome import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from corral.ops.proof import Proof
    from corral.wire import Listing, Model

_CAME_UP = "it was not resident at first, and something asked for it meanwhile"


def find_newcomers(outcomes: Sequence[Outcome], listing: Listing, meant: Iterable[Model]) -> list[Outcome]:
    """The outcomes, and those of models that came up while others went: they were meant, and are resident now."""
    resident = {model.id: model for model in listing.models if model.is_resident}
    told = []
    for item in outcomes:
        is_new = item.outcome == words.ALREADY_UNLOADED and item.model in resident
        told.append(_tell_newcomer(resident[item.model]) if is_new else item)
    known = {item.model for item in outcomes}
    return told + [_tell_newcomer(model) for model in meant if model.id in resident and model.id not in known]


def tell_verified(outcomes: Iterable[Outcome], proof: Proof) -> str | None:
    """How far what was unloaded is verified; None when nothing was."""
    unloaded = [item.model for item in outcomes if item.outcome in (words.UNLOADED, words.NOT_SEEN_FREE)]
    if not unloaded:
        return None
    return words.BY_MEMORY if all(map(proof.is_seen, unloaded)) else words.BY_STATUS


def _tell_newcomer(model: Model) -> Outcome:
    return Outcome(model.id, words.CAME_BACK, model.status, detail=_CAME_UP)
