"""What is wrong, what is odd, and what to do: facts in, findings out. No I/O, no clock.

``CHECKS`` is the list of all checks in the order of their lines. A check is a function of the facts that yields
findings: none where it has nothing to say. A new one needs its function, a place in the list and a row in the tests.
"""

from corral.ops.diagnosis.diagnose import CHECKS, diagnose
from corral.ops.diagnosis.facts import (
    FAILING,
    FOREIGN,
    LOCKED,
    MISPLACED,
    NOTHING,
    ROUTER,
    SINGLE,
    STARTING,
    Answer,
    Elsewhere,
    Facts,
    Folder,
    Host,
    Kept,
    KeptFile,
    Surroundings,
)
from corral.ops.diagnosis.finding import FAIL, LEVELS, OK, WARN, Finding, tell_bytes
from corral.ops.diagnosis.machine import count_held

__all__ = [
    "CHECKS",
    "FAIL",
    "FAILING",
    "FOREIGN",
    "LEVELS",
    "LOCKED",
    "MISPLACED",
    "NOTHING",
    "OK",
    "ROUTER",
    "SINGLE",
    "STARTING",
    "WARN",
    "Answer",
    "Elsewhere",
    "Facts",
    "Finding",
    "Folder",
    "Host",
    "Kept",
    "KeptFile",
    "Surroundings",
    "count_held",
    "diagnose",
    "tell_bytes",
]
