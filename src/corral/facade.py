"""``from corral import Router``: the blocking client with the command line's defaults.

Of those two are more than the client's own: on the router's machine it looks at processes and memory, so that requests
in flight are seen and an unload is verified by the memory that came back; and ``unload_all`` leaves alone what
``corral pin`` has pinned.
"""

from __future__ import annotations

from os import environ

from corral import client
from corral.client import DEFAULT_URL, Timeouts
from corral.ledger import LedgerError, find_folder, has_ledger
from corral.machine import Machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.client import Target
    from corral.ops.measurement import Meter


def find_machine(target: Target) -> Machine:
    """What looks at the router's machine; shows nothing, and says why, where that is another than this."""
    return Machine.for_router(target.host, target.port, target.socket_path)


def find_pinned(target: Target) -> tuple[str, ...]:
    """The ids that the ledger has pinned on a router; raises LedgerError when there is one that cannot be read."""
    try:
        folder = find_folder(environ)
    except LedgerError:
        # Without a place for a ledger there is none.
        return ()
    if not has_ledger(folder):
        return ()
    from corral.ledger import list_pinned

    return list_pinned(folder, client.identify(target.label))


class Router(client.Router):
    """A llama-server in router mode, at one address.

    ::

        from corral import Router

        with Router("http://127.0.0.1:8080") as router:
            report = router.unload_all()
            assert report.ok

    Parameters:
        url: ``http://host:port[/prefix]``, ``https://...`` or ``unix:///path/to.sock``.
        api_key: one of the router's keys. It is sent only to what has answered as llama.cpp.
        ca_file: for https, a PEM file with the authority to trust instead of the system's.
        timeouts: limits of a single call; a verb has its own ``timeout_s``.
        meter: what looks at the router's machine; None means this one, as far as it is the router's.

    Not for use by two threads at once; give each its own. Raises the errors of ``corral.wire.errors``:
    UnreachableError, NotARouterError, AuthError, RefusedError, UnknownModelError, BadArgumentError; and LedgerError
    where what is pinned cannot be read.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        ca_file: str | None = None,
        timeouts: Timeouts | None = None,
        meter: Meter | None = None,
    ) -> None:
        super().__init__(
            url,
            api_key=api_key,
            ca_file=ca_file,
            timeouts=timeouts,
            meter=meter,
            find_pinned=lambda: find_pinned(self.target),
        )
        if meter is None:
            self.meter = find_machine(self.target)
