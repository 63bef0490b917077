"""Talking to a router: ``Router`` (blocking, standard library) and ``AsyncRouter`` (aiohttp, the ``async`` extra)."""

from corral.client.router import Router
from corral.client.settings import Timeouts
from corral.client.target import DEFAULT_URL, Target, identify, parse_url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.client.aio import AsyncRouter

__all__ = ["DEFAULT_URL", "AsyncRouter", "Router", "Target", "Timeouts", "identify", "parse_url"]


def __getattr__(name: str) -> object:
    """Import the async client, and aiohttp with it, only where it is asked for."""
    if name != "AsyncRouter":
        raise AttributeError(f"module 'corral.client' has no attribute {name!r}")
    from corral.client.aio import AsyncRouter

    return AsyncRouter
