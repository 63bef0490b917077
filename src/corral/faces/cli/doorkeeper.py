"""A gateway as ``corral run`` uses it: it keeps clients out, and drains without cutting what comes meanwhile.

The run's hold lies in the ledger under the router's own address, where gateway, ``corral recover`` and a ``corral
run`` past the gateway find it.
"""

from __future__ import annotations

from contextlib import suppress

from corral.faces.cli.gateway import open_gateway, read_report, sign
from corral.wire import CorralError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from corral.client import Router
    from corral.ops import UnloadReport


class Doorkeeper:
    """The gateway that answered at a router's URL. Every method raises CorralError when it cannot be asked."""

    def __init__(self, router: Router, home: str) -> None:
        self._gateway = open_gateway(router)
        self.home = home
        """The router's own address."""

    def see_hold(self, hold_id: str) -> None:
        """Return when the gateway enforces a hold; raises CorralError where it has another ledger than we."""
        if all(held["id"] != hold_id for held in self._gateway.get("holds")["holds"]):
            raise CorralError(
                f"The gateway at {self._gateway.url} keeps its holds in another ledger and would not keep clients out.",
                f"Say it to the router itself (--url {self.home}), or as whoever runs the gateway.",
            )

    def drain(self, models: Sequence[str], args: Namespace) -> UnloadReport:
        """Have models drained and unloaded; when interrupted, what the router was not asked for yet is called off."""
        asked = sign() | {"models": list(models), "force": args.force}
        grace_s = args.grace if args.timeout is None else min(args.timeout, args.grace or args.timeout)
        if grace_s is not None:
            asked["grace_s"] = grace_s
        try:
            return read_report(self._gateway.post("unload", asked))
        except KeyboardInterrupt:
            with suppress(CorralError):
                self._gateway.post("drain", sign() | {"models": list(models), "cancel": True})
            raise
