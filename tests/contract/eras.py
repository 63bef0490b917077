"""What the contract expects of each build: the few things that differ, in one table.

``CORRAL_LIVE_BUILD`` (9093, 10240 or 11434) says which build the live server is; the simulator plays the same one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Expected:
    """What differs between builds."""

    era: str
    has_events: bool = True
    has_architecture: bool = True
    invalid_json_status: int = 400
    list_is_public: bool = False
    reloads_stopping: bool = True
    refuses_when_all_busy: bool = True
    wakes_through_loading: bool = True
    never_run_exit_code: int | None = None
    counts_reliably: bool = True
    """``/metrics`` of a busy child always answers; else it may fail, or even stall the child's next request."""
    notices_quick_failures: bool = True
    """A load whose child ends at once is always listed as failed; else it may stay ``loading`` until it is unloaded."""


_TABLE = {
    "11434": Expected("b11434"),
    "10240": Expected(
        "b10240", invalid_json_status=500, list_is_public=True, reloads_stopping=False, refuses_when_all_busy=False
    ),
    "9093": Expected(
        "b9093",
        has_events=False,
        has_architecture=False,
        invalid_json_status=500,
        list_is_public=True,
        reloads_stopping=False,
        refuses_when_all_busy=False,
        wakes_through_loading=False,
        never_run_exit_code=10,
        counts_reliably=False,
        notices_quick_failures=False,
    ),
}

EXPECTED = _TABLE[os.environ.get("CORRAL_LIVE_BUILD", "11434")]
"""What this run expects."""
