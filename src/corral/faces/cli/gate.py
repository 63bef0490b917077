"""Run as a program of its own: waits for a word, then becomes the command that it was given.

``python gate.py FD PATH NAME ARGS...`` waits until a byte can be read from FD. If FD ends without one, because whoever
started this was killed, it ends too and the command never runs. So the process that will be the command can be written
down, by its number and its start, before anything of the command has happened.
"""

from __future__ import annotations

import os
import signal
import sys
from errno import EACCES, ENOENT, ENOEXEC, EPERM

NOT_EXECUTABLE, NOT_FOUND, NEVER_RUN = 126, 127, 125


def wait_and_become(words: list[str]) -> int:
    """Never returns where the command runs; otherwise with the code that a shell would give."""
    descriptor, path, argv = int(words[0]), words[1], words[2:]
    if not os.read(descriptor, 1):
        return NEVER_RUN
    os.close(descriptor)
    # What Python itself has changed at its start; a signal that was ignored before stays ignored.
    for number in (signal.SIGPIPE, getattr(signal, "SIGXFSZ", None)):
        if number is not None:
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Whoever started this had them wait until now.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
    try:
        _become(path, argv)
    except OSError as error:
        name = argv[0].encode("unicode_escape").decode()
        sys.stderr.write(f"corral: {name} cannot be run: {error.strerror}.\n")
        return NOT_FOUND if error.errno == ENOENT else NOT_EXECUTABLE
    return NOT_EXECUTABLE


def _become(path: str, argv: list[str]) -> None:
    try:
        os.execv(path, argv)
    except OSError as error:
        if error.errno != ENOEXEC:
            raise
        # A script without a first line that names its interpreter is the shell's, as everywhere.
        os.execv("/bin/sh", ["/bin/sh", path, *argv[1:]])


def find_program(name: str, search: list[str]) -> tuple[str, int]:
    """Where a command is, and 0; or 126 where what has its name cannot be run, 127 where nothing has."""
    places = [name] if "/" in name else [os.path.join(folder or ".", name) for folder in search if name]
    code = NOT_FOUND
    for path in places:
        try:
            is_file = os.path.isfile(path)
            if is_file and os.access(path, os.X_OK):
                return path, 0
            if is_file or ("/" in name and os.path.exists(path)):
                code = NOT_EXECUTABLE
        except (OSError, ValueError) as error:
            code = NOT_EXECUTABLE if getattr(error, "errno", None) in (EACCES, EPERM) else code
    return "", code


if __name__ == "__main__":
    os._exit(wait_and_become(sys.argv[1:]))
