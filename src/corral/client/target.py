"""Where a router is: a URL taken apart once, and how it is shown."""

from __future__ import annotations

from corral.wire import BadArgumentError, Record, escape_controls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.ops.promises import RouterKey

DEFAULT_URL = "http://127.0.0.1:8080"
_PORTS = {"http": 80, "https": 443}
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-")


class Target(Record):
    """A router's address."""

    scheme: str
    """``http``, ``https`` or ``unix``."""
    host: str
    """Host name or address, without brackets; empty for a unix socket."""
    port: int
    prefix: str
    """The router's ``--api-prefix``: empty, or a path that begins with a slash and does not end with one."""
    socket_path: str = ""

    @property
    def label(self) -> str:
        """The address as a person writes it; holds no user name, password or query."""
        if self.scheme == "unix":
            return f"unix://{escape_controls(self.socket_path)}{'?prefix=' if self.prefix else ''}{self.prefix}"
        return f"{self.scheme}://{self.authority}{self.prefix}"

    @property
    def authority(self) -> str:
        """Host and port as people write them in a URL."""
        if self.scheme == "unix":
            return "localhost"
        return self._join(self.host)

    @property
    def host_header(self) -> str:
        """The same as requests carry it, in ASCII."""
        return "localhost" if self.scheme == "unix" else self._join(encode_host(self.host))

    def _join(self, host: str) -> str:
        bracketed = f"[{host}]" if ":" in host else host
        return bracketed if self.port == _PORTS[self.scheme] else f"{bracketed}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the address is this machine's own by its form; no name is looked up.

        The unspecified addresses count too: whoever connects to ``0.0.0.0`` or ``::`` reaches the same machine.
        """
        name = self.host.lower().removesuffix(".")
        if self.scheme == "unix" or name in ("localhost", "ip6-localhost") or name.endswith(".localhost"):
            return True
        packed = _pack(name)
        return packed is not None and _is_own_address(packed)


def parse_url(url: str) -> Target:
    """Take a router's URL apart.

    Accepts ``http://host[:port][/prefix]``, ``https://...``, ``host:port`` and ``unix:///path/to.sock[?prefix=/p]``.
    Raises BadArgumentError with what to write instead.
    """
    text = url.strip()
    if text.startswith("unix:"):
        return _parse_unix(text)
    if "://" not in text:
        text = f"http://{text}"
    plain = _read_plain(text)
    if plain is not None:
        return plain
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _bad_url(url) from None
    if parts.scheme not in _PORTS or not host or any(c.isspace() or ord(c) < 32 for c in text):
        raise _bad_url(url)
    if parts.username is not None or parts.password is not None:
        raise BadArgumentError(
            "The URL holds a user name or password; Corral does not send those.",
            "llama-server takes an API key: set CORRAL_API_KEY or give --api-key-file.",
        )
    if parts.query or parts.fragment:
        raise BadArgumentError("The URL has a query or fragment.", f"Write it as {parts.scheme}://{parts.netloc}.")
    try:
        host.encode("idna" if not host.isascii() else "ascii")
    except UnicodeError:
        raise _bad_url(url) from None
    return _build(parts.scheme, host, port, parts.path)


def _read_plain(text: str) -> Target | None:
    """Read what is a name or address, perhaps with a port, and no more; None for all else.

    This is nearly every router's URL, and ``urllib.parse``, which reads all others, takes a while to import.
    """
    scheme, _, rest = text.partition("://")
    host, mark, port = rest.removesuffix("/").partition(":")
    if scheme not in _PORTS or not host or not _PLAIN.issuperset(host):
        return None
    if mark and not (port.isascii() and port.isdigit() and len(port) < 6 and int(port) < 1 << 16):
        return None
    return _build(scheme, host, int(port) if mark else None, "")


def _build(scheme: str, host: str, port: int | None, path: str) -> Target:
    packed = _pack(host)
    if packed is not None:
        import socket

        # One address has one spelling from here on.
        host = socket.inet_ntop(socket.AF_INET6 if len(packed) == 16 else socket.AF_INET, packed)
    return Target(scheme, host, port if port is not None else _PORTS[scheme], _clean_prefix(path))


def identify(url: str, resolve: Callable[[str], list[str]] | None = None) -> RouterKey:
    """What promises about the router at this URL hang on.

    ``resolve`` gives a host's addresses, empty when it has none; None asks the system. Raises BadArgumentError.
    """
    from corral.ops.promises import build_router_key, is_loopback_name

    # By way of the label, which is all that some callers have, so that all find the same key.
    target = parse_url(parse_url(url).label)
    is_known = target.scheme == "unix" or is_loopback_name(target.host)
    return build_router_key(
        target.label,
        scheme=target.scheme,
        host=target.host,
        port=target.port,
        prefix=target.prefix,
        path=target.socket_path,
        addresses=[] if is_known else (resolve or _resolve)(target.host),
    )


def encode_host(host: str) -> str:
    """A host's name or address as requests carry it."""
    return host if host.isascii() else host.encode("idna").decode("ascii")


