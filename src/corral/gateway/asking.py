"""Reading what was asked of Corral's own API: a JSON body or a query, checked field by field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from corral.client.gateway import HOST_HEADER, USER_HEADER
from corral.gateway.security import find_client
from corral.gateway.settings import Settings
from corral.ops import Selection
from corral.ops.promises import Owner
from corral.wire import BadArgumentError, escape_controls

MAX_SECONDS = 366 * 86400
"""More is a mistake."""


class Fields:
    """The fields of one body; what is read with the wrong type, or never read, is an error that names it."""

    def __init__(self, document: Mapping[str, Any], *, tolerant: bool = False) -> None:
        self._document = document
        self._tolerant = tolerant
        self._read: set[str] = {"user", "host"}

    def text(self, name: str, default: str = "") -> str:
        """A string."""
        return str(self._take(name, default, str, "a string"))

    def flag(self, name: str) -> bool:
        """True or false; false when it is not there."""
        return bool(self._take(name, False, bool, "true or false"))

    def seconds(self, name: str) -> float | None:
        """A number of seconds from 0 on; None when it is not there."""
        value = self._document.get(name)
        self._read.add(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_SECONDS:
            raise BadArgumentError(f"{name} must be a number of seconds, from 0 to a year.")
        return float(value)

    def names(self, name: str) -> tuple[str, ...]:
        """A list of strings, or one string; empty when it is not there."""
        value = self._document.get(name)
        self._read.add(name)
        if value is None:
            return ()
        if isinstance(value, str):
            return (value,)
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise BadArgumentError(f"{name} must be a list of strings.")

    def selection(self, pinned: frozenset[str]) -> Selection:
        """Which models are meant; of all, those that are pinned only when ``include_pinned`` says so."""
        names, is_all = self.names("models"), self.flag("all")
        tags, patterns, excepted = self.names("tags"), self.names("match"), self.names("except")
        spared = () if self.flag("include_pinned") or names else tuple(pinned)
        return Selection(names, is_all, tags, patterns, excepted, spared)

    def owner(self, default: Owner) -> Owner:
        """Who asks, when the body says so."""
        user, host = self._document.get("user"), self._document.get("host")
        named = isinstance(user, str) and user
        return Owner(
            _clean(user) if named else default.user, _clean(host) if isinstance(host, str) and host else default.host
        )

    def finish(self) -> None:
        """Complain about what nobody asked for: a misspelt field would otherwise do nothing in silence."""
        unknown = [name for name in self._document if name not in self._read]
        if unknown and not self._tolerant:
            raise BadArgumentError(
                f"Unknown field {escape_controls(unknown[0])[:80]}.", "The OpenAPI document lists all."
            )

    def _take(self, name: str, default: object, kind: type, what: str) -> object:
        self._read.add(name)
        value = self._document.get(name)
        if value is None:
            return default
        if not isinstance(value, kind):
            raise BadArgumentError(f"{name} must be {what}.")
        return value


def parse_fields(body: bytes, *, tolerant: bool = False) -> Fields:
    """The fields of a JSON body; an empty one has none. Raises BadArgumentError."""
    if not body.strip():
        return Fields({}, tolerant=tolerant)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise BadArgumentError("The body is not JSON.", "Send an object, or nothing.") from None
    if not isinstance(document, dict):
        raise BadArgumentError("The body must be a JSON object.", "Send an object, or nothing.")
    return Fields(document, tolerant=tolerant)


def name_client(request: web.Request, settings: Settings) -> Owner:
    """Who asks, as far as the connection and the key tell."""
    peer = None if request.transport is None else request.transport.get_extra_info("peername")
    host = str(peer[0]) if isinstance(peer, tuple) and peer else "localhost"
    return Owner(find_client(request, settings) or "client", host)


def read_signature(request: web.Request, default: Owner) -> Owner:
    """Who asks, when the headers say so; to be believed only with the token."""
    user, host = (unquote(request.headers.get(name, "")) for name in (USER_HEADER, HOST_HEADER))
    return Owner(_clean(user) if user else default.user, _clean(host) if host else default.host)


def _clean(text: Any) -> str:
    return escape_controls(str(text))[:100]
