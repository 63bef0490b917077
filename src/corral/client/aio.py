"""``AsyncRouter``: the same verbs, rules and promises as ``Router``, on aiohttp (the ``async`` extra)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any

try:
    import aiohttp
except ImportError as missing:
    raise ImportError("AsyncRouter needs aiohttp: pip install 'llama-corral[async]'") from missing
from yarl import URL

from corral.client.aio_engine import AsyncEngine, follow_stream
from corral.client.session import KeyGuard
from corral.client.settings import (
    MAX_BODY_BYTES,
    Timeouts,
    build_headers,
    build_tls,
    check_key,
    explain_path_error,
    find_proxy,
)
from corral.client.target import DEFAULT_URL, parse_url
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
from corral.ops.protocol import Verb
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
    ) -> None:
        self._target = parse_url(url)
        self._timeouts = timeouts if timeouts is not None else Timeouts()
        self._tls = build_tls(ca_file) if self._target.scheme == "https" else None
        self._proxy = find_proxy(self._target)
        self._guard = KeyGuard(check_key(api_key))
        self._session: aiohttp.ClientSession | None = None

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
        at_once: bool = False,
        wait: bool = True,
        timeout_s: float | None = None,
        say: Callable[[object], None] | None = None,
    ) -> UnloadReport:
        """Unload the named models; see ``Router.unload``."""
        verb = Unload(Selection(names), at_once=at_once, wait=wait, timeout_s=timeout_s)
        report: UnloadReport = await self.run(verb, say)
        return report

    async def unload_all(
        self,
        *,
        tags: Sequence[str] = (),
        match: Sequence[str] = (),
        keep: Sequence[str] = (),
        at_once: bool = False,
        wait: bool = True,
        timeout_s: float | None = None,
        say: Callable[[object], None] | None = None,
    ) -> UnloadReport:
        """Unload every resident model, or some of them; see ``Router.unload_all``."""
        selection = Selection((), True, tuple(tags), tuple(match), tuple(keep))
        report: UnloadReport = await self.run(Unload(selection, at_once=at_once, wait=wait, timeout_s=timeout_s), say)
        return report

    async def load(
        self,
        *names: str,
        wait: bool = True,
        timeout_s: float | None = None,
        say: Callable[[object], None] | None = None,
    ) -> LoadReport:
        """Load models one after another; see ``Router.load``."""
        report: LoadReport = await self.run(Load(names, wait=wait, timeout_s=timeout_s), say)
        return report

    async def wait(self, *names: str, state: str, timeout_s: float | None = None) -> WaitReport:
        """Wait until the models are in a state; see ``Router.wait``."""
        report: WaitReport = await self.run(WaitFor(names, state, timeout_s=timeout_s))
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

    async def run(self, verb: Verb, say: Callable[[object], None] | None = None) -> Any:
        """Run any verb of ``corral.ops`` to its report."""
        return await AsyncEngine(self, verb, say).run()

    async def send(self, call: Call) -> Any:
        """Send one call and return what its reader makes of the reply."""
        is_list = call == list_models()
        if self._guard.needs_proof:
            reply = await self._exchange(list_models(), None, self._timeouts)
            self._guard.learn(reply)
            if is_list and (reply.status != 401 or self._guard.needs_proof):
                return self._read(call, reply)
        return self._read(call, await self._exchange(call, self._guard.key, self._timeouts))

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
            # The transports are closed by callbacks of the loop's next round.
            await asyncio.sleep(0)
        self._session = None

    async def __aenter__(self) -> AsyncRouter:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _request(self, call: Call, key: str | None, limits: aiohttp.ClientTimeout) -> Any:
        """An awaitable response. Redirects are not followed; the environment's proxies only where allowed."""
        headers = build_headers(self._target, key)
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        scheme = "http" if self._target.scheme == "unix" else self._target.scheme
        url = URL(f"{scheme}://{self._target.authority}{self._target.prefix}{call.path}", encoded=True)
        return self._open_session().request(
            call.method,
            url,
            data=call.body,
            headers=headers,
            timeout=limits,
            allow_redirects=False,
            proxy=self._proxy,
            ssl=self._tls if self._tls is not None else True,
        )

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector: aiohttp.BaseConnector
            if self._target.scheme == "unix":
                connector = aiohttp.UnixConnector(self._target.socket_path, force_close=True)
            else:
                # Every call gets a fresh connection: llama-server drops idle ones, and a POST must not meet that.
                connector = aiohttp.TCPConnector(limit=0, force_close=True)
            self._session = aiohttp.ClientSession(connector=connector, trust_env=False, auto_decompress=False)
        return self._session

    async def _exchange(self, call: Call, key: str | None, limits: Timeouts) -> Reply:
        timeout = aiohttp.ClientTimeout(total=limits.total_s, sock_connect=limits.connect_s, sock_read=limits.read_s)
        try:
            async with await self._request(call, key, timeout) as response:
                body = await self._read_body(response)
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
                raise NotARouterError(
                    f"The answer is larger than {MAX_BODY_BYTES >> 20} MiB; a router's is not.",
                    "Check the URL: something other than llama-server seems to answer.",
                )
        return b"".join(pieces)

    def _explain(self, call: Call, error: Exception) -> UnreachableError | NotARouterError:
        cause = error
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            cause = error.certificate_error
        elif isinstance(error, aiohttp.ClientConnectorError):
            cause = error.os_error
        elif isinstance(error, aiohttp.ClientResponseError):
            return NotARouterError(
                f"What answers on {self.url} does not speak HTTP as llama-server does.",
                "Check the port; an https:// router needs https:// in the URL.",
            )
        explained = explain_path_error(self._target, cause)
        never_sent = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
        if call.method == "GET" or never_sent:
            return explained
        return BrokenCallError(explained.message, explained.hint)

    def _read(self, call: Call, reply: Reply) -> Any:
        try:
            return call.read(reply)
        except AuthError as error:
            raise self._guard.explain(error) from None


def _lower_headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}
