"""``AsyncRouter``: the same verbs, rules and promises as ``Router``, on aiohttp (the ``async`` extra)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from time import monotonic
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

try:
    import aiohttp
except ImportError as missing:
    raise ImportError("AsyncRouter needs aiohttp: pip install 'llama-corral[async]'") from missing
from yarl import URL

from corral.client.aio_engine import AsyncEngine, follow_stream
from corral.client.arguments import check_names, check_seconds, check_texts, check_timeouts
from corral.client.path_errors import explain_path_error, explain_proxy_error
from corral.client.proxy import read_proxy
from corral.client.session import KeyGuard
from corral.client.settings import (
    MAX_BODY_BYTES,
    Timeouts,
    build_headers,
    build_tls,
    check_key,
    explain_too_large,
)
from corral.client.target import DEFAULT_URL, Target, parse_url
from corral.ops import (
    Heard,
    Load,
    LoadReport,
    Selection,
    StreamLost,
    StreamOpened,
    Unload,
    UnloadReport,
    WaitFor,
    WaitReport,
)
from corral.ops.measurement import Meter
from corral.ops.protocol import Input, Verb
from corral.wire import (
    AuthError,
    BrokenCallError,
    Call,
    Event,
    Listing,
    Model,
    NotARouterError,
    RefusedError,
    Reply,
    UnreachableError,
    list_models,
)

_LAST_ROUNDS_S = 1.0
"""A cut connection is closed by callbacks of the loop's next rounds; this long is far more than they take."""


