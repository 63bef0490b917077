"""Which models a hold is about: those it names, less what was let out of it and what was there before it."""

from __future__ import annotations

from corral.ops.selection import Selection, select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from corral.wire import Listing, Model


class Coverage:
    """Covers nothing in particular until it was resolved; ``all`` also covers what appears later."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._covered: frozenset[str] | None = None
        """The ids behind the names; None when all are covered."""
        self._excepted: frozenset[str] = frozenset()
        self._allowed: dict[str, int | None] = {}
        """Those that were resident at the start, by the port of that child."""

    def resolve(self, listing: Listing) -> None:
        """Names are looked up once: a model that vanishes later is still meant, and one unknown now is an error.

        Raises UnknownModelError.
        """
        chosen = frozenset(model.id for model in select(listing, self._selection))
        if self._selection.names or self._selection.tags or self._selection.patterns:
            self._covered = chosen
        elif self._selection.excepted:
            everything = select(listing, Selection((), True))
            self._excepted |= frozenset(model.id for model in everything) - chosen

    def covers(self, model_id: str) -> bool:
        """Whether it is to stay away."""
        return model_id not in self._excepted and (self._covered is None or model_id in self._covered)

    def let_out(self, models: Collection[str]) -> None:
        """They are no longer covered."""
        self._excepted |= frozenset(models)

    def allow(self, model: Model) -> None:
        """This child may stay."""
        self._allowed[model.id] = model.port

    def forbid(self, model_id: str) -> None:
        """The child that might stay is gone."""
        self._allowed.pop(model_id, None)

    def allows(self, model: Model) -> bool:
        """Still the child that may stay; one that was loading then has its port by now."""
        if model.id not in self._allowed:
            return False
        port = self._allowed[model.id]
        if port is None:
            self._allowed[model.id] = model.port
        return port is None or model.port is None or port == model.port
