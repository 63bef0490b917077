"""``corral --version``, apart from everything else, so that it costs next to nothing."""

from __future__ import annotations

from corral import __version__
from corral.faces.cli.console import Console

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def show_version(words: Sequence[str]) -> int:
    """Print the version, as a document with ``--json``; returns the exit code."""
    console = Console()
    as_json = f'{{"schema_version": 1, "ok": true, "exit_code": 0, "version": "{__version__}"}}'
    console.line(as_json if "--json" in words else f"corral {__version__}")
    return console.finish(0)
