"""Put models back: load them one after another, in order, and never more than the router has room for.

At its ``--models-max`` a router makes room for a newcomer by unloading another model, whoever uses that. So before
each load the newest list is counted, and what there is no place for is left alone and reported. A model's failure
never stops the others.

A build that does not tell its maximum (winter 2025) is taken at the default of 4, or at as many as are known to have
been resident at once. If a load pushes another model out all the same, that was one too many, and the rest is left.
"""

from __future__ import annotations

from corral.ops import outcome as words
from corral.ops.load import DEFAULT_TIMEOUT_S, Load
from corral.ops.outcome import LoadReport, Outcome
from corral.ops.protocol import Ask, Done, Listed, Look, LookFailed, Measure, Measured, Told, WakeAt
from corral.wire import AuthError, BadArgumentError, CorralError, Listing, Model, RefusedError
from corral.wire.props import DEFAULT_MODELS_MAX, FREE_DOWNLOADS_BUILD, ask_build, ask_models_max

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corral.ops.protocol import Effect, Input

_MAX, _BUILD = "models_max", "build"


class Room:
    """How many models the router has places for, as far as it tells."""

    def __init__(self, proven: int, has_evicted: bool) -> None:
        self._proven = proven
        """So many are known to have been resident at once."""
        self._has_evicted = has_evicted
        self._told: dict[str, int | None] = {}
        self._hidden: int | None = None

    @property
    def is_known(self) -> bool:
        """Whether all that can be asked was answered."""
        return len(self._told) == len((_MAX, _BUILD)) and self._hidden is not None

    def tell(self, tag: str, value: int | None) -> None:
        """The router's answer; None where it has none."""
        self._told[tag] = value

    def see_hidden(self, count: int) -> None:
        """So many children are not in the list (``dedup-cache-models``)."""
        self._hidden = count

    def explain_lack(self, listing: Listing, outcomes: Sequence[Outcome]) -> str:
        """Why one more model must not be asked for; empty when there is a place for it."""
        limit = self._told.get(_MAX)
        taken = sum(map(self._takes_place, listing.models)) + (self._hidden or 0)
        if limit is not None:
            is_full, shown = 0 < limit <= taken, f"{limit}"
        elif self._has_evicted or any(item.evicted for item in outcomes):
            is_full, shown = True, f"no more than {taken}"
        else:
            assumed = max(DEFAULT_MODELS_MAX, self._proven)
            is_full, shown = assumed <= taken, f"{assumed} (assumed, because this build does not tell)"
        return f"the router has places for {shown}, and {taken} are taken" if is_full else ""

    def _takes_place(self, model: Model) -> bool:
        if model.status == "downloading":
            build = self._told.get(_BUILD)
            return build is None or build < FREE_DOWNLOADS_BUILD
        return model.is_resident


