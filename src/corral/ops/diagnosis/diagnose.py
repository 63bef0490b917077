"""All checks, in the order of their lines."""

from __future__ import annotations

from corral.ops.diagnosis.exposure import check_command_line, check_network, check_pages
from corral.ops.diagnosis.facts import Facts
from corral.ops.diagnosis.finding import Finding
from corral.ops.diagnosis.machine import check_clients, check_devices, check_memory, check_orphans
from corral.ops.diagnosis.path import check_address, check_elsewhere, check_key, check_router
from corral.ops.diagnosis.service import (
    check_autoload,
    check_build,
    check_models,
    check_queue,
    check_room,
    check_scrapers,
)
from corral.ops.diagnosis.surroundings import check_clock, check_key_files, check_promises, check_state, check_versions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CHECKS: tuple[Callable[[Facts], Iterable[Finding]], ...] = (
    check_address,
    check_router,
    check_elsewhere,
    check_key,
    check_command_line,
    check_build,
    check_models,
    check_autoload,
    check_room,
    check_queue,
    check_clients,
    check_scrapers,
    check_pages,
    check_network,
    check_memory,
    check_devices,
    check_orphans,
    check_clock,
    check_state,
    check_promises,
    check_key_files,
    check_versions,
)


def diagnose(facts: Facts) -> tuple[Finding, ...]:
    """Run every check on the facts; the findings in the order of ``CHECKS``."""
    return tuple(finding for check in CHECKS for finding in check(facts))
