"""What an unload would do to each model, and why: the same plan is shown by ``--dry-run`` and carried out."""

from __future__ import annotations

from corral.ops.selection import Selection, find_spared, select
from corral.wire import Listing, Model, Record

UNLOAD = "unload"
WAIT_THEN_UNLOAD = "wait_then_unload"
KILL = "kill"
CANCEL_DOWNLOAD = "cancel_download"
LEAVE = "leave"

KILLING_WHILE_LOADING = (
    "killing a model that is loading can leave the router's load queue stuck, so that no model loads on demand; "
    "the cure is to load that model once: corral load NAME"
)
"""What ``--now`` can do, measured on b11434, and the cure."""


class PlannedUnload(Record):
    """What would be done to one model."""

    model: Model
    action: str
    reason: str


def plan_unload(listing: Listing, selection: Selection, *, at_once: bool) -> list[PlannedUnload]:
    """Plan the unload of what was selected; with ``all`` only what is resident appears.

    Raises BadArgumentError and UnknownModelError as ``select`` does.
    """
    named = bool(selection.names)
    planned = [_plan_one(model, at_once) for model in select(listing, selection) if named or model.is_resident]
    # The unload call of a download blocks until the download has ended, so it goes last.
    return sorted(planned, key=lambda item: item.action == CANCEL_DOWNLOAD)


def plan_spared(listing: Listing, selection: Selection) -> list[PlannedUnload]:
    """The resident models that the selection leaves alone because they are pinned."""
    reason = "it is pinned; --include-pinned takes it"
    return [PlannedUnload(model, LEAVE, reason) for model in find_spared(listing, selection)]


def _plan_one(model: Model, at_once: bool) -> PlannedUnload:
    if model.status == "downloading":
        return PlannedUnload(model, CANCEL_DOWNLOAD, "its download is stopped")
    if not model.is_resident:
        return PlannedUnload(model, LEAVE, "it is not resident")
    if model.status != "loading":
        return PlannedUnload(model, UNLOAD, f"it is {model.status}")
    if at_once:
        return PlannedUnload(model, KILL, KILLING_WHILE_LOADING)
    return PlannedUnload(model, WAIT_THEN_UNLOAD, "it is loading, and killing it there can hang the router")
