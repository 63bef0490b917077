"""A careful look at one address: what answers there, whether the key works, and if not here, where on that host.

Only harmless questions are asked: the list, the server's own ``/props``, and two that show how it treats foreign web
pages. None loads, wakes or keeps awake a model. The key goes to nothing that has not answered as llama.cpp.
"""

from __future__ import annotations

from time import monotonic

from corral.client.search import search_host
from corral.client.session import KeyGuard
from corral.client.settings import Timeouts, check_key
from corral.client.target import Target
from corral.client.transport import Transport
from corral.ops.diagnosis import (
    FAILING,
    FOREIGN,
    LOCKED,
    MISPLACED,
    NOTHING,
    ROUTER,
    SINGLE,
    STARTING,
    Answer,
    Elsewhere,
)
from corral.wire import AuthError, Call, CorralError, Listing, NotARouterError, RefusedError, Reply, list_models
from corral.wire.probes import PageAccess, list_as_page, preflight_unload
from corral.wire.props import Props, ask_props
from corral.wire.reading import as_int

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_GOOD = frozenset({ROUTER, LOCKED, FAILING})
"""What ends the search: this is the right address, whatever else is wrong."""


class Examination:
    """One look at one address; ``run`` gives the Answer and never raises a CorralError.

    Parameters:
        key: sent only once the server has shown that it is llama.cpp.
        clock: seconds since 1970, as ``time.time``.
        find_others: addresses on the same host, to be asked for a router where this one is none; called only then.
        key_elsewhere: the router that a key at hand belongs to, when that is another one.
    """

    def __init__(
        self,
        target: Target,
        *,
        key: str | None = None,
        ca_file: str | None = None,
        timeouts: Timeouts | None = None,
        clock: Callable[[], float],
        find_others: Callable[[], Iterable[Target]] = tuple,
        key_elsewhere: str | None = None,
    ) -> None:
        self._target = target
        self._ca_file = ca_file
        self._guard = KeyGuard(check_key(key), key_elsewhere)
        self._transport = Transport(target, timeouts if timeouts is not None else Timeouts(), ca_file)
        self._clock = clock
        self._find_others = find_others
        self._key_needed: bool | None = None
        self._key_accepted: bool | None = None

    def run(self) -> Answer:
        """Ask everything that there is to ask."""
        try:
            return self._examine()
        finally:
            self._transport.close()

    def _examine(self) -> Answer:
        began = monotonic()
        try:
            reply = self._transport.send(list_models(), None)
        except CorralError as failure:
            found = FOREIGN if isinstance(failure, NotARouterError) else NOTHING
            tried, elsewhere = self._search(found, speaks_http=False)
            return Answer(found, failure, tried=tried, elsewhere=elsewhere)
        seconds = monotonic() - began
        self._guard.learn(reply)
        is_public = {200: True, 401: False}.get(reply.status)
        if reply.status == 401:
            self._key_needed = True
            reply = self._send_with_key(list_models()) or reply
        asked_at = self._clock()
        found, listing, error = self._read_list(reply)
        props = self._ask_props() if found in (ROUTER, SINGLE) else None
        if found == ROUTER and self._key_needed and not self._key_accepted:
            # Builds before August 2026 show their list to anybody, and refuse only what would change something.
            error = self._guard.explain(AuthError("", "", status=401))
        return Answer(
            found,
            error,
            reply.headers.get("server"),
            seconds,
            self._key_needed,
            self._key_accepted,
            is_public,
            listing,
            props,
            *(self._ask_as_page() if found in (ROUTER, LOCKED) else (None, None)),
            _read_clock(listing, asked_at),
            *self._search(found, speaks_http=True),
            gateway=reply.headers.get("corral-gateway"),
        )

    def _send_with_key(self, call: Call) -> Reply | None:
        """Send a call with the key; None where there is no key, or nobody who may have it, or no answer."""
        if self._guard.key is None:
            return None
        try:
            reply = self._transport.send(call, self._guard.key)
        except CorralError:
            return None
        self._key_accepted = reply.status != 401
        return reply

    def _read_list(self, reply: Reply) -> tuple[str, Listing | None, CorralError | None]:
        try:
            return ROUTER, list_models().read(reply), None
        except AuthError as error:
            return LOCKED if self._guard.is_proven else FOREIGN, None, self._guard.explain(error)
        except RefusedError as error:
            return FAILING, None, error
        except NotARouterError as error:
            if error.found in (SINGLE, STARTING):
                return error.found, None, error
            return MISPLACED if reply.status == 404 and self._guard.is_proven else FOREIGN, None, error

    def _ask_props(self) -> Props | None:
        if not self._guard.is_proven:
            return None
        try:
            reply = self._transport.send(ask_props(), None)
            if reply.status == 401:
                self._key_needed = True
                reply = self._send_with_key(ask_props()) or reply
            elif reply.status == 200 and self._key_needed is None:
                self._key_needed = False
            props: Props = ask_props().read(reply)
        except CorralError:
            # What it says of itself is not known then; the list has said what it is.
            return None
        return props

    def _ask_as_page(self) -> tuple[PageAccess | None, PageAccess | None]:
        if not self._guard.is_proven:
            return None, None
        answers: list[PageAccess | None] = []
        for call in (list_as_page(), preflight_unload()):
            try:
                answers.append(call.read(self._transport.send(call, None)))
            except CorralError:
                answers.append(None)
        return answers[0], answers[1]

    def _search(self, found: str, *, speaks_http: bool) -> tuple[tuple[str, ...], tuple[Elsewhere, ...]]:
        if found in _GOOD:
            return (), ()
        return search_host(
            self._target, self._find_others(), speaks_http=speaks_http, key=self._guard.key, ca_file=self._ca_file
        )


def _read_clock(listing: Listing | None, now: float) -> float | None:
    """How far the router's clock is ahead: its entries are ``created`` when they are asked for, in whole seconds."""
    for model in listing.models if listing is not None else ():
        created = as_int(model.raw, "created")
        if created is not None:
            return created + 0.5 - now
    return None
