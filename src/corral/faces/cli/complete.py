"""``corral __complete models``: the ids and aliases that a completion script offers; silent whatever happens.

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
    from collections.abc import Sequence

    from corral.faces.cli.console import Console

_PATIENCE = "1s"
SPEC = Spec("models|residents [WORDS]", (*CONNECTION, TIMEOUT))


def complete(words: Sequence[str], console: Console) -> int:
    """Print names, one a line."""
    from corral.faces.cli.session import open_router

    try:
        args = parse(HIDDEN, SPEC, [*_keep_connection(words), "--timeout", _PATIENCE])
        with open_router(args, is_single_call=True) as router:
            models = router.residents() if words[:1] == ["residents"] else router.list_models().models
    except (CorralError, OSError):
        return DONE
    for model in models:
        for name in (model.id, *model.aliases):
            if name == escape_controls(name):
                console.line(name)
    return DONE


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
