"""The settings of one run: default < file < environment < flag, as one frozen value.

The file is TOML, ``$CORRAL_CONFIG`` or ``$XDG_CONFIG_HOME/corral/config.toml``; it is read only if it is there::

    url = "http://127.0.0.1:8080"
    api_key_file = "~/.config/corral/key"
    ca_file = "/etc/ssl/our-ca.pem"
    connect_timeout = "5s"
    read_timeout = "10s"

A key that stands in a file beside a ``url`` goes to that URL only: a ``--url`` or ``CORRAL_URL`` that leads
elsewhere does not take it along.
"""

from __future__ import annotations

import os

from corral.wire import BadArgumentError, Record, escape_controls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_KEYS = ("url", "api_key", "api_key_file", "ca_file", "connect_timeout", "read_timeout")
_MAX_KEY_FILE_BYTES = 1 << 16
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MAX_DURATION_S = 366 * 86400.0


class Config(Record):
    """The settings in force; None means that the client's own default holds."""

    url: str | None = None
    api_key: str | None = None
    ca_file: str | None = None
    connect_timeout_s: float | None = None
    read_timeout_s: float | None = None

    def __repr__(self) -> str:
        """The key never shows, not even its length."""
        key = None if self.api_key is None else "***"
        return (
            f"Config(url={self.url!r}, api_key={key!r}, ca_file={self.ca_file!r}, "
            f"connect_timeout_s={self.connect_timeout_s!r}, read_timeout_s={self.read_timeout_s!r})"
        )


class Flags(Record):
    """What the command line said; None where it said nothing."""

    url: str | None = None
    api_key_file: str | None = None
    ca_file: str | None = None
    connect_timeout_s: float | None = None
    read_timeout_s: float | None = None


def load_config(flags: Flags, environ: Mapping[str, str]) -> Config:
    """Put the settings together.

    Raises BadArgumentError, naming the file, variable or flag and the key, for a value that cannot be used.
    """
    path = find_config_file(environ)
    values = _read_file(path) if path is not None else {}
    origin = f"{escape_controls(path or '')}: "
    url = flags.url or environ.get("CORRAL_URL") or environ.get("LLAMA_SERVER_URL") or values.get("url")
    return Config(
        url,
        _find_key(flags, environ, values, path, url),
        flags.ca_file or environ.get("CORRAL_CA_FILE") or _expand(values.get("ca_file"), path),
        _pick_duration(flags.connect_timeout_s, environ, "CORRAL_CONNECT_TIMEOUT", values, "connect_timeout", origin),
        _pick_duration(flags.read_timeout_s, environ, "CORRAL_READ_TIMEOUT", values, "read_timeout", origin),
    )


def find_config_file(environ: Mapping[str, str]) -> str | None:
    """The file to read; None when there is none. ``CORRAL_CONFIG`` must exist, the usual place need not."""
    named = environ.get("CORRAL_CONFIG")
    if named:
        return named
    folder = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(folder):
        home = environ.get("HOME", "")
        if not os.path.isabs(home):
            return None
        folder = os.path.join(home, ".config")
    path = os.path.join(folder, "corral", "config.toml")
    # A home that cannot even be looked into, as after sudo -u, is the same as no file.
    return path if os.path.exists(path) else None


def read_key_file(path: str, origin: str) -> str:
    """The first line of a key file that is neither empty nor a comment; llama-server's own key files fit.

    Raises BadArgumentError, which never shows what the file holds.
    """
    shown = escape_controls(path)
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_KEY_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or "not a usable path"
        raise BadArgumentError(
            f"The key file {shown} ({origin}) cannot be read: {said}.",
            "It must be a readable file that holds the API key on a line of its own.",
        ) from None
    if len(data) > _MAX_KEY_FILE_BYTES:
        raise BadArgumentError(f"The key file {shown} ({origin}) is far too large for a key.", "Check the path.")
    # Bytes that are no ASCII become surrogates here, which the client refuses without showing them.
    for line in data.decode("ascii", "surrogateescape").splitlines():
        if line.strip() and not line.startswith("#"):
            return line.strip()
    raise BadArgumentError(f"The key file {shown} ({origin}) holds no key.", "Put the key on a line of its own.")


def parse_duration(text: str, origin: str) -> float:
    """Seconds, from ``90``, ``1.5s``, ``500ms``, ``10m`` or ``1h30m``; BadArgumentError names ``origin``."""
    seconds, rest = 0.0, text.strip()
    bad = BadArgumentError(
        f"{origin}: not a duration: {escape_controls(text) or '(empty)'}", "Write it as 90s, 10m or 1h30m."
    )
    if _is_number(rest):
        seconds, rest = float(rest), ""
    elif not rest:
        raise bad
    while rest:
        digits = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest[len(digits) :]
        unit = rest[: len(rest) - len(rest.lstrip("abcdefghijklmnopqrstuvwxyz"))]
        rest = rest[len(unit) :]
        if not _is_number(digits) or unit not in _UNITS:
            raise bad
        seconds += float(digits) * _UNITS[unit]
    if not 0 < seconds <= _MAX_DURATION_S:
        raise BadArgumentError(
            f"{origin}: {escape_controls(text)} is not longer than nothing and shorter than a year.",
            "Write it as 90s, 10m or 1h30m.",
        )
    return seconds


def _is_number(text: str) -> bool:
    return text.isascii() and text.count(".") <= 1 and text.replace(".", "", 1).isdigit() and len(text) < 20


def _find_key(
    flags: Flags, environ: Mapping[str, str], values: dict[str, Any], path: str | None, url: str | None
) -> str | None:
    if flags.api_key_file:
        return read_key_file(flags.api_key_file, "--api-key-file")
    key = environ.get("CORRAL_API_KEY") or environ.get("LLAMA_API_KEY")
    if key:
        return key
    own = values.get("url")
    if own is not None and url is not None and own.rstrip("/") != url.rstrip("/"):
        return None
    key_file = _expand(values.get("api_key_file"), path)
    if key_file:
        return read_key_file(key_file, f"api_key_file in {escape_controls(path or '')}")
    return values.get("api_key") or None


def _read_file(path: str) -> dict[str, Any]:
    import tomllib

    shown = escape_controls(path)
    try:
        with open(path, "rb") as file:
            values = tomllib.load(file)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or escape_controls(str(error))
        raise BadArgumentError(f"The configuration {shown} cannot be read: {said}.", "Mend it, or remove it.") from None
    for key, value in values.items():
        if key not in _KEYS:
            raise BadArgumentError(
                f"{shown}: unknown setting {escape_controls(key)}.", f"Known settings: {', '.join(_KEYS)}."
            )
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (isinstance(value, str) or (key.endswith("_timeout") and is_number)):
            raise BadArgumentError(f"{shown}: {key} has the wrong type.", 'Write it in quotes, as in url = "http://…".')
    return values


def _pick_duration(
    flag: float | None, environ: Mapping[str, str], variable: str, values: dict[str, Any], key: str, origin: str
) -> float | None:
    if flag is not None:
        return flag
    text = environ.get(variable)
    if text:
        return parse_duration(text, variable)
    return parse_duration(str(values[key]), f"{origin}{key}") if key in values else None


def _expand(value: str | None, path: str | None) -> str | None:
    """A path in the file may begin with ``~``; a relative one counts from the file's folder."""
    if not value:
        return None
    return os.path.join(os.path.dirname(os.path.abspath(path or "")), os.path.expanduser(value))
