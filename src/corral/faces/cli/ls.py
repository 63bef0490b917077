"""``corral ls``: all models and their state. Looks at the list once; loads and wakes nothing."""

from __future__ import annotations

from corral.faces.cli.exits import DONE
from corral.faces.cli.listing import print_models
from corral.faces.cli.options import COMMON, Option, Spec
from corral.faces.cli.session import open_router

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from corral.faces.cli.console import Console

OUTPUT = Option(("-o", "--output"), "wide: aliases, tags and port as well", "FORMAT", choices=("wide",))
SPEC = Spec("[options]", (OUTPUT, *COMMON))


def run(args: Namespace, console: Console) -> int:
    """Print every model of the router."""
    with open_router(args, is_single_call=True) as router:
        models = router.list_models().models
        print_models(models, router.url, console, json=args.json, wide=args.output == "wide")
        if not models:
            console.say(f"No models on {router.url}: check its --models-dir, --models-preset or cache.")
    return DONE
