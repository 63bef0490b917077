"""Settings from the ``[serve]`` table of the configuration and the command line; what cannot be used is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from corral.client.settings import check_key
from corral.client.target import Target, parse_url
from corral.config import expand_path, parse_duration, parse_size, read_key_file
from corral.gateway.rules import Rules
from corral.gateway.settings import DEFAULT_TASK_HEADER, Limits, Listener, Mount, Settings
from corral.ops.admission import Limits as DoorLimits
from corral.ops.idle import IdleLimits
from corral.ops.promises import is_loopback_name
from corral.wire import BadArgumentError, Record, escape_controls

DEFAULT_LISTEN = "127.0.0.1:8080"
_MAX_KEYS_BYTES = 1 << 20
_UNSPECIFIED = ("0.0.0.0", "::", "")


class ServeFlags(Record):
    """What the command line said; None or empty where it said nothing."""

    listen: tuple[str, ...] = ()
    router: str | None = None
    client_keys_file: str | None = None
    api_key_file: str | None = None
    ca_file: str | None = None


def read_settings(flags: ServeFlags, table: Mapping[str, Any], path: str | None) -> Settings:
    """Put the settings together. Raises BadArgumentError, which names the setting and the next step."""
    reader = _Reader(table, path, "serve")
    keys = _read_client_keys(flags.client_keys_file or reader.path("client_keys_file"))
    listeners = _read_listeners(flags, reader, path)
    settings = Settings(
        listeners,
        _read_limits(reader),
        keys,
        tuple(host.lower() for host in reader.texts("allowed_hosts")),
        tuple(origin.lower().rstrip("/") for origin in reader.texts("allowed_origins")),
        reader.text("task_header") or DEFAULT_TASK_HEADER,
        _read_rules(reader),
    )
    reader.finish()
    _check(settings)
    return settings


def _read_listeners(flags: ServeFlags, reader: _Reader, path: str | None) -> tuple[Listener, ...]:
    addresses = flags.listen or reader.texts("listen") or (DEFAULT_LISTEN,)
    found: dict[Target, list[Mount]] = {parse_listen(text): [] for text in addresses}
    usual = tuple(found)
    main = reader.mount(flags)
    if main is not None:
        for address in usual:
            found[address].append(main)
    for number, entry in enumerate(reader.tables("routers"), 1):
        own = _Reader(entry, path, f"serve.routers[{number}]")
        places = tuple(map(parse_listen, own.texts("listen"))) or usual
        mount = own.mount(ServeFlags())
        if mount is None:
            raise BadArgumentError(f"{own.origin}: router is missing.", 'Write it as router = "http://127.0.0.1:8081".')
        own.finish()
        for address in places:
            found.setdefault(address, []).append(mount)
    for address, mounts in found.items():
        if not mounts:
            raise BadArgumentError(
                f"No router is named for {address.label}.", "Give --router http://127.0.0.1:8081, or set serve.router."
            )
        if len({mount.prefix for mount in mounts}) < len(mounts):
            raise BadArgumentError(f"Two routers of {address.label} have the same prefix.", "Give each its own prefix.")
    return tuple(Listener(address, tuple(mounts)) for address, mounts in found.items())


def parse_listen(text: str) -> Target:
    """Where to listen: ``127.0.0.1:8080``, ``[::1]:8080``, ``:8080`` (the loopback) or ``unix:///path``."""
    try:
        target = parse_url(f"127.0.0.1{text}" if text.startswith(":") else text)
    except BadArgumentError:
        raise BadArgumentError(
            f"Not an address to listen on: {escape_controls(text)}",
            "Write it as 127.0.0.1:8080, :8080 or unix:///run/corral.sock.",
        ) from None
    if target.scheme == "https" or target.prefix:
        raise BadArgumentError(
            f"Cannot listen on {target.label}: it is an address to listen on, without https and without a path.",
            "Write it as 127.0.0.1:8080 or unix:///run/corral.sock; TLS belongs to a proxy in front.",
        )
    return target


