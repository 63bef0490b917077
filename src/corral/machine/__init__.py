"""What this computer says of a router's processes: connections, memory, devices. Reads; touches no model.

Rule for whoever edits this room: a reader takes the root of its tree as an argument, never raises, and answers None
with a reason for what it could not read.
"""

from corral.machine.identity import find_living, read_boot_id, read_process
from corral.machine.machine import Machine

__all__ = ["Machine", "find_living", "read_boot_id", "read_process"]
