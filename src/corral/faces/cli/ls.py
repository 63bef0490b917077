"""``corral ls``: all models and their state. Looks at the list once; loads and wakes nothing."""

from __future__ import annotations

from corral.faces.cli.exits import DONE
from corral.faces.cli.listing import print_models
from corral.faces.cli.marks import Marks, read_marks
from corral.faces.cli.options import Option, Spec, tell_timeout
from corral.faces.cli.session import open_router

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from corral.client import Router
    from corral.faces.cli.console import Console

OUTPUT = Option(("-o", "--output"), "wide: aliases, tags and port as well", "FORMAT", choices=("wide",))
SPEC = Spec(
    "[options]",
    (OUTPUT, *tell_timeout("60s")),
    epilog="MARKS tells what is pinned and held, where anything is.",
    lists=("models",),
)


def run(args: Namespace, console: Console) -> int:
    """Print every model of the router."""
    with open_router(args, is_single_call=True) as router:
        models = router.list_models().models
        marks = _read_marks(router, console) if args.json or not console.quiet else Marks()
        print_models(models, router.url, console, json=args.json, wide=args.output == "wide", marks=marks)
        if not models:
            console.say(f"No models on {router.url}: check its --models-dir, --models-preset or cache.")
    return DONE


def _read_marks(router: Router, console: Console) -> Marks:
    """What is promised here, or at the gateway; there it takes its token to be told."""
    if router.gateway is None:
        return read_marks(router.url, console)
    from corral.faces.cli.gateway import read_token
    from corral.faces.cli.gateway_lists import read_marks as read_there

    return Marks(None) if read_token() is None else read_there(router)
