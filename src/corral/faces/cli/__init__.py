"""The ``corral`` command. Importing this costs nothing: the work is imported when ``main`` runs."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (``sys.argv`` when None) and return its exit code; never raises on purpose."""
    try:
        import sys

        from corral.faces.cli.entry import run

        return run(sys.argv[1:] if argv is None else list(argv))
    except KeyboardInterrupt:
        return 130
