"""The ledger's sets."""

from __future__ import annotations

from corral.ledger.rows import OF_ROUTER, read_set, write_models
from corral.ops.promises import Owner, RouterKey, SavedSet
from corral.wire import BadArgumentError, escape_controls, shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.ledger.store import Store

_LONGEST_NAME = 100


def check_set_name(name: str) -> None:
    """Raise BadArgumentError for a name that nobody could type again."""
    if not name or name != name.strip() or name.startswith("-") or name != escape_controls(name):
        shown = shorten(escape_controls(name), 40) or "(empty)"
        raise BadArgumentError(f"Not a name for a set: {shown}", "Use a short printable name, such as 'evening'.")
    if len(name) > _LONGEST_NAME:
        raise BadArgumentError("The set's name is too long.", f"Use at most {_LONGEST_NAME} characters.")


class Sets:
    """Lists of models to be put back. Each method is one transaction, or one look."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def save(
        self, name: str, router: RouterKey, models: tuple[str, ...], *, owner: Owner, wall: float
    ) -> SavedSet | None:
        """Remember models under a name; returns the set of that name from before, None when there was none.

        Raises BadArgumentError for a name that cannot be typed.
        """
        check_set_name(name)
        with self._store.transaction():
            before = self.find(name, router)
            self._forget(name, router)
            values = (router.key, router.label, name, owner.user, owner.host, write_models(models), wall)
            self._store.execute("INSERT INTO sets VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        return before

    def find(self, name: str, router: RouterKey) -> SavedSet | None:
        """The set of this name; None when there is none."""
        return next((found for found in self.list_sets(router) if found.name == name), None)

    def forget(self, name: str, router: RouterKey) -> bool:
        """Forget a set; False when there was none."""
        with self._store.transaction():
            return self._forget(name, router) > 0

    def list_sets(self, router: RouterKey | None = None) -> list[SavedSet]:
        """The sets by name; of one router, or of all. Of two with one name, the one saved last."""
        where, values = (f"WHERE {OF_ROUTER}", (router.key, router.label)) if router is not None else ("", ())
        found = self._store.read_each(read_set, f"SELECT * FROM sets {where} ORDER BY name, saved_wall", values)
        return found if router is None else [*{item.name: item for item in found}.values()]

    def _forget(self, name: str, router: RouterKey) -> int:
        values = (name, router.key, router.label)
        return self._store.execute(f"DELETE FROM sets WHERE name = ? AND {OF_ROUTER}", values)
