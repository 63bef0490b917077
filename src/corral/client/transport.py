"""One connection to a router, blocking.

A GET on a connection that has gone stale is sent again on a new one. A POST never is: the caller gets
BrokenCallError and reads the state before deciding. A connection idle for 3 s is replaced before a POST, and one on
which anything came unasked before any request.

Rule for whoever edits this: whatever ends a call before its answer was read whole, Ctrl-C too, closes the connection.
Otherwise the next call would take that answer for its own.
"""

from __future__ import annotations

import socket
from time import monotonic

from corral.client.deadline import DeadlineSocket
from corral.client.http1 import BadReplyError, NotHttpError, Response, build_request
from corral.client.path_errors import explain_path_error, explain_proxy_error
from corral.client.proxy import Proxy, read_proxy
from corral.client.settings import IDLE_LIMIT_S, MAX_BODY_BYTES, Timeouts, build_headers, build_tls, explain_too_large
from corral.client.target import Target, encode_host, encode_path
from corral.wire import BadArgumentError, BrokenCallError, Call, NotARouterError, Reply, UnreachableError

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
        """The connection, from the moment when it is being made."""
        self._used_at = 0.0
        self.writes = 0
        """How often bytes have gone out or were just about to; what was interrupted before was not acted on."""

    def send(self, call: Call, key: str | None, until: float | None = None) -> Reply:
        """Send a call and read its whole reply, no later than ``until`` on ``time.monotonic``'s clock.

        Raises UnreachableError when it never reached the server, BrokenCallError when it may have,
        NotARouterError when the reply is no HTTP or too large, BadArgumentError when HTTP cannot carry the request.
        """
        deadline = _earlier(until, self._timeouts.total_s)
        if call.method != "GET" and monotonic() - self._used_at > IDLE_LIMIT_S:
            self.close()
        if self._socket is not None and not self._socket.is_quiet():
            self.close()
        reused = self._socket
        try:
            try:
                response = self._exchange(call, key, deadline)
            except UnreachableError as error:
                stale = isinstance(error.__cause__, ConnectionResetError | BrokenPipeError)
                if reused is None or reused.is_shut or not stale or call.method != "GET":
                    raise
                response = self._exchange(call, key, deadline)
            body = self._read_body(call, response)
        except BaseException:
            self.close()
            raise
        self._used_at = monotonic()
        if not response.is_reusable:
            self.close()
        if self._proxy is not None and response.status == 407:
            raise explain_proxy_error(self._target, self._proxy, f"{response.status} {response.reason}")
        return Reply(response.status, response.headers, body)

    def open_stream(self, call: Call, key: str | None, headers_s: float) -> tuple[Reply, Response]:
        """Send a call whose reply has no end; return its head, and the response to read from.

        ``headers_s`` bounds the wait for the head. Reads after it wait without limit; ``shut`` ends them.
        Raises what ``send`` does.
        """
        try:
            response = self._exchange(call, key, _earlier(None, headers_s))
            if response.status != 200:
                reply = Reply(response.status, response.headers, self._read_body(call, response))
                self.close()
                return reply, response
        except BaseException:
            self.close()
            raise
        if self._socket is not None:
            self._socket.deadline = self._socket.limit_s = None
        return Reply(response.status, response.headers, b""), response

    def shut(self) -> None:
        """Wake a thread that waits for this connection, while it is being made too; safe from any thread."""
        connection = self._socket
        if connection is not None:
            connection.shut()

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _exchange(self, call: Call, key: str | None, deadline: float | None) -> Response:
        """Send the request and read the head of the reply."""
        headers = build_headers(self._target, key) | dict(call.headers)
        if self._proxy and self._target.scheme == "http":
            headers |= self._proxy.build_headers()
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        try:
            request = build_request(call.method, self._path(call), headers, call.body)
        except ValueError as error:
            raise BadArgumentError(f"The request cannot be sent: {error}.", "Check the path of --url.") from None
        connection = self._socket or self._connect(deadline)
        connection.limit_s, connection.deadline, connection.on_send = self._timeouts.read_s, deadline, self._count_write
        writes = self.writes
        try:
            connection.send(request)
            return Response(connection.receive)
        except (OSError, ValueError) as error:
            self.close()
            raise self._broken(call, error, may_have_gone_out=self.writes > writes) from error

    def _count_write(self) -> None:
        """Before the first byte goes: an interruption that comes right after the last one must not deny the request."""
        self.writes += 1

    def _path(self, call: Call) -> str:
        path = encode_path(self._target.prefix) + call.path
        if self._proxy and self._target.scheme == "http":
            return f"http://{self._target.host_header}{path}"
        return path

    def _connect(self, deadline: float | None) -> DeadlineSocket:
        """Make the connection, with TLS where that is meant."""
        try:
            if self._proxy:
                connection = self._connect_through(self._proxy, deadline)
            elif self._target.scheme == "unix":
                connection = self._dial(socket.AF_UNIX, self._target.socket_path, deadline)
            else:
                connection = self._dial_host(self._target, deadline)
            if self._tls is not None:
                connection.secure(self._tls, self._target.host)
        except (OSError, ValueError) as error:
            self.close()
            raise explain_path_error(self._target, error, self._proxy, is_connecting=True) from None
        except BaseException:
            self.close()
            raise
        return connection

    def _connect_through(self, proxy: Proxy, deadline: float | None) -> DeadlineSocket:
        """A connection to the proxy, or for https through it to the router."""
        try:
            connection = self._dial_host(proxy, deadline)
            if self._target.scheme != "https":
                return connection
            host = encode_host(self._target.host)
            authority = f"{f'[{host}]' if ':' in host else host}:{self._target.port}"
            connection.send(build_request("CONNECT", authority, {"Host": authority} | proxy.build_headers(), None))
            response = Response(connection.receive, has_body=False)
        except (OSError, ValueError) as error:
            raise explain_proxy_error(self._target, proxy, error) from None
        if not 200 <= response.status < 300:
            raise explain_proxy_error(self._target, proxy, f"{response.status} {response.reason}")
        return connection

    def _dial_host(self, place: Target | Proxy, deadline: float | None) -> DeadlineSocket:
        """A connection to the first of a host's addresses that answers."""
        # As bytes, an ASCII name needs no IDNA codec, whose import alone takes five milliseconds.
        host = place.host.encode() if place.host.isascii() else place.host
        failure = OSError("the host name has no address")
        for family, _, _, _, address in socket.getaddrinfo(host, place.port, type=socket.SOCK_STREAM):
            try:
                return self._dial(family, address, deadline)
            except OSError as error:
                if self._socket is not None and self._socket.is_shut:
                    raise
                failure = error
        raise failure

    def _dial(self, family: int, address: object, deadline: float | None) -> DeadlineSocket:
        if deadline is not None and monotonic() >= deadline:
            raise TimeoutError("the time is over")
        self.close()
        # From here on another thread can end it.
        self._socket = DeadlineSocket(family, self._timeouts.connect_s, deadline)
        self._socket.connect(address)
        return self._socket

    def _read_body(self, call: Call, response: Response) -> bytes:
        pieces: list[bytes] = []
        size = 0
        try:
            while piece := response.read():
                size += len(piece)
                pieces.append(piece)
                if size > MAX_BODY_BYTES:
                    raise explain_too_large()
        except (OSError, ValueError) as error:
            raise self._broken(call, error, may_have_gone_out=True) from None
        return b"".join(pieces)

    def _broken(self, call: Call, error: Exception, *, may_have_gone_out: bool) -> UnreachableError | NotARouterError:
        label = self._target.label
        explained: UnreachableError | NotARouterError
        if isinstance(error, NotHttpError):
            explained = NotARouterError(
                f"What answers on {label} does not speak HTTP: {error}",
                "Check the port; an https:// router needs https:// in the URL.",
            )
        elif isinstance(error, BadReplyError):
            explained = NotARouterError(
                f"The answer from {label} is no proper HTTP: {error}",
                "llama-server does not answer so: look at what stands between, such as a proxy or tunnel.",
            )
        else:
            explained = explain_path_error(self._target, error, self._proxy)
        if call.method == "GET" or not may_have_gone_out:
            return explained
        return BrokenCallError(explained.message, explained.hint)


def _earlier(until: float | None, limit_s: float | None) -> float | None:
    """The earlier of a time and the end of a limit from now on; None when there is neither."""
    ends = [] if until is None else [until]
    if limit_s is not None:
        ends.append(monotonic() + limit_s)
    return min(ends, default=None)
