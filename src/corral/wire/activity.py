"""Asking a model's child, through the router, how many requests it is answering.

These calls reach the child itself: without ``autoload=false`` they load an unloaded model, and ``/slots`` wakes
a sleeping one. So they are only for a model that is to be unloaded anyway, and for nothing that merely looks.

Source: llama.cpp ``tools/server/server-models.cpp`` and ``server-context.cpp``, b9093 to b11434.
"""

from __future__ import annotations

from json import loads

from corral.wire.errors import RefusedError
from corral.wire.reading import as_dict
from corral.wire.reply import Call, Reply, excerpt, read_refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.wire.models import Model

_COUNTED = ("llamacpp:requests_processing", "llamacpp:requests_deferred")


def count_requests(model: Model) -> Call:
    """Ask for the number of requests in flight: ``/metrics`` where it is switched on, else ``/slots``.

    ``/slots`` does not show what waits for a slot, but then no slot is free either: 0 means idle in both.
    """
    from urllib.parse import quote

    args = as_dict(model.raw, "status").get("args")
    has_metrics = isinstance(args, list) and "--metrics" in args
    name = quote(model.id, safe="", errors="surrogatepass")
    if has_metrics:
        return Call("GET", f"/metrics?model={name}&autoload=false", read_metrics)
    return Call("GET", f"/slots?model={name}&autoload=false", read_slots)


def read_slots(reply: Reply) -> int:
    """Count the slots that are processing; raises RefusedError for everything but a list of slots."""
    if reply.status != 200:
        raise read_refusal(reply)
    try:
        document = loads(reply.body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, list):
        raise _unreadable(reply)
    states = [slot.get("is_processing") for slot in document if isinstance(slot, dict)]
    if not states or not all(isinstance(state, bool) for state in states):
        raise _unreadable(reply)
    return states.count(True)


def read_metrics(reply: Reply) -> int:
    """Add up the requests in a slot and those that wait for one; raises RefusedError when they are not told."""
    if reply.status != 200:
        raise read_refusal(reply)
    values = {}
    for line in reply.body.decode("utf-8", "replace").splitlines():
        name, _, value = line.partition(" ")
        if name in _COUNTED:
            try:
                values[name] = round(float(value))
            except (ValueError, OverflowError):
                raise _unreadable(reply) from None
    if len(values) < len(_COUNTED):
        raise _unreadable(reply)
    return sum(values.values())


def _unreadable(reply: Reply) -> RefusedError:
    return RefusedError(f"The answer does not tell what is in flight: {excerpt(reply.body)}", status=reply.status)