class Restore:
    """The verb; ``Done.report`` is a LoadReport with one outcome for each name, in order.

    Parameters:
        names: ids or aliases. One that is no model's now is an outcome (``vanished``) and no error.
        held: models that somebody keeps from coming up, with the reason in words; they are left alone (``held``).
        proven_max: so many models are known to have been resident at once; counts where the router tells no maximum.
        has_evicted: a load just before pushed another model out; counts where the router tells no maximum.
        timeout_s: for all of them together; None gives each of them 600 s, of its own.

    ``on`` raises what the first look raised, and AuthError or UnreachableError where the router cannot be asked for
    its maximum.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        held: Mapping[str, str] | None = None,
        proven_max: int = 0,
        has_evicted: bool = False,
        timeout_s: float | None = None,
    ) -> None:
        self._names = tuple(dict.fromkeys(names))
        if not self._names:
            raise BadArgumentError("No model was named.", "Name one or more models; 'corral ls' shows them.")
        self._held = held or {}
        self._timeout_s = timeout_s if timeout_s is not None else DEFAULT_TIMEOUT_S * len(self._names)
        self._room = Room(proven_max, has_evicted)
        self._listing: Listing | None = None
        self._ids: dict[str, str] = {}
        """The id behind each name, for those that are to be loaded."""
        self._settled: dict[str, Outcome] = {}
        """What is clear without a load, by name."""
        self._load: Load | None = None
        self._started_at = 0.0
        self._deadline = 0.0

    @property
    def deadline(self) -> float:
        """When it ends at the latest."""
        return self._deadline

    def start(self, now: float) -> list[Effect]:
        """Begin with a look."""
        self._started_at = now
        self._deadline = now + self._timeout_s
        return [Look(), WakeAt(self._deadline)]

    def on(self, given: Input, now: float) -> list[Effect]:
        """Take one input and say what to do next."""
        if self._load is not None:
            return self._translate(self._load.on(given, now), now)
        if isinstance(given, LookFailed):
            raise given.error
        if isinstance(given, Listed):
            self._listing = given.listing
            self._sort(given.listing)
            if not self._ids:
                return self._finish(LoadReport((), 0.0), now)
            return [
                Ask(_MAX, ask_models_max()),
                Ask(_BUILD, ask_build()),
                Measure(given.listing.models, False),
                WakeAt(self._deadline),
            ]
        if isinstance(given, Told):
            if given.error is not None and not _says_nothing(given.error):
                raise given.error
            self._room.tell(given.tag, given.value)
        elif isinstance(given, Measured):
            self._room.see_hidden(sum(child.is_hidden for child in given.measurement.children))
        if now >= self._deadline:
            return self.interrupt(now, is_stopped=False)
        return self._begin(self._listing, now) if self._room.is_known and self._listing else []

    def interrupt(self, now: float, *, is_stopped: bool = True) -> list[Effect]:
        """Stop; a load that was asked for goes on in the router."""
        if self._load is not None:
            return self._translate(self._load.interrupt(now), now)
        return self._finish(LoadReport((), 0.0, is_stopped), now)

    def _sort(self, listing: Listing) -> None:
        """Whom to load, and what is clear at once."""
        by_alias = {alias: model for model in reversed(listing.models) for alias in model.aliases}
        for name in self._names:
            model = listing.find(name) or by_alias.get(name)
            if model is None:
                self._settled[name] = Outcome(name, words.VANISHED, None, detail=_GONE)
            elif model.id in self._held and not model.is_resident:
                self._settled[name] = Outcome(model.id, words.HELD, model.status, detail=self._held[model.id])
            elif model.id not in self._ids.values():
                self._ids[name] = model.id

    def _begin(self, listing: Listing, now: float) -> list[Effect]:
        self._load = Load(
            list(self._ids.values()),
            timeout_s=max(0.0, self._deadline - now),
            each_s=DEFAULT_TIMEOUT_S,
            gate=self._room.explain_lack,
        )
        # Its own first look would show what is known already.
        self._load.start(now)
        return self._translate(self._load.on(Listed(listing), now), now)

    def _translate(self, effects: list[Effect], now: float) -> list[Effect]:
        """The effects of the load, its report made ours."""
        if effects and isinstance(effects[-1], Done):
            report = effects[-1].report
            assert isinstance(report, LoadReport)
            return [*effects[:-1], *self._finish(report, now)]
        return effects

    def _finish(self, report: LoadReport, now: float) -> list[Effect]:
        loaded = {item.model: item for item in report.outcomes}
        outcomes = []
        for name in self._names:
            found = self._settled.get(name) or loaded.get(self._ids.get(name, ""))
            if found is None and name in self._ids:
                found = Outcome(self._ids[name], words.NOT_REQUESTED, None)
            if found is None and self._listing is None:
                found = Outcome(name, words.NOT_REQUESTED, None)
            if found is not None:
                outcomes.append(found)
        seconds = now - self._started_at
        return [Done(LoadReport(tuple(outcomes), seconds, report.interrupted, report.error))]


def _says_nothing(error: CorralError) -> bool:
    """Whether the router answered, but not this question: its first builds did not know it."""
    return isinstance(error, RefusedError) and not isinstance(error, AuthError)


_GONE = "the router lists no model of this name any more"
