"""What every document of ``--json`` begins with, and the document of a command that came to nothing.

A document has ``schema_version``, ``ok``, ``exit_code`` (the one that the process ends with) and, where a router is
concerned, ``url``. A list of models is written while it is read: there ``ok`` and ``exit_code`` come last, and tell
of an interruption too.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from corral.faces.cli.options import Spec

SCHEMA_VERSION = 1


def begin_document(code: int, url: str | None = None) -> dict[str, Any]:
    """The fields that come first; ``url`` is left out where there is none."""
    document: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "ok": code == 0, "exit_code": code}
    return document if url is None else document | {"url": url}


def describe_failure(code: int, error: dict[str, Any], spec: Spec | None, args: Namespace | None) -> dict[str, Any]:
    """A document with an ``error``, for a command as far as it is known.

    Where the command talks to a router it has a ``url``: None when the settings do not tell which. The lists that the
    command's document has are there and empty, so that one filter reads both.
    """
    document = begin_document(code)
    if spec is None:
        return document | {"error": error}
    if any("--url" in option.flags for option in spec.options):
        from corral.faces.cli.session import find_url

        document["url"] = None if args is None else find_url(args)
    return document | {name: [] for name in spec.lists} | {"error": error}
