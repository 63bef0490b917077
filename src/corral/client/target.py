"""Where a router is: a URL taken apart once, and how it is shown."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from corral.wire import BadArgumentError, Record, escape_controls

DEFAULT_URL = "http://127.0.0.1:8080"
_PORTS = {"http": 80, "https": 443}


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
        """Host and port as in a URL and in the Host header."""
        if self.scheme == "unix":
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the address is this machine's own by its form; no name is looked up."""
        if self.scheme == "unix" or self.host.lower() in ("localhost", "::1"):
            return True
        parts = self.host.split(".")
        return len(parts) == 4 and parts[0] == "127" and all(part.isdigit() for part in parts)


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
    prefix = _clean_prefix(parts.path)
    return Target(parts.scheme, host, port if port is not None else _PORTS[parts.scheme], prefix)


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
        raise BadArgumentError(
            f"Not a unix socket URL: {escape_controls(text)}", "Write it as unix:///run/llama-server.sock."
        )
    return Target("unix", "", 0, _clean_prefix("/" + prefix.strip("/") if prefix else ""), unquote(path))


def _bad_url(url: str) -> BadArgumentError:
    return BadArgumentError(
        f"Not a router URL: {escape_controls(url) or '(empty)'}",
        f"Write it as {DEFAULT_URL} or unix:///run/llama-server.sock.",
    )
