"""The ``corral`` command. Importing this costs nothing: the work is imported when ``main`` runs."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


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
