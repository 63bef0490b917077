"""The ``corral`` command. Importing this costs nothing: the work is imported when ``main`` runs."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

_ALLOCATIONS = 50_000
"""So many more objects than before are made between two searches for garbage; Python's own figure is 700."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (that of the process when None) and return its exit code."""
    try:
        words = _read_argv() if argv is None else list(argv)
        if words[:1] in (["--version"], ["-V"]):
            from corral.faces.cli.version import show_version

            return show_version(words)
        from corral.faces.cli.entry import run

        return run(words)
    except KeyboardInterrupt:
        return 130


def _read_argv() -> list[str]:
    """The process's arguments. Ids are UTF-8, whatever the locale makes of the bytes that were typed."""
    import sys

    if sys.getfilesystemencoding() == "utf-8":
        return sys.argv[1:]
    from os import fsencode

    return [fsencode(word).decode("utf-8", "surrogateescape") for word in sys.argv[1:]]


def find_home(environ: MutableMapping[str, str]) -> None:
    """Set HOME where it is missing, to what the user database says.

    Services of systemd and ``env -i`` have none; pins and configuration that a login sees hold there as well.
    """
    if environ.get("HOME"):
        return
    try:
        from os import getuid
        from pwd import getpwuid

        environ["HOME"] = getpwuid(getuid()).pw_dir
    except (ImportError, KeyError):
        # Windows, or a user of a container that has no entry.
        return


def program() -> None:
    """What the installed ``corral`` runs: ``main``, and then the process ends at once.

    Taking the interpreter apart again costs a fifth of a short command's time and serves nobody: what was to be
    written is flushed, and what was started is stopped, before ``main`` returns.
    """
    import gc
    import os
    import sys

    # Nearly all that a short command makes it keeps: looking for garbage at the usual pace takes a tenth of its time.
    gc.set_threshold(_ALLOCATIONS)
    find_home(os.environ)
    code = main()

    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            # It was closed or cannot be written; main has said so and chosen the code.
            continue
    os._exit(code)
