"""The settings of one run: default < file < environment < flag, as one frozen value.

The file is TOML, ``$CORRAL_CONFIG`` or ``$XDG_CONFIG_HOME/corral/config.toml``; it is read only if it is there::

    url = "http://127.0.0.1:8080"
    api_key_file = "~/.config/corral/key"
    ca_file = "/etc/ssl/our-ca.pem"
    connect_timeout = "5s"
    read_timeout = "10s"

    [serve]
    listen = "127.0.0.1:8080"
    router = "http://127.0.0.1:8081"

A key that stands in a file beside a ``url`` goes to that URL only, however it is spelled: a ``--url`` or
``CORRAL_URL`` that leads elsewhere does not take it along. Variables that are empty count as not set; a flag that is
empty is an error, since what it would fall back on may be another router.
"""

from __future__ import annotations

import os
from stat import S_ISREG

from corral.wire import BadArgumentError, Record, escape_controls, shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_KEYS = ("url", "api_key", "api_key_file", "ca_file", "connect_timeout", "read_timeout")
_TABLES = ("serve",)
"""Tables of the file, for whom they are named after to read."""
_MAX_KEY_FILE_BYTES = 1 << 16
_MAX_FILE_BYTES = 1 << 20
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MAX_DURATION_S = 366 * 86400.0
_SIZES: dict[str, int] = {
    "b": 1,
    **{f"{letter}{rest}": 1024**power for power, letter in enumerate("kmgt", 1) for rest in ("", "ib")},
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
}
_MAX_BYTES = 1 << 60


