"""The clocks and the names that go into the ledger, read from the system."""

from __future__ import annotations

import os
import time

from corral.ops.promises import Moment, Owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def read_moment(root: str = "/") -> Moment:
    """Now, by the wall clock and, where there is one, by the boot clock."""
    boot_s, boot_id = None, ""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    if clock is not None:
        try:
            with open(os.path.join(root, "proc/sys/kernel/random/boot_id"), encoding="ascii") as file:
                boot_id = file.read().strip()
            boot_s = time.clock_gettime(clock)
        except (OSError, ValueError):
            boot_id = ""
    return Moment(time.time(), boot_s, boot_id, os.uname().nodename)


def read_owner(environ: Mapping[str, str]) -> Owner:
    """Who runs this. The environment is believed first, because a directory server may take its time to answer."""
    user = environ.get("USER") or environ.get("LOGNAME")
    if not user:
        try:
            from pwd import getpwuid

            user = getpwuid(os.getuid()).pw_name
        except (ImportError, KeyError):
            user = f"uid {os.getuid()}"
    return Owner(user.encode("utf-8", "replace").decode(), os.uname().nodename)
