"""``corral __complete KIND``: the names that a completion script offers; silent whatever happens.

``models`` and ``residents`` are the router's ids and aliases; ``pins``, ``holds``, ``sets`` and ``leases`` come from
the ledger.

The words typed so far follow, so that ``--url`` and the like count. Names that could not stand on one line of a
terminal are left out.
"""

from __future__ import annotations

from corral.faces.cli.commands import HIDDEN
from corral.faces.cli.exits import DONE
from corral.faces.cli.options import CONNECTION, TIMEOUT, Spec, parse
from corral.wire import CorralError, escape_controls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from corral.faces.cli.console import Console

KINDS = ("models", "residents", "pins", "holds", "sets", "leases")
_PATIENCE = "1s"
SPEC = Spec(f"{'|'.join(KINDS)} [WORDS]", (*CONNECTION, TIMEOUT))


def complete(words: Sequence[str], console: Console) -> int:
    """Print names, one a line."""
    kind = words[0] if words else ""
    try:
        args = parse(HIDDEN, SPEC, [*_keep_connection(words), "--timeout", _PATIENCE])
        names = _list_promised(kind, args) if kind in KINDS[2:] else _list_models(kind, args)
    except (CorralError, OSError):
        return DONE
    for name in names:
        if name == escape_controls(name):
            console.line(name)
    return DONE


def _list_models(kind: str, args: Namespace) -> list[str]:
    from corral.faces.cli.session import open_router

    with open_router(args, is_single_call=True) as router:
        models = router.residents() if kind == "residents" else router.list_models().models
    return [name for model in models for name in (model.id, *model.aliases)]


def _list_promised(kind: str, args: Namespace) -> list[str]:
    from corral.faces.cli.records import find_router, look_at_ledger
    from corral.ledger import read_moment

    router = find_router(args)
    with look_at_ledger() as ledger:
        if kind == "pins":
            return [pin.model for pin in ledger.pins.list_pins(router)]
        if kind == "sets":
            return [item.name for item in ledger.sets.list_sets(router)]
        if kind == "leases":
            return [lease.id for lease in ledger.leases.list_open()]
        holds = ledger.holds.list_in_force(read_moment(), router)
    return [hold.id for hold in holds] + [model for hold in holds for model in hold.models or () if hold.covers(model)]


def _keep_connection(words: Sequence[str]) -> list[str]:
    """Of a half-typed line, what says where the router is."""
    flags = {flag for option in CONNECTION for flag in option.flags}
    kept: list[str] = []
    for at, word in enumerate(words):
        if word in flags and at + 1 < len(words):
            kept += [word, words[at + 1]]
        elif word.partition("=")[0] in flags and "=" in word:
            kept.append(word)
    return kept
