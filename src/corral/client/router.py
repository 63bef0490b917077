"""``Router``: the blocking library, on the standard library alone."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from time import monotonic

from corral.client.arguments import check_names, check_seconds, check_texts, check_timeouts
from corral.client.engine import Engine
from corral.client.events import EventThread
from corral.client.session import KeyGuard
from corral.client.settings import Timeouts, check_key
from corral.client.target import DEFAULT_URL, Target, parse_url
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
from corral.wire import AuthError, BadArgumentError, Call, Event, Listing, Model, RefusedError, Reply, list_models

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType
    from typing import Any, Self

    from corral.client.http1 import Response
    from corral.ops.measurement import Meter
    from corral.ops.protocol import Input, Verb


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
        timeouts: limits of a single call; a verb has its own ``timeout_s``, which bounds its calls as well.
        meter: what looks at the router's machine, for requests in flight and memory; None where nothing does.
        find_pinned: gives the ids that ``unload_all`` leaves alone; None where nothing is pinned.
        key_elsewhere: the router that a key at hand belongs to, if that is another; told where this one wants a key.

    Every ``timeout_s`` is in seconds, above 0 and at most a year; a ``grace_s`` may be 0. Infinity and "not a number"
    are refused like all else that cannot be waited for, with BadArgumentError; so is one text where several belong.

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
        meter: Meter | None = None,
        find_pinned: Callable[[], tuple[str, ...]] | None = None,
        key_elsewhere: str | None = None,
    ) -> None:
        self.meter = meter
        self._find_pinned = find_pinned
        self.gateway: str | None = None
        """The version of the Corral gateway that answers in the router's place, by its newest list; None if none."""
        self.sign: Callable[[], tuple[tuple[str, str], ...]] | None = None
        """Gives the headers by which a gateway is told who asks it for a change; None tells it nothing."""
        self._target = parse_url(url)
        self._timeouts = check_timeouts(timeouts) if timeouts is not None else Timeouts()
        self._ca_file = ca_file
        self._guard = KeyGuard(check_key(api_key), key_elsewhere)
        self._transport = Transport(self._target, self._timeouts, ca_file)

    @property
    def target(self) -> Target:
        """The address, taken apart."""
        return self._target

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
        grace_s: float | None = None,
        force: bool = False,
        at_once: bool = False,
        wait: bool = True,
        timeout_s: float | None = None,
        say: Callable[[object], None] | None = None,
    ) -> UnloadReport:
        """Unload the named models when they are idle, and return when each was seen unloaded or the time was up.

        Requests in flight are waited for up to ``grace_s`` (None: 30 s); then ``force`` unloads all the same,
        which cuts them. ``at_once`` waits for nothing, forces, and also kills what is still loading.
        ``timeout_s`` None means grace, longest stop-timeout of the models and 20 s together. ``report.ok``
        tells whether all went well; a model's failure is no exception.
        """
        verb = Unload(
            Selection(check_names(names)),
            grace_s=check_seconds("grace_s", grace_s, least_s=0.0),
            force=force,
            at_once=at_once,
            wait=wait,
            timeout_s=check_seconds("timeout_s", timeout_s),
        )
        report: UnloadReport = self.run(verb, say)
        return report

    def unload_all(
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
        """Unload every resident model, or those with a tag or a matching id or alias, but never ``keep``.

        What is pinned is left alone as well, unless ``include_pinned``.
        """
        chosen = (check_texts("tags", tags), check_texts("match", match), check_texts("keep", keep))
        pinned = () if include_pinned or self._find_pinned is None else self._find_pinned()
        selection = Selection((), True, *chosen, pinned)
        verb = Unload(
            selection,
            grace_s=check_seconds("grace_s", grace_s, least_s=0.0),
            force=force,
            at_once=at_once,
            wait=wait,
            timeout_s=check_seconds("timeout_s", timeout_s),
        )
        report: UnloadReport = self.run(verb, say)
        return report

    def load(
        self,
        *names: str,
        wait: bool = True,
        timeout_s: float | None = None,
        say: Callable[[object], None] | None = None,
    ) -> LoadReport:
        """Load models one after another, and return when each was seen loaded. ``timeout_s`` None means 600."""
        verb = Load(check_names(names), wait=wait, timeout_s=check_seconds("timeout_s", timeout_s))
        report: LoadReport = self.run(verb, say)
        return report

    def restore(
        self, *names: str, timeout_s: float | None = None, say: Callable[[object], None] | None = None
    ) -> LoadReport:
        """Load models one after another, in order, but never more than the router has room for.

        So nobody's model is evicted; what there is no room for (``no_room``) and what is no model any more
        (``vanished``) are outcomes in the report. ``timeout_s`` None gives each model 600 s of its own.
        """
        from corral.ops.restore import Restore

        verb = Restore(check_names(names), timeout_s=check_seconds("timeout_s", timeout_s))
        report: LoadReport = self.run(verb, say)
        return report

    def wait(self, *names: str, state: str, timeout_s: float | None = None) -> WaitReport:
        """Wait until the models are in a state (``corral.ops.STATES``). ``timeout_s`` None means 600."""
        verb = WaitFor(check_names(names), state, timeout_s=check_seconds("timeout_s", timeout_s))
        report: WaitReport = self.run(verb)
        return report

    def follow(
        self, on_state: Callable[[StreamOpened | StreamLost], None] | None = None, deadline: float | None = None
    ) -> Iterator[Event]:
        """What the router says, as it says it; reconnects until the caller stops.

        ``on_state`` hears when the stream opens and breaks: what was said in between is lost, so look at the
        list then. ``deadline`` is on ``time.monotonic``'s clock; None is never. Raises RefusedError where this
        build has no event stream, or not for us, and BadArgumentError where the system allows no thread for it.
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
                if isinstance(item, StreamLost) and isinstance(item.error, RefusedError | BadArgumentError):
                    raise item.error
                if on_state is not None:
                    on_state(item)
        finally:
            thread.close()

    def run(
        self, verb: Verb, say: Callable[[object], None] | None = None, inbox: SimpleQueue[Input] | None = None
    ) -> Any:
        """Run any verb of ``corral.ops`` to its report. KeyboardInterrupt ends it early, and the report says so.

        What other threads put into ``inbox`` reaches the verb between two calls, such as ``Ended``.
        """
        return Engine(self, verb, say, inbox).run()

    def send(self, call: Call, until: float | None = None) -> Any:
        """Send one call and return what its reader makes of the reply.

        It ends by ``until`` at the latest, on ``time.monotonic``'s clock; None leaves it to the time limits alone.
        """
        is_list = call == list_models()
        if self._guard.needs_proof:
            reply = self._transport.send(list_models(), None, until)
            self._guard.learn(reply)
            self.gateway = reply.headers.get("corral-gateway")
            if is_list and (reply.status != 401 or self._guard.needs_proof):
                return self._read(call, reply)
        reply = self._transport.send(self._signed(call), self._guard.key, until)
        if is_list:
            self.gateway = reply.headers.get("corral-gateway")
        return self._read(call, reply)

    def send_apart(self, call: Call) -> Any:
        """Send one call that may block, on a connection of its own with no limit on silence; from any thread."""
        limits = Timeouts(self._timeouts.connect_s, None, None)
        transport = Transport(self._target, limits, self._ca_file)
        try:
            return self._read(call, transport.send(self._signed(call), self._guard.key))
        finally:
            transport.close()

    def open_stream(self, call: Call, headers_s: float) -> tuple[Transport, Response]:
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
    def writes(self) -> int:
        """How often bytes have gone out: an interrupted call that left this as it was never reached the router."""
        return self._transport.writes

    def break_off(self) -> None:
        """End the call under way, from any thread: it fails as if the router had gone away."""
        self._transport.shut()

    def close(self) -> None:
        """Close the connection; using the router again opens a new one."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _signed(self, call: Call) -> Call:
        """A change with who asks for it, where a gateway has answered; what has headers of its own says that itself."""
        if call.method != "POST" or call.headers or self.gateway is None or self.sign is None:
            return call
        return Call(call.method, call.path, call.read, call.body, self.sign())

    def _read(self, call: Call, reply: Reply) -> Any:
        try:
            return call.read(reply)
        except AuthError as error:
            raise self._guard.explain(error) from None
