"""A command's router: built from flags, environment and configuration."""

from __future__ import annotations

from os import environ

from corral.client import DEFAULT_URL, Router, Timeouts
from corral.config import Flags, load_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace


def open_router(args: Namespace, *, is_single_call: bool = False) -> Router:
    """The router that the arguments and their surroundings mean; nothing is sent yet.

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
    return Router(
        config.url or DEFAULT_URL,
        api_key=config.api_key,
        ca_file=config.ca_file,
        timeouts=Timeouts(connect_s, read_s, total_s),
    )


def _least(limit_s: float | None, other_s: float) -> float:
    return other_s if limit_s is None else min(limit_s, other_s)
