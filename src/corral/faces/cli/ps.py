"""``corral ps``: the models that hold memory. Looks at the list once; loads and wakes nothing."""

from __future__ import annotations

from corral.faces.cli.exits import DONE
from corral.faces.cli.listing import print_models
from corral.faces.cli.ls import SPEC
from corral.faces.cli.session import open_router

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from corral.faces.cli.console import Console

__all__ = ["SPEC", "run"]


def run(args: Namespace, console: Console) -> int:
    """Print the router's resident models."""
    with open_router(args, is_single_call=True) as router:
        models = router.residents()
        print_models(models, router.url, console, json=args.json, wide=args.output == "wide")
        if not models:
            console.say(f"No resident models on {router.url}.")
    return DONE