class Config(Record):
    """The settings in force; None means that the client's own default holds."""

    url: str | None = None
    api_key: str | None = None
    ca_file: str | None = None
    connect_timeout_s: float | None = None
    read_timeout_s: float | None = None
    key_elsewhere: str | None = None
    """Where the key of the file belongs, when that is not ``url`` and there is no other key; else None."""

    def __repr__(self) -> str:
        """The key never shows, not even its length."""
        key = None if self.api_key is None else "***"
        return (
            f"Config(url={self.url!r}, api_key={key!r}, ca_file={self.ca_file!r}, "
            f"connect_timeout_s={self.connect_timeout_s!r}, read_timeout_s={self.read_timeout_s!r}, "
            f"key_elsewhere={self.key_elsewhere!r})"
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
    for flag, value in (("url", flags.url), ("api-key-file", flags.api_key_file), ("ca-file", flags.ca_file)):
        if value is not None and not value.strip():
            raise BadArgumentError(
                f"--{flag} is empty.", "Give it a value, or leave it out; is a variable of the shell not set?"
            )
    path = find_config_file(environ)
    values = _read_file(path) if path is not None else {}
    origin = f"{escape_controls(path or '')}: "
    url = flags.url or environ.get("CORRAL_URL") or environ.get("LLAMA_SERVER_URL") or values.get("url")
    key, elsewhere = _find_key(flags, environ, values, path, url)
    return Config(
        url,
        key,
        flags.ca_file or environ.get("CORRAL_CA_FILE") or _expand(values, "ca_file", path),
        _pick_duration(flags.connect_timeout_s, environ, "CORRAL_CONNECT_TIMEOUT", values, "connect_timeout", origin),
        _pick_duration(flags.read_timeout_s, environ, "CORRAL_READ_TIMEOUT", values, "read_timeout", origin),
        elsewhere,
    )


def load_table(name: str, environ: Mapping[str, str]) -> tuple[dict[str, Any], str | None]:
    """A table of the file, unread, and the file's path; an empty one, and None, where there is no file."""
    path = find_config_file(environ)
    values = _read_file(path) if path is not None else {}
    table: dict[str, Any] = values.get(name, {})
    return table, path


def expand_path(value: str, config_path: str | None) -> str:
    """A path of the file may begin with ``~``; a relative one counts from the file's folder."""
    return os.path.join(os.path.dirname(os.path.abspath(config_path or "")), os.path.expanduser(value))


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


def parse_duration(text: str, origin: str, *, may_be_zero: bool = False) -> float:
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
    if seconds > _MAX_DURATION_S:
        raise BadArgumentError(f"{origin}: {escape_controls(text)} is too long.", "The longest is 366d.")
    if not (seconds or may_be_zero):
        raise BadArgumentError(
            f"{origin}: {escape_controls(text)} is no time at all.", "Write it as 90s, 10m or 1h30m."
        )
    return seconds


def parse_size(text: str, origin: str) -> int:
    """Bytes, from ``12GiB``, ``1.5G``, ``500 MiB`` or ``8GB``; BadArgumentError names ``origin``.

    ``G`` is ``GiB``, 1024 at each step, as model files and drivers count; ``GB`` is 1000 at each step. Upper and lower
    case are the same. A number alone is refused: nobody means twelve bytes.
    """
    digits = text.strip()
    unit = digits.lstrip("0123456789.")
    digits = digits.removesuffix(unit)
    factor = _SIZES.get(unit.strip().lower())
    if factor is None or not _is_number(digits):
        raise BadArgumentError(
            f"{origin}: not a size: {escape_controls(shorten(text, 100)) or '(empty)'}",
            "Write it as 12GiB, 500MiB or 8G.",
        )
    size = round(float(digits) * factor)
    if not 0 < size <= _MAX_BYTES:
        raise BadArgumentError(
            f"{origin}: {escape_controls(text)} is no size that any machine has.", "Write it as 12GiB, 500MiB or 8G."
        )
    return size


def _is_number(text: str) -> bool:
    return text.isascii() and text.count(".") <= 1 and text.replace(".", "", 1).isdigit() and len(text) < 20


def _find_key(
    flags: Flags, environ: Mapping[str, str], values: dict[str, Any], path: str | None, url: str | None
) -> tuple[str | None, str | None]:
    """The key for ``url``; without one, where the key of the file belongs instead."""
    if flags.api_key_file:
        return read_key_file(flags.api_key_file, "--api-key-file"), None
    key = environ.get("CORRAL_API_KEY") or environ.get("LLAMA_API_KEY")
    if key:
        return key, None
    key_file = _expand(values, "api_key_file", path)
    if not key_file and "api_key" not in values:
        return None, None
    own = _find_other_owner(values.get("url"), url, path)
    if own is not None:
        return None, own
    if key_file:
        return read_key_file(key_file, f"api_key_file in {escape_controls(path or '')}"), None
    return values["api_key"], None


def _find_other_owner(own: str | None, url: str | None, path: str | None) -> str | None:
    """The router of the file's ``url``, as it may be printed, when that is another one than that of ``url``."""
    if own is None or url is None or own == url:
        return None
    from corral.client.target import parse_url

    try:
        owner = parse_url(own)
    except BadArgumentError as error:
        raise BadArgumentError(f"{escape_controls(path or '')}: url: {error.message}", error.hint) from None
    return None if owner == parse_url(url) else owner.label


def _read_file(path: str) -> dict[str, Any]:
    shown = escape_controls(path)
    values = _read_toml(path, shown)
    for key, value in values.items():
        if key in _TABLES and isinstance(value, dict):
            continue
        if key not in _KEYS:
            raise BadArgumentError(
                f"{shown}: unknown setting {escape_controls(key)}.", f"Known settings: {', '.join((*_KEYS, *_TABLES))}."
            )
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (isinstance(value, str) or (key.endswith("_timeout") and is_number)):
            raise BadArgumentError(f"{shown}: {key} has the wrong type.", 'Write it in quotes, as in url = "http://…".')
        if isinstance(value, str) and not value.strip():
            raise BadArgumentError(f"{shown}: {key} is empty.", "Give it a value, or remove the line.")
    return values


def _read_toml(path: str, shown: str) -> dict[str, Any]:
    import tomllib

    try:
        # A device may never end, and a pipe that nobody writes to keeps its reader waiting.
        if not S_ISREG(os.stat(path).st_mode):
            raise ValueError("it is not a plain file")
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
        if len(data) > _MAX_FILE_BYTES:
            raise ValueError(f"it is larger than {_MAX_FILE_BYTES >> 20} MiB")
        return tomllib.loads(data.decode())
    except RecursionError:
        said = "it is nested too deeply"
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or escape_controls(str(error))
    raise BadArgumentError(f"The configuration {shown} cannot be read: {said}.", "Mend it, or remove it.")


def _pick_duration(
    flag: float | None, environ: Mapping[str, str], variable: str, values: dict[str, Any], key: str, origin: str
) -> float | None:
    if flag is not None:
        return flag
    text = environ.get(variable)
    if text:
        return parse_duration(text, variable)
    return parse_duration(str(values[key]), f"{origin}{key}") if key in values else None


def _expand(values: dict[str, Any], key: str, path: str | None) -> str | None:
    value = values.get(key)
    if value is None:
        return None
    if "\0" in value:
        raise BadArgumentError(
            f"{escape_controls(path or '')}: {key} holds a character that no path can have.", "Mend the path."
        )
    return expand_path(value, path)