def _check(settings: Settings) -> None:
    for listener in settings.listeners:
        address = listener.address
        if not settings.client_keys and address.scheme != "unix" and not _is_own(address):
            raise BadArgumentError(
                f"{address.label} can be reached by others, and no client keys are set.",
                "Listen on 127.0.0.1, or name a file of keys with --client-keys-file.",
            )
        for mount in listener.mounts:
            if mount.api_key is not None and not settings.client_keys:
                raise BadArgumentError(
                    f"There is a key for the router {mount.target.label}, and no client keys are set: whoever connects "
                    "would use that key.",
                    "Name a file of keys with --client-keys-file; it may be the router's own key file.",
                )
            if _is_same(mount.target, address):
                raise BadArgumentError(
                    f"The gateway would be its own router: both are {address.label}.",
                    "Start the router on another port, such as 8081, and name that as --router.",
                )


def _is_own(address: Target) -> bool:
    return address.host not in _UNSPECIFIED and address.is_loopback


def _is_same(router: Target, address: Target) -> bool:
    if router.scheme == "unix" or address.scheme == "unix":
        return router.scheme == address.scheme and router.socket_path == address.socket_path
    hosts_meet = router.host == address.host or (is_loopback_name(router.host) and is_loopback_name(address.host))
    return hosts_meet and router.port == address.port != 0


def _read_limits(reader: _Reader) -> Limits:
    usual = Limits()
    return Limits(
        max_head_bytes=reader.size("max_head") or usual.max_head_bytes,
        max_body_bytes=reader.size("max_body") or usual.max_body_bytes,
        max_bodies_bytes=reader.size("max_bodies") or usual.max_bodies_bytes,
        max_connections=reader.count("max_connections") or usual.max_connections,
        idle_s=reader.duration("idle_timeout") or usual.idle_s,
        body_s=reader.duration("body_timeout") or usual.body_s,
        send_s=reader.duration("send_timeout") or usual.send_s,
        connect_s=reader.duration("connect_timeout") or usual.connect_s,
        look_s=reader.duration("look_timeout") or usual.look_s,
        hung_s=reader.duration("hung_timeout") or usual.hung_s,
        stop_s=reader.duration("stop_timeout") or usual.stop_s,
    )


def _read_rules(reader: _Reader) -> Rules:
    usual, door = Rules(), DoorLimits()
    limits = DoorLimits(
        parked_max=reader.count("max_parked") or door.parked_max,
        parked_bytes_max=reader.size("max_parked_bytes") or door.parked_bytes_max,
        load_park_s=reader.duration("load_timeout") or door.load_park_s,
        settle_park_s=reader.duration("load_timeout") or door.settle_park_s,
        held_park_s=door.held_park_s if (held := reader.duration("park_held", may_be_zero=True)) is None else held,
        refuses_tasks=reader.flag("refuse_tasks", door.refuses_tasks),
    )
    return Rules(
        limits,
        grace_s=reader.duration("grace") or usual.grace_s,
        eject_s=reader.duration("eject_wait") or usual.eject_s,
        eject_grace_s=reader.duration("eject_grace") or usual.eject_grace_s,
        idle=IdleLimits(reader.duration("idle"), tuple(map(_read_match, reader.texts("idle_match")))),
        idle_never=reader.texts("idle_never"),
    )


def _read_match(text: str) -> tuple[str, float]:
    """``GLOB=DURATION``; a glob may hold an equals sign."""
    pattern, mark, duration = text.rpartition("=")
    if not (mark and pattern):
        raise BadArgumentError(
            f"serve.idle_match: not GLOB=DURATION: {escape_controls(text)}", 'Write it as "qwen*=10m".'
        )
    return pattern, parse_duration(duration, "serve.idle_match")


