"""A command's router: built from flags, environment and configuration."""

from __future__ import annotations

from os import environ

from corral.client import DEFAULT_URL, Router, Timeouts, parse_url
from corral.config import Flags, load_config
from corral.wire import CorralError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace


def open_router(args: Namespace, *, is_single_call: bool = False, sees_machine: bool = False) -> Router:
    """The router that the arguments and their surroundings mean; nothing is sent yet.

    With ``sees_machine`` its machine is looked at as well, where that is this one.

    ``--timeout`` is the time of the one call where there is only one; a verb has its own clock, and no call
    within it may be silent for longer.
    """
    flags = Flags(args.url, args.api_key_file, args.ca_file, args.connect_timeout, args.read_timeout)
    config = load_config(flags, environ)
    usual = Timeouts()
    connect_s = config.connect_timeout_s or usual.connect_s
    read_s = config.read_timeout_s or usual.read_s
    total_s = usual.total_s
    if args.timeout is not None:
        connect_s = _least(connect_s, args.timeout)
        read_s = args.timeout if is_single_call else _least(read_s, args.timeout)
        total_s = args.timeout if is_single_call else _least(total_s, args.timeout)
    elif read_s is not None and total_s is not None:
        total_s = max(total_s, read_s)
    router = Router(
        config.url or DEFAULT_URL,
        api_key=config.api_key,
        ca_file=config.ca_file,
        timeouts=Timeouts(connect_s, read_s, total_s),
        key_elsewhere=config.key_elsewhere,
    )
    router.sign = _sign
    if sees_machine:
        from corral.machine import Machine

        target = router.target
        router.meter = Machine.for_router(target.host, target.port, target.socket_path)
    return router


def _sign() -> tuple[tuple[str, str], ...]:
    from corral.faces.cli.gateway import sign_change

    return sign_change()


def find_home(router: Router) -> str:
    """The address on which promises about a listed router hang: behind a gateway the router's own.

    If the router is to be looked at, and the gateway is on this machine, it is looked at there. Raises CorralError
    where the gateway does not tell.
    """
    if router.gateway is None:
        return router.url
    from corral.faces.cli.gateway import open_gateway
    from corral.ops.promises import is_loopback_name

    home: str = open_gateway(router).get("holds")["url"]
    if router.meter is not None and (router.target.scheme == "unix" or is_loopback_name(router.target.host)):
        from corral.machine import Machine

        behind = parse_url(home)
        router.meter = Machine.for_router(behind.host, behind.port, behind.socket_path)
    return home


def find_url(args: Namespace) -> str | None:
    """The address that the arguments mean, safe to print; None where the settings do not tell."""
    try:
        # Commands on the ledger alone take no key.
        flags = Flags(None, getattr(args, "api_key_file", None))
        url = getattr(args, "url", None) or load_config(flags, environ).url
        return parse_url(url or DEFAULT_URL).label
    except CorralError:
        return None


def _least(limit_s: float | None, other_s: float) -> float:
    return other_s if limit_s is None else min(limit_s, other_s)
