"""Lists out of the ledger as tables; what they have in common."""

from __future__ import annotations

from corral.faces.cli.columns import format_rows
from corral.faces.cli.options import HELP, JSON, QUIET, URL, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from corral.faces.cli.console import Console

ALL_ROUTERS = Option(("-A", "--all-routers"), "of all routers, not only of this one")
LIST_OPTIONS = (ALL_ROUTERS, URL, JSON, QUIET, HELP)
LIST_EPILOG = (
    "Reads this user's ledger, and asks no router. Where that has nothing, or where there is a gateway's token,\n"
    "it is looked whether a gateway answers: then its ledger is shown (exit 9 where its token is not at hand)."
)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], args: Namespace, console: Console) -> None:
    """Print rows below a header, nothing where there are none; the column ROUTER only where all routers are shown."""
    if not rows:
        return
    hidden = -1 if args.all_routers else header.index("ROUTER")
    table = [[cell for at, cell in enumerate(row) if at != hidden] for row in (header, *rows)]
    for line in format_rows(table):
        if not console.line(line):
            return
