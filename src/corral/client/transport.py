"""One connection to a router, blocking.

A GET on a connection that has gone stale is sent again on a new one. A POST never is: the caller gets
BrokenCallError and reads the state before deciding. A connection idle for 3 s is replaced before a POST.
"""

from __future__ import annotations

import socket
from time import monotonic

from corral.client.deadline import DeadlineSocket
from corral.client.http1 import NotHttpError, Response, build_request
from corral.client.path_errors import explain_path_error, explain_proxy_error
from corral.client.proxy import Proxy, read_proxy
from corral.client.settings import IDLE_LIMIT_S, MAX_BODY_BYTES, Timeouts, build_headers, build_tls
from corral.client.target import Target, encode_host, encode_path
from corral.wire import BrokenCallError, Call, NotARouterError, Reply, UnreachableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl


class Transport:
    """Sends one call after another over one connection; not for use by two threads at once."""

    def __init__(self, target: Target, timeouts: Timeouts, ca_file: str | None = None) -> None:
        self._target = target
        self._timeouts = timeouts
        self._tls: ssl.SSLContext | None = build_tls(ca_file) if target.scheme == "https" else None
        self._proxy = read_proxy(target)
        self._socket: DeadlineSocket | None = None
        self._used_at = 0.0
        self.writes = 0
        """How often bytes have gone out or were just about to; what was interrupted before was not acted on."""

    def send(self, call: Call, key: str | None, until: float | None = None) -> Reply:
        """Send a call and read its whole reply, no later than ``until`` on ``time.monotonic``'s clock.

        Raises UnreachableError when it never reached the server, BrokenCallError when it may have,
        NotARouterError when the reply is no HTTP or too large.
        """
        if call.method != "GET" and monotonic() - self._used_at > IDLE_LIMIT_S:
            self.close()
        reused = self._socket
        try:
            response = self._exchange(call, key, until=until)
        except UnreachableError as error:
            stale = isinstance(error.__cause__, ConnectionResetError | BrokenPipeError)
            if reused is None or reused.is_shut or not stale or call.method != "GET":
                raise
            response = self._exchange(call, key, until=until)
        try:
            body = self._read_body(response)
        except (OSError, NotHttpError) as error:
            self.close()
            raise self._broken(call, error) from None
        self._used_at = monotonic()
        if not response.is_reusable:
            self.close()
        if self._proxy is not None and response.status == 407:
            raise explain_proxy_error(self._target, self._proxy, f"{response.status} {response.reason}")
        return Reply(response.status, response.headers, body)

    def open_stream(self, call: Call, key: str | None, headers_s: float) -> tuple[Reply, Response]:
        """Send a call whose reply has no end; return its head, and the response to read from.

        ``headers_s`` bounds the wait for the head. Reads after it wait without limit; ``shut`` ends them.
        """
        response = self._exchange(call, key, headers_s)
        if response.status != 200:
            reply = Reply(response.status, response.headers, self._read_body(response))
            self.close()
            return reply, response
        connection = self._connect()
        connection.deadline = connection.read_s = None
        return Reply(response.status, response.headers, b""), response

    def shut(self) -> None:
        """Wake a thread that reads from this connection; safe from any thread."""
        connection = self._socket
        if connection is not None:
            connection.shut()

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _exchange(
        self, call: Call, key: str | None, total_s: float | None = None, until: float | None = None
    ) -> Response:
        """Send the request and read the head of the reply."""
        connection = self._connect(until)
        limit_s = total_s if total_s is not None else self._timeouts.total_s
        ends = [] if limit_s is None else [monotonic() + limit_s]
        connection.deadline = min([*ends, until]) if until is not None else min(ends, default=None)
        headers = build_headers(self._target, key) | dict(call.headers)
        if self._proxy and self._target.scheme == "http":
            headers |= self._proxy.build_headers()
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.send(build_request(call.method, self._path(call), headers, call.body))
            return Response(connection.receive)
        except (OSError, ValueError) as error:
            self.close()
            raise self._broken(call, error) from error

    def _count_write(self) -> None:
        """Before the first byte goes: an interruption that comes right after the last one must not deny the request."""
        self.writes += 1

    def _path(self, call: Call) -> str:
        path = encode_path(self._target.prefix) + call.path
        if self._proxy and self._target.scheme == "http":
            return f"http://{encode_host(self._target.authority)}{path}"
        return path

    def _connect(self, until: float | None = None) -> DeadlineSocket:
        if self._socket is not None:
            return self._socket
        try:
            inner = self._dial(_limit(self._timeouts.connect_s, until))
        except (OSError, UnicodeError) as error:
            raise explain_path_error(self._target, error, self._proxy, is_connecting=True) from None
        self._socket = DeadlineSocket(inner, self._timeouts.read_s, self._count_write)
        return self._socket

    def _dial(self, connect_s: float | None) -> socket.socket:
        if self._target.scheme == "unix":
            inner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            inner.settimeout(connect_s)
            try:
                inner.connect(self._target.socket_path)
            except BaseException:
                inner.close()
                raise
            return inner
        inner = self._dial_proxy(self._proxy, connect_s) if self._proxy else _dial_host(self._target, connect_s)
        if self._tls is None:
            return inner
        try:
            return self._tls.wrap_socket(inner, server_hostname=self._target.host)
        except BaseException:
            inner.close()
            raise

    def _dial_proxy(self, proxy: Proxy, connect_s: float | None) -> socket.socket:
        """A connection to the proxy, or for https through it to the router."""
        inner: socket.socket | None = None
        try:
            inner = _dial_host(proxy, connect_s)
            if self._target.scheme == "https":
                self._open_tunnel(inner, proxy, connect_s)
                inner.settimeout(connect_s)
        except BaseException as error:
            if inner is not None:
                inner.close()
            if isinstance(error, OSError | ValueError):
                raise explain_proxy_error(self._target, proxy, error) from None
            raise
        return inner

    def _open_tunnel(self, inner: socket.socket, proxy: Proxy, connect_s: float | None) -> None:
        connection = DeadlineSocket(inner, connect_s)
        connection.deadline = None if connect_s is None else monotonic() + connect_s
        host = encode_host(self._target.host)
        authority = f"{f'[{host}]' if ':' in host else host}:{self._target.port}"
        connection.send(build_request("CONNECT", authority, {"Host": authority} | proxy.build_headers(), None))
        response = Response(connection.receive)
        if not 200 <= response.status < 300:
            raise explain_proxy_error(self._target, proxy, f"{response.status} {response.reason}")

    def _read_body(self, response: Response) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while piece := response.read():
            size += len(piece)
            pieces.append(piece)
            if size > MAX_BODY_BYTES:
                self.close()
                raise NotARouterError(
                    f"The answer is larger than {MAX_BODY_BYTES >> 20} MiB; a router's is not.",
                    "Check the URL: something other than llama-server seems to answer.",
                )
        return b"".join(pieces)

    def _broken(self, call: Call, error: Exception) -> UnreachableError | NotARouterError:
        label = self._target.label
        if isinstance(error, NotHttpError):
            return NotARouterError(
                f"What answers on {label} does not speak HTTP: {error}",
                "Check the port; an https:// router needs https:// in the URL.",
            )
        explained = explain_path_error(self._target, error, self._proxy)
        if call.method == "GET":
            return explained
        return BrokenCallError(explained.message, explained.hint)


def _limit(limit_s: float | None, until: float | None) -> float | None:
    """The limit in seconds, or what is left until then, if that is less; raises TimeoutError when nothing is."""
    if until is None:
        return limit_s
    left_s = until - monotonic()
    if left_s <= 0:
        raise TimeoutError("the time is over")
    return left_s if limit_s is None else min(limit_s, left_s)


def _dial_host(place: Target | Proxy, connect_s: float | None) -> socket.socket:
    host = place.host
    # As bytes, an ASCII name needs no IDNA codec, whose import alone takes five milliseconds.
    address = (host.encode() if host.isascii() else host, place.port)
    inner = socket.create_connection(address, connect_s)  # type: ignore[arg-type]  # the stubs lack bytes
    inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return inner