class AsyncRouter:
    """A llama-server in router mode, at one address; see ``Router`` for parameters, promises and errors.

    ::

        from corral import AsyncRouter

        async with AsyncRouter("http://127.0.0.1:8080") as router:
            report = await router.unload_all()

    Cancelling a verb's task stops it at once; the router goes on with what it was asked.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        ca_file: str | None = None,
        timeouts: Timeouts | None = None,
        meter: Meter | None = None,
        find_pinned: Callable[[], tuple[str, ...]] | None = None,
        key_elsewhere: str | None = None,
    ) -> None:
        self.meter = meter
        self.headers: dict[str, str] = {}
        """What goes along with every call."""
        self._find_pinned = find_pinned
        self._target = parse_url(url)
        self._timeouts = check_timeouts(timeouts) if timeouts is not None else Timeouts()
        self._tls = build_tls(ca_file) if self._target.scheme == "https" else None
        self._proxy = read_proxy(self._target)
        self._guard = KeyGuard(check_key(api_key), key_elsewhere)
        self._session: aiohttp.ClientSession | None = None
        self._sockets: WeakSet[socket.socket] = WeakSet()

    @property
    def target(self) -> Target:
        """The address, taken apart."""
        return self._target

    @property
    def url(self) -> str:
        """The address, safe to print."""
        return self._target.label

    async def list_models(self) -> Listing:
        """Look at all models. Never loads, wakes or unloads one."""
        listing: Listing = await self.send(list_models())
        return listing

    async def residents(self) -> list[Model]:
        """The models that have a child process: ``loading``, ``loaded`` or ``sleeping``."""
        return [model for model in (await self.list_models()).models if model.is_resident]

    async def unload(
        self,
        *names: str,
        grace_s: float | None = None,
        force: bool = False,
        at_once: bool = False,
        wait: bool = True,
        timeout_s: float | None = None,
        say: Callable[[object], None] | None = None,
    ) -> UnloadReport:
        """Unload the named models; see ``Router.unload``."""
        verb = Unload(
            Selection(check_names(names)),
            grace_s=check_seconds("grace_s", grace_s, least_s=0.0),
            force=force,
            at_once=at_once,
            wait=wait,
            timeout_s=check_seconds("timeout_s", timeout_s),
        )
        report: UnloadReport = await self.run(verb, say)
        return report

    async def unload_all(
        self,
        *,
        tags: Sequence[str] = (),
        match: Sequence[str] = (),
        keep: Sequence[str] = (),
        include_pinned: bool = False,
        grace_s: float | None = None,
        force: bool = False,
        at_once: bool = False,
        wait: bool = True,
        timeout_s: float | None = None,
        say: Callable[[object], None] | None = None,
    ) -> UnloadReport:
        """Unload every resident model, or some of them; see ``Router.unload_all``."""
        chosen = (check_texts("tags", tags), check_texts("match", match), check_texts("keep", keep))
        find = None if include_pinned else self._find_pinned
        pinned = () if find is None else await asyncio.to_thread(find)
        selection = Selection((), True, *chosen, pinned)
        verb = Unload(
            selection,
            grace_s=check_seconds("grace_s", grace_s, least_s=0.0),
            force=force,
            at_once=at_once,
            wait=wait,
            timeout_s=check_seconds("timeout_s", timeout_s),
        )
        report: UnloadReport = await self.run(verb, say)
        return report

    async def load(
        self,
        *names: str,
        wait: bool = True,
        timeout_s: float | None = None,
        say: Callable[[object], None] | None = None,
    ) -> LoadReport:
        """Load models one after another; see ``Router.load``."""
        verb = Load(check_names(names), wait=wait, timeout_s=check_seconds("timeout_s", timeout_s))
        report: LoadReport = await self.run(verb, say)
        return report

    async def restore(
        self, *names: str, timeout_s: float | None = None, say: Callable[[object], None] | None = None
    ) -> LoadReport:
        """Load models, never more than the router has room for; see ``Router.restore``."""
        from corral.ops.restore import Restore

        verb = Restore(check_names(names), timeout_s=check_seconds("timeout_s", timeout_s))
        report: LoadReport = await self.run(verb, say)
        return report

    async def wait(self, *names: str, state: str, timeout_s: float | None = None) -> WaitReport:
        """Wait until the models are in a state; see ``Router.wait``."""
        verb = WaitFor(check_names(names), state, timeout_s=check_seconds("timeout_s", timeout_s))
        report: WaitReport = await self.run(verb)
        return report

    async def follow(
        self, on_state: Callable[[StreamOpened | StreamLost], None] | None = None, deadline: float | None = None
    ) -> AsyncIterator[Event]:
        """What the router says, as it says it; see ``Router.follow``."""
        await self.list_models()
        inbox: asyncio.Queue[StreamOpened | Heard | StreamLost] = asyncio.Queue()
        task = asyncio.create_task(follow_stream(self, inbox.put_nowait), name="corral-events")
        try:
            while True:
                try:
                    async with asyncio.timeout_at(deadline):
                        item = await inbox.get()
                except TimeoutError:
                    return
                if isinstance(item, Heard):
                    yield item.event
                    continue
                if isinstance(item, StreamLost) and isinstance(item.error, RefusedError):
                    raise item.error
                if on_state is not None:
                    on_state(item)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def run(
        self, verb: Verb, say: Callable[[object], None] | None = None, inbox: asyncio.Queue[Input] | None = None
    ) -> Any:
        """Run any verb of ``corral.ops`` to its report; what other tasks put into ``inbox`` reaches the verb."""
        return await AsyncEngine(self, verb, say, inbox).run()

    async def send(self, call: Call, until: float | None = None) -> Any:
        """Send one call and return what its reader makes of the reply; see ``Router.send``."""
        is_list = call == list_models()
        if self._guard.needs_proof:
            reply = await self._exchange(list_models(), None, self._timeouts, until)
            self._guard.learn(reply)
            if is_list and (reply.status != 401 or self._guard.needs_proof):
                return self._read(call, reply)
        return self._read(call, await self._exchange(call, self._guard.key, self._timeouts, until))

    async def send_apart(self, call: Call) -> Any:
        """Send one call that may block, with no limit on silence."""
        limits = Timeouts(self._timeouts.connect_s, None, None)
        return self._read(call, await self._exchange(call, self._guard.key, limits))

    @contextlib.asynccontextmanager
    async def open_stream(self, call: Call, headers_s: float) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open a stream; its head must come within ``headers_s``."""
        limits = aiohttp.ClientTimeout(total=None, sock_connect=self._timeouts.connect_s)
        request = self._request(call, self._guard.key, limits)
        try:
            async with asyncio.timeout(headers_s):
                response = await request
        except (OSError, aiohttp.ClientError) as error:
            raise self._explain(call, error) from None
        try:
            if response.status != 200:
                self._read(call, Reply(response.status, _lower_headers(response), await response.read()))
            yield response
        finally:
            # Left in the middle, so it cannot be used again; and TLS would wait for the server's goodbye.
            if response.connection is not None and response.connection.transport is not None:
                response.connection.transport.abort()
            response.close()

    async def aclose(self) -> None:
        """Close the connections; using the router again opens new ones."""
        if self._session is not None:
            await self._session.close()
            await self._close_sockets()
        self._session = None

    async def _close_sockets(self) -> None:
        """See every connection's end: over TLS a transport waits for the other side's goodbye, which may never come."""
        for left in self._sockets:
            # Closed meanwhile, or never connected.
            with contextlib.suppress(OSError):
                left.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_ROUNDS_S):
                while any(left.fileno() >= 0 for left in self._sockets):
                    await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _request(self, call: Call, key: str | None, limits: aiohttp.ClientTimeout) -> Any:
        """An awaitable response. Redirects are not followed; the environment's proxies only where allowed."""
        headers = build_headers(self._target, key) | self.headers | dict(call.headers)
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        proxy = self._proxy
        if proxy is not None and self._target.scheme == "http":
            headers |= proxy.build_headers()
        scheme = "http" if self._target.scheme == "unix" else self._target.scheme
        url = URL(f"{scheme}://{self._target.authority}{self._target.prefix}{call.path}", encoded=True)
        return self._open_session().request(
            call.method,
            url,
            data=call.body,
            headers=headers,
            timeout=limits,
            allow_redirects=False,
            proxy=None if proxy is None else proxy.label,
            # For https they go along with CONNECT; for http there is only the one request.
            proxy_headers=None if proxy is None else proxy.build_headers(),
            ssl=self._tls if self._tls is not None else True,
        )

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector: aiohttp.BaseConnector
            if self._target.scheme == "unix":
                connector = aiohttp.UnixConnector(self._target.socket_path, force_close=True)
            else:
                # Every call gets a fresh connection: llama-server drops idle ones, and a POST must not meet that.
                connector = aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=self._make_socket)
            self._session = aiohttp.ClientSession(connector=connector, trust_env=False, auto_decompress=False)
        return self._session

    def _make_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        made = socket.socket(*address[:3])
        self._sockets.add(made)
        return made

    async def _exchange(self, call: Call, key: str | None, limits: Timeouts, until: float | None = None) -> Reply:
        timeout = aiohttp.ClientTimeout(total=limits.total_s, sock_connect=limits.connect_s, sock_read=limits.read_s)
        try:
            async with (
                asyncio.timeout(None if until is None else until - monotonic()),
                await self._request(call, key, timeout) as response,
            ):
                body = await self._read_body(response)
                if self._proxy is not None and response.status == 407:
                    raise explain_proxy_error(self._target, self._proxy, f"{response.status} {response.reason}")
                return Reply(response.status, _lower_headers(response), body)
        except (OSError, aiohttp.ClientError) as error:
            raise self._explain(call, error) from None

    async def _read_body(self, response: aiohttp.ClientResponse) -> bytes:
        pieces: list[bytes] = []
        size = 0
        async for piece in response.content.iter_any():
            size += len(piece)
            pieces.append(piece)
            if size > MAX_BODY_BYTES:
                raise explain_too_large()
        return b"".join(pieces)

    def _explain(self, call: Call, error: Exception) -> UnreachableError | NotARouterError:
        cause = _find_cause(error)
        if self._proxy is not None and isinstance(
            error, aiohttp.ClientProxyConnectionError | aiohttp.ClientConnectorDNSError
        ):
            return explain_proxy_error(self._target, self._proxy, cause)
        if self._proxy is not None and isinstance(error, aiohttp.ClientHttpProxyError):
            return explain_proxy_error(self._target, self._proxy, f"{error.status} {error.message}")
        if isinstance(error, aiohttp.ClientResponseError):
            return NotARouterError(
                f"What answers on {self.url} does not speak HTTP as llama-server does.",
                "Check the port; an https:// router needs https:// in the URL.",
            )
        never_sent = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
        explained = explain_path_error(self._target, cause, self._proxy, is_connecting=never_sent)
        if call.method == "GET" or never_sent:
            return explained
        return BrokenCallError(explained.message, explained.hint)

    def _read(self, call: Call, reply: Reply) -> Any:
        try:
            return call.read(reply)
        except AuthError as error:
            raise self._guard.explain(error) from None


def _find_cause(error: Exception) -> Exception:
    """What the operating system or TLS said, below aiohttp's own words; a proxy's failure has two layers of them."""
    while isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    return error.certificate_error if isinstance(error, aiohttp.ClientConnectorCertificateError) else error


def _lower_headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}
