"""Which kinds of devices this machine may have: only for these is a reader imported, which a short command feels."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.machine.machine import DeviceReader

WSL_DEVICE = "dxg"


def has_nvidia_driver(proc: str, dev: str = "/dev") -> bool:
    """Whether an NVIDIA driver is loaded, or a WSL's that may lead to one."""
    return any(map(os.path.exists, (f"{dev}/nvidiactl", f"{proc}/driver/nvidia/version", f"{dev}/{WSL_DEVICE}")))


def find_readers(proc: str, sys: str) -> tuple[DeviceReader, ...]:
    """A reader for each kind that may be here; none on a machine without devices."""
    readers: list[DeviceReader] = []
    if has_nvidia_driver(proc):
        from corral.machine.nvidia import Nvidia

        readers.append(Nvidia(proc=proc))
    if os.path.exists(f"{sys}/class/drm"):
        from corral.machine.drm import Drm

        readers.append(Drm(proc=proc, sys=sys))
    return tuple(readers)
