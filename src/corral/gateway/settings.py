"""The settings of a gateway as one frozen value; ``docs/gateway.md`` lists them."""

from __future__ import annotations

from corral.client.target import Target
from corral.gateway.rules import Rules
from corral.wire import Record

MIB = 1 << 20
DEFAULT_TASK_HEADER = "X-OWUI-Task"


class Limits(Record):
    """What one client, and all of them together, may take."""

    max_head_bytes: int = 16 << 10
    """Of one line of a request's head; llama-server itself takes 8 KiB."""
    max_body_bytes: int = 100 * MIB
    """Of one request; llama-server itself takes 100 MiB."""
    max_bodies_bytes: int = 1024 * MIB
    """Of all requests that are being read, parked or sent."""
    max_connections: int = 4096
    idle_s: float = 75.0
    """How long a connection may be idle, and a request's head may take."""
    body_s: float = 300.0
    """How long a request's body may take."""
    send_s: float = 600.0
    """How long a client may take nothing of an answer that waits for it."""
    linger_s: float = 2.0
    """How long what a refused client goes on sending is still taken, so that it reads why."""
    connect_s: float = 5.0
    """How long a connection to the router may take."""
    look_s: float = 30.0
    """How long the router may take for what it answers itself, such as its list."""
    hung_s: float = 300.0
    """How long the router may say nothing to anybody, asked for its health too, before who waits is answered."""
    stop_s: float = 30.0
    """How long answers that are under way may go on once the gateway is told to stop."""


class Mount(Record):
    """One router and where clients find it."""

    target: Target
    prefix: str = ""
    """The path that leads to this router and is taken off; empty where the whole address is its own."""
    api_key: str | None = None
    """Shown to the router for clients that showed a key of their own."""
    ca_file: str | None = None

    @property
    def base(self) -> str:
        """What stands before llama-server's own paths, as clients see them."""
        return self.prefix or self.target.prefix

    def __repr__(self) -> str:
        """The key never shows."""
        return f"Mount(target={self.target!r}, prefix={self.prefix!r})"


class Listener(Record):
    """One address and the routers behind it."""

    address: Target
    """``http`` with host and port, or ``unix`` with a path."""
    mounts: tuple[Mount, ...]


class Settings(Record):
    """All of it."""

    listeners: tuple[Listener, ...]
    limits: Limits = Limits()
    client_keys: tuple[tuple[str, str], ...] = ()
    """Label and key of each client that may come in; empty: anybody who can connect."""
    allowed_hosts: tuple[str, ...] = ()
    """Names besides the loopback's and the listeners' own under which changes may be asked for."""
    allowed_origins: tuple[str, ...] = ()
    """Web pages, besides the gateway's own, that may ask for changes."""
    task_header: str = DEFAULT_TASK_HEADER
    """The header with Open WebUI's word for a background task."""
    rules: Rules = Rules()

    def __repr__(self) -> str:
        """The keys never show."""
        return f"Settings(listeners={self.listeners!r}, limits={self.limits!r}, clients={len(self.client_keys)})"
