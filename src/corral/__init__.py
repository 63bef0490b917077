"""Operate llama.cpp's ``llama-server`` in router mode: list, load and unload models, and see it done.

``from corral import Router`` (blocking, standard library only) and ``from corral import AsyncRouter``
(needs the ``async`` extra) make the same promises as the ``corral`` command. Importing this package
imports nothing else: each name is loaded when it is first asked for, because start-up time is a feature.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.aio_facade import AsyncRouter
    from corral.client import Timeouts
    from corral.facade import Router
    from corral.ops import LoadReport, Outcome, UnloadReport, WaitReport
    from corral.wire import (
        AuthError,
        BadArgumentError,
        CorralError,
        Event,
        Listing,
        Model,
        NotARouterError,
        RefusedError,
        UnknownModelError,
        UnreachableError,
    )

__version__ = "0.1.0"

_HOMES = {
    "AsyncRouter": "corral.aio_facade",
    "AuthError": "corral.wire",
    "BadArgumentError": "corral.wire",
    "CorralError": "corral.wire",
    "Event": "corral.wire",
    "Listing": "corral.wire",
    "LoadReport": "corral.ops",
    "Model": "corral.wire",
    "NotARouterError": "corral.wire",
    "Outcome": "corral.ops",
    "RefusedError": "corral.wire",
    "Router": "corral.facade",
    "Timeouts": "corral.client",
    "UnknownModelError": "corral.wire",
    "UnloadReport": "corral.ops",
    "UnreachableError": "corral.wire",
    "WaitReport": "corral.ops",
}

__all__ = [
    "AsyncRouter",
    "AuthError",
    "BadArgumentError",
    "CorralError",
    "Event",
    "Listing",
    "LoadReport",
    "Model",
    "NotARouterError",
    "Outcome",
    "RefusedError",
    "Router",
    "Timeouts",
    "UnknownModelError",
    "UnloadReport",
    "UnreachableError",
    "WaitReport",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Load a public name from its home the first time it is used."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'corral' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value