def _read_client_keys(path: str | None) -> tuple[tuple[str, str], ...]:
    """``label key`` or a key alone on each line; empty lines and those that begin with ``#`` are skipped."""
    if path is None:
        return ()
    shown = escape_controls(path)
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_KEYS_BYTES + 1)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or "not a usable path"
        raise BadArgumentError(
            f"The file of client keys {shown} cannot be read: {said}.", "Write one key a line, or 'label key'."
        ) from None
    found: list[tuple[str, str]] = []
    # Labels go into the ledger and the log, which take whole characters only.
    for number, line in enumerate(data[:_MAX_KEYS_BYTES].decode("utf-8-sig", "replace").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) > 2:
            raise BadArgumentError(f"{shown}: line {number} is not a key.", "Write one key a line, or 'label key'.")
        key = check_key(words[-1])
        assert key is not None, "a word is not empty"
        found.append((words[0] if len(words) == 2 else f"key {len(found) + 1}", key))
    if not found:
        raise BadArgumentError(
            f"The file of client keys {shown} holds no key.", "Write one key a line, or 'label key'."
        )
    return tuple(found)


class _Reader:
    """Reads one table, setting by setting, and knows in the end which ones nobody asked for."""

    def __init__(self, table: Mapping[str, Any], path: str | None, name: str) -> None:
        self._table, self._path = table, path
        self.origin = f"{escape_controls(path or '')}: {name}"
        self._asked: set[str] = set()

    def text(self, key: str) -> str | None:
        value: str | None = self._read(key, _is_text, "a text in quotes")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """One text, or a list of them."""

        def fits(value: object) -> bool:
            items = value if isinstance(value, list) else [value]
            return all(isinstance(item, str) and item.strip() for item in items)

        value = self._read(key, fits, "a text in quotes, or a list of them")
        return () if value is None else tuple(value) if isinstance(value, list) else (value,)

    def tables(self, key: str) -> list[Mapping[str, Any]]:
        def fits(value: object) -> bool:
            return isinstance(value, list) and all(isinstance(item, dict) for item in value)

        return self._read(key, fits, f"one or more tables [[serve.{key}]]") or []

    def path(self, key: str) -> str | None:
        value = self.text(key)
        return None if value is None else expand_path(value, self._path)

    def flag(self, key: str, default: bool) -> bool:
        value: bool | None = self._read(key, lambda value: isinstance(value, bool), "true or false")
        return default if value is None else value

    def count(self, key: str) -> int | None:
        value: int | None = self._read(key, _is_count, "a whole number from 1 on")
        return value

    def size(self, key: str) -> int | None:
        value = self.text(key)
        return None if value is None else parse_size(value, f"{self.origin}.{key}")

    def duration(self, key: str, *, may_be_zero: bool = False) -> float | None:
        value = self._read(key, lambda value: isinstance(value, str | int | float), 'a duration, as "90s"')
        return None if value is None else parse_duration(str(value), f"{self.origin}.{key}", may_be_zero=may_be_zero)

    def mount(self, flags: ServeFlags) -> Mount | None:
        """The router of this table; None where it names none."""
        url = self.text("router")
        prefix = (self.text("prefix") or "").rstrip("/")
        key_file = flags.api_key_file or self.path("api_key_file")
        ca_file = flags.ca_file or self.path("ca_file")
        url = flags.router or url
        if url is None:
            return None
        if prefix and not (
            prefix.startswith("/") and prefix.isascii() and prefix.isprintable() and not set("%?#") & set(prefix)
        ):
            raise BadArgumentError(f"{self.origin}.prefix is no path.", 'Write it as prefix = "/small".')
        key = None if key_file is None else check_key(read_key_file(key_file, f"the key of {self.origin}"))
        return Mount(parse_url(url), prefix, key, ca_file)

    def finish(self) -> None:
        """Refuse what nobody asked for."""
        for key in self._table:
            if key not in self._asked:
                known = ", ".join(sorted(self._asked))
                raise BadArgumentError(
                    f"{self.origin}: unknown setting {escape_controls(key)}.", f"Known settings: {known}."
                )

    def _read(self, key: str, fits: Callable[[Any], bool], form: str) -> Any:
        self._asked.add(key)
        value = self._table.get(key)
        if value is not None and not fits(value):
            raise BadArgumentError(f"{self.origin}.{key} has the wrong form.", f"It is {form}.")
        return value


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0
