"""``Router``: the blocking library, on the standard library alone."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from time import monotonic

from corral.client.engine import Engine
from corral.client.events import EventThread
from corral.client.session import KeyGuard
from corral.client.settings import Timeouts, check_key
from corral.client.target import DEFAULT_URL, parse_url
from corral.client.transport import Transport
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
from corral.wire import AuthError, Call, Event, Listing, Model, RefusedError, Reply, list_models

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from http.client import HTTPResponse
    from types import TracebackType
    from typing import Any

    from corral.ops.protocol import Verb


class Router:
    """A llama-server in router mode, at one address.

    ::

        from corral import Router

        with Router("http://127.0.0.1:8080") as router:
            report = router.unload_all()
            assert report.ok

    Parameters:
        url: ``http://host:port[/prefix]``, ``https://...`` or ``unix:///path/to.sock``.
        api_key: one of the router's keys. It is sent only to what has answered as llama.cpp.
        ca_file: for https, a PEM file with the authority to trust instead of the system's.
        timeouts: limits of a single call; a verb has its own ``timeout_s``.

    Not for use by two threads at once; give each its own. Raises the errors of ``corral.wire.errors``:
    UnreachableError, NotARouterError, AuthError, RefusedError, UnknownModelError, BadArgumentError.
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
        self._ca_file = ca_file
        self._guard = KeyGuard(check_key(api_key))
        self._transport = Transport(self._target, self._timeouts, ca_file)

    @property
    def url(self) -> str:
        """The address, safe to print."""
        return self._target.label

    def list_models(self) -> Listing:
        """Look at all models. Never loads, wakes or unloads one."""
        listing: Listing = self.send(list_models())
        return listing

    def residents(self) -> list[Model]:
        """The models that have a child process: ``loading``, ``loaded`` or ``sleeping``."""
        return [model for model in self.list_models().models if model.is_resident]

    def unload(
        self,
        *names: str,
        at_once: bool = False,
        wait: bool = True,
        timeout_s: float | None = None,
        say: Callable[[object], None] | None = None,
    ) -> UnloadReport:
        """Unload the named models, and return when each was seen unloaded or the time was up.

        ``at_once`` also kills what is still loading. ``timeout_s`` None means the longest stop-timeout of
        the models plus 20 s. ``report.ok`` tells whether all went well; a model's failure is no exception.
        """
        verb = Unload(Selection(names), at_once=at_once, wait=wait, timeout_s=timeout_s)
        report: UnloadReport = self.run(verb, say)
        return report

    def unload_all(
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
        """Unload every resident model, or those with a tag or a matching id or alias, but never ``keep``."""
        selection = Selection((), True, tuple(tags), tuple(match), tuple(keep))
        report: UnloadReport = self.run(Unload(selection, at_once=at_once, wait=wait, timeout_s=timeout_s), say)
        return report

    def load(
        self,
        *names: str,
        wait: bool = True,
        timeout_s: float | None = None,
        say: Callable[[object], None] | None = None,
    ) -> LoadReport:
        """Load models one after another, and return when each was seen loaded. ``timeout_s`` None means 600."""
        report: LoadReport = self.run(Load(names, wait=wait, timeout_s=timeout_s), say)
        return report

    def wait(self, *names: str, state: str, timeout_s: float | None = None) -> WaitReport:
        """Wait until the models are in a state (``corral.ops.STATES``). ``timeout_s`` None means 600."""
        report: WaitReport = self.run(WaitFor(names, state, timeout_s=timeout_s))
        return report

    def follow(
        self, on_state: Callable[[StreamOpened | StreamLost], None] | None = None, deadline: float | None = None
    ) -> Iterator[Event]:
        """What the router says, as it says it; reconnects until the caller stops.

        ``on_state`` hears when the stream opens and breaks: what was said in between is lost, so look at the
        list then. ``deadline`` is on ``time.monotonic``'s clock; None is never. Raises RefusedError where this
        build has no event stream, or not for us.
        """
        self.list_models()
        inbox: SimpleQueue[StreamOpened | Heard | StreamLost] = SimpleQueue()
        thread = EventThread(self, inbox.put)
        thread.start()
        try:
            while True:
                try:
                    item = inbox.get(timeout=None if deadline is None else max(0.0, deadline - monotonic()))
                except Empty:
                    return
                if isinstance(item, Heard):
                    yield item.event
                    continue
                if isinstance(item, StreamLost) and isinstance(item.error, RefusedError):
                    raise item.error
                if on_state is not None:
                    on_state(item)
        finally:
            thread.close()

    def run(self, verb: Verb, say: Callable[[object], None] | None = None) -> Any:
        """Run any verb of ``corral.ops`` to its report. KeyboardInterrupt ends it early, and the report says so."""
        return Engine(self, verb, say).run()

    def send(self, call: Call) -> Any:
        """Send one call and return what its reader makes of the reply."""
        is_list = call == list_models()
        if self._guard.needs_proof:
            reply = self._transport.send(list_models(), None)
            self._guard.learn(reply)
            if is_list and (reply.status != 401 or self._guard.needs_proof):
                return self._read(call, reply)
        return self._read(call, self._transport.send(call, self._guard.key))

    def send_apart(self, call: Call) -> Any:
        """Send one call that may block, on a connection of its own with no limit on silence; from any thread."""
        limits = Timeouts(self._timeouts.connect_s, None, None)
        transport = Transport(self._target, limits, self._ca_file)
        try:
            return self._read(call, transport.send(call, self._guard.key))
        finally:
            transport.close()

    def open_stream(self, call: Call, headers_s: float) -> tuple[Transport, HTTPResponse]:
        """Open a stream on a connection of its own; the caller closes the transport."""
        transport = Transport(self._target, self._timeouts, self._ca_file)
        try:
            reply, response = transport.open_stream(call, self._guard.key, headers_s)
            if reply.status != 200:
                self._read(call, reply)
        except BaseException:
            transport.close()
            raise
        return transport, response

    @property
    def is_sent(self) -> bool:
        """Whether the newest request went out whole, for a caller that was interrupted in it."""
        return self._transport.is_sent

    def close(self) -> None:
        """Close the connection; using the router again opens a new one."""
        self._transport.close()

    def __enter__(self) -> Router:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, call: Call, reply: Reply) -> Any:
        try:
            return call.read(reply)
        except AuthError as error:
            raise self._guard.explain(error) from None
