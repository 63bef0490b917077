"""The demo's temporary folder: locked while the demo lives, so that the next one knows what a killed one left."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import contextmanager
from shutil import rmtree
from tempfile import TemporaryDirectory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "corral-demo-"


@contextmanager
def make_folder(root: str) -> Iterator[str]:
    """A folder in ``root`` that is gone afterwards; its lock ends with this process, however that comes about."""
    folder, lock = _claim(root)
    try:
        with folder as path:
            yield path
    finally:
        if lock is not None:
            os.close(lock)


def sweep(root: str) -> list[str]:
    """Remove what demos of this user left in ``root`` when they were killed; returns the folders removed.

    What bears another name, is somebody else's, is no folder or is locked is left alone.
    """
    try:
        names = [name for name in os.listdir(root) if name.startswith(PREFIX)]
    except OSError:
        return []
    paths = [os.path.join(root, name) for name in names]
    return [path for path in paths if _is_ours(path) and _remove(path)]


def _claim(root: str) -> tuple[TemporaryDirectory[str], int | None]:
    while True:
        folder = TemporaryDirectory(prefix=PREFIX, dir=root)
        lock = _lock(folder.name, fcntl.LOCK_EX)
        if os.path.isdir(folder.name):
            return folder, lock
        # A demo that swept at this very moment was faster with the lock.
        folder.cleanup()
        if lock is not None:
            os.close(lock)


def _is_ours(path: str) -> bool:
    try:
        seen = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.getuid()


def _remove(path: str) -> bool:
    lock = _lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if lock is None:
        return False
    try:
        rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)
    return not os.path.lexists(path)


def _lock(path: str, how: int) -> int | None:
    """A descriptor that holds the lock; None when another process has it, or the file system knows no locks."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
