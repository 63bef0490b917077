"""The verbs as pure state machines, and their rules: select, plan, unload and verify, load, wait. No I/O, no clock."""

from corral.ops.load import Load
from corral.ops.outcome import (
    KILLED_WHILE_LOADING,
    LoadProgress,
    LoadReport,
    Outcome,
    Requested,
    UnloadReport,
    Waiting,
    WaitReport,
)
from corral.ops.plan import KILLING_WHILE_LOADING, PlannedUnload, plan_unload
from corral.ops.protocol import (
    Answered,
    Done,
    Heard,
    Listed,
    Listen,
    Look,
    LookFailed,
    Say,
    Send,
    StreamLost,
    StreamOpened,
    Tick,
    Unsent,
    WakeAt,
)
from corral.ops.selection import Selection, check_selection, explain_unknown, find_models, select, suggest
from corral.ops.unload import Unload
from corral.ops.waiting import STATES, WaitFor

__all__ = [
    "KILLED_WHILE_LOADING",
    "KILLING_WHILE_LOADING",
    "STATES",
    "Answered",
    "Done",
    "Heard",
    "Listed",
    "Listen",
    "Load",
    "LoadProgress",
    "LoadReport",
    "Look",
    "LookFailed",
    "Outcome",
    "PlannedUnload",
    "Requested",
    "Say",
    "Selection",
    "Send",
    "StreamLost",
    "StreamOpened",
    "Tick",
    "Unload",
    "UnloadReport",
    "Unsent",
    "WaitFor",
    "WaitReport",
    "Waiting",
    "WakeAt",
    "check_selection",
    "explain_unknown",
    "find_models",
    "plan_unload",
    "select",
    "suggest",
]
