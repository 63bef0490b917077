"""``corral ps``: the models that hold memory, how much and where. Asks for the list once; loads and wakes nothing."""

from __future__ import annotations

from corral.faces.cli.exits import DONE
from corral.faces.cli.listing import print_ids
from corral.faces.cli.marks import read_marks
from corral.faces.cli.options import Option, Spec, tell_timeout
from corral.faces.cli.session import open_router
from corral.wire import AuthError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from corral.faces.cli.console import Console

SPEC = Spec(
    "[options]",
    (
        Option(
            ("-o", "--output"),
            "wide: memory apart (on devices, on the host, cached files), how long idle, process, port, aliases, tags",
            "FORMAT",
            choices=("wide",),
        ),
        *tell_timeout("60s"),
    ),
    epilog="MEMORY is what an unload gives back, on devices and host together; BUSY counts requests in flight.\n"
    "Both are seen on the router's own machine only: - is not visible, and -o wide says why. A gateway knows exactly\n"
    "what is busy, for how long the rest has been idle, and who asks.",
    lists=("models", "devices"),
)


def run(args: Namespace, console: Console) -> int:
    """Print the router's resident models, and what their machine has left."""
    with open_router(args, is_single_call=True, sees_machine=True) as router:
        models = router.list_models().models
        residents = [model for model in models if model.is_resident]
        if console.quiet and not args.json:
            print_ids(residents, console)
            return DONE
        if router.gateway is not None:
            from corral.faces.cli.gateway_residents import show_residents

            try:
                return show_residents(args, router, console)
            except AuthError as error:
                # To whoever has no token it is a router like any other.
                console.say(f"Who is busy is not told: {error.message} {error.hint}")
        assert router.meter is not None, "it was asked for"
        measured = router.meter.measure(models, memory=True, recent=True)
        marks = read_marks(router.url, console)
        from corral.faces.cli.residents import Residents

        shown = Residents(residents, measured, marks)
        if args.json:
            shown.print_json(router.url, console)
        else:
            shown.print_text(console, wide=args.output == "wide")
        if not residents:
            console.say(f"No resident models on {router.url}.")
    return DONE