def encode_path(path: str) -> str:
    """A path as requests carry it; what is percent-encoded already stays so."""
    if path.isascii():
        return path
    from urllib.parse import quote

    return quote(path, safe="/%:@!$&'()*+,;=~-._")


def _resolve(host: str) -> list[str]:
    import socket

    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [str(address[0]) for *_, address in found]


def _pack(host: str) -> bytes | None:
    """The bytes of an address in any spelling that the system's resolver takes, as ``127.1``; None for a name."""
    if ":" not in host and not host[:1].isdigit():
        return None
    import socket

    try:
        return socket.inet_pton(socket.AF_INET6, host) if ":" in host else socket.inet_aton(host)
    except (OSError, ValueError):
        return None


def _is_own_address(packed: bytes) -> bool:
    if len(packed) == 16:
        if packed in (bytes(16), bytes(15) + b"\1"):
            return True
        if packed[:12] != bytes(10) + b"\xff\xff":
            return False
    return packed[-4] == 127 or packed[-4:] == bytes(4)


def _clean_prefix(path: str) -> str:
    """The OpenAI-style ``/v1`` that many settings hold is no prefix of the router's own calls."""
    prefix = path.rstrip("/")
    for ending in ("/v1/models", "/models", "/v1"):
        if prefix.endswith(ending):
            return prefix.removesuffix(ending)
    return prefix


def _parse_unix(text: str) -> Target:
    path, _, query = text.removeprefix("unix:").partition("?")
    if path.startswith("//"):
        path = path[2:]
    prefix = query.removeprefix("prefix=") if query.startswith("prefix=") else ""
    if not path.startswith("/") or (query and not prefix):
        raise BadArgumentError(f"Not a unix socket URL: {_mask(text)}", "Write it as unix:///run/llama-server.sock.")
    if "%" in path:
        from urllib.parse import unquote

        path = unquote(path)
    return Target("unix", "", 0, _clean_prefix("/" + prefix.strip("/") if prefix else ""), path)


def _bad_url(url: str) -> BadArgumentError:
    return BadArgumentError(
        f"Not a router URL: {_mask(url) or '(empty)'}",
        f"Write it as {DEFAULT_URL} or unix:///run/llama-server.sock.",
    )


def _mask(url: str) -> str:
    """A wrong URL as it may be shown: what may be a password or a key in it is not."""
    scheme, mark, rest = url.partition("://")
    if not (mark and scheme.isalnum()):
        scheme, mark, rest = "", "", url
    before, _, after = rest.rpartition("@")
    if any(end in before for end in "?#"):
        rest = "***"
    elif before or rest.startswith("@"):
        rest = f"***@{after}"
    for end in "?#":
        if end in rest:
            rest = f"{rest.partition(end)[0]}{end}***"
    return escape_controls(scheme + mark + rest)
