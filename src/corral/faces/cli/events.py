"""``corral events``: what the router says, as it says it, in words or as NDJSON."""

from __future__ import annotations

import time
from json import dumps

from corral.faces.cli.exits import DONE
from corral.faces.cli.options import Option, Spec, tell_timeout
from corral.faces.cli.progress import describe_progress
from corral.faces.cli.session import open_router
from corral.ops import StreamOpened
from corral.wire import EVERY_MODEL, CorralError, RefusedError, escape_controls, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from corral.client import Router
    from corral.faces.cli.console import Console
    from corral.ops import StreamLost
    from corral.wire import Event

SPEC = Spec(
    "[options]",
    (Option(("--count",), "end after this many events", "N"), *tell_timeout("none: until Ctrl-C")),
    epilog="Runs until Ctrl-C, --count or --timeout. --json prints one document a line (NDJSON);\n"
    "an error, Ctrl-C included, is the last of them.",
)


def run(args: Namespace, console: Console) -> int:
    """Print events until there is a reason to stop."""
    console.is_stream = args.json
    with open_router(args) as router:
        try:
            _follow(args, router, console)
        except RefusedError as error:
            if error.status not in (404, 501):
                raise
            raise CorralError(
                f"The llama-server on {router.url} has no event stream: builds have it since June 2026 (about b9690).",
                "'corral ps' looks once, 'corral wait' looks again and again.",
            ) from None
    return DONE


def _follow(args: Namespace, router: Router, console: Console) -> None:
    deadline = None if args.timeout is None else time.monotonic() + args.timeout
    for seen, event in enumerate(router.follow(_Reception(router.url, console), deadline), 1):
        console.line(_to_json(event) if args.json else _to_words(event))
        if not console.flush() or seen == args.count:
            return


class _Reception:
    """Says on stderr when the stream opens, breaks and is back."""

    def __init__(self, url: str, console: Console) -> None:
        self._url = url
        self._console = console
        self._was_open = False
        self._told = False

    def __call__(self, state: StreamOpened | StreamLost) -> None:
        if isinstance(state, StreamOpened):
            again = "The stream is back; what happened in between was not seen: 'corral ls' shows how things are."
            self._console.say(again if self._was_open else f"Listening to {self._url}. Ctrl-C ends it.")
            self._was_open, self._told = True, False
        elif not self._told:
            why = f": {state.error.message}" if state.error is not None else "."
            self._console.warn(f"The event stream broke{why} Trying again until it is back.")
            self._told = True


def _to_words(event: Event) -> str:
    model = "(all models)" if event.model == EVERY_MODEL else show_name(event.model)
    what = event.status if event.kind in ("status_change", "model_status") and event.status else event.kind
    parts = [time.strftime("%H:%M:%S"), model, escape_controls(what)]
    progress = describe_progress(event.stage, event.progress)
    if progress:
        parts.append(progress)
    if event.exit_code:
        parts.append(f"(exit {event.exit_code})")
    return "  ".join(parts)


def _to_json(event: Event) -> str:
    return dumps(
        {
            "schema_version": 1,
            "time": round(time.time(), 3),
            "model": event.model,
            "event": event.kind,
            "status": event.status,
            "stage": event.stage,
            "progress": event.progress,
            "exit_code": event.exit_code,
            "raw": event.raw,
        }
    )
