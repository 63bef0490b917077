"""Which models a command is about: names and aliases, tags, patterns, exceptions; and what was meant instead."""

from __future__ import annotations

from corral.wire import BadArgumentError, Listing, Model, Record, UnknownModelError, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MANY = 3
_MOST_TOLD = 20


class Selection(Record):
    """What the caller asked for: names, or all models narrowed by tag and pattern."""

    names: tuple[str, ...] = ()
    all: bool = False
    tags: tuple[str, ...] = ()
    """With ``all``: only models with one of these tags."""
    patterns: tuple[str, ...] = ()
    """With ``all``: only models whose id or alias matches one of these globs."""
    excepted: tuple[str, ...] = ()
    """Ids or aliases left alone. One that is unknown is an error: it was meant to protect something."""
    pinned: tuple[str, ...] = ()
    """Ids that are chosen by name only. One that is unknown is none: pins outlive the models of a list."""


def check_selection(selection: Selection) -> None:
    """Raise BadArgumentError for a selection that contradicts itself or names nothing."""
    narrowed = selection.tags or selection.patterns
    if selection.names and (selection.all or narrowed):
        raise BadArgumentError("Names do not go together with --all, --tag or --match.", "Give one or the other.")
    if not selection.names and not selection.all and not narrowed:
        raise BadArgumentError("No model was named.", "Name one or more models, or say --all.")


def select(listing: Listing, selection: Selection) -> list[Model]:
    """The models that the selection means, in the list's order (names: in the order given, each once).

    Raises BadArgumentError, and UnknownModelError for names that are no model's.
    """
    check_selection(selection)
    excepted = {model.id for model in find_models(listing, selection.excepted)}
    if selection.names:
        chosen = find_models(listing, selection.names)
    else:
        pinned = frozenset(selection.pinned)
        chosen = [model for model in listing.models if model.id not in pinned and _is_within(model, selection)]
    return [model for model in chosen if model.id not in excepted]


def find_spared(listing: Listing, selection: Selection) -> list[Model]:
    """The resident models that are left alone for their pins, and for nothing else."""
    if selection.names or not selection.pinned:
        return []
    chosen = select(listing, Selection((), True, selection.tags, selection.patterns, selection.excepted))
    return [model for model in chosen if model.id in selection.pinned and model.is_resident]


def find_models(listing: Listing, names: Iterable[str]) -> list[Model]:
    """The models with these ids or aliases, each once; an exact id goes before another model's alias."""
    by_alias = {alias: model for model in reversed(listing.models) for alias in model.aliases}
    by_id = {model.id: model for model in listing.models}
    found: dict[str, Model] = {}
    unknown: list[str] = []
    for name in names:
        model = by_id.get(name) or by_alias.get(name)
        if model is None:
            unknown.append(name)
        else:
            found[model.id] = model
    if unknown:
        raise explain_unknown(listing, unknown)
    return list(found.values())


def explain_unknown(listing: Listing, names: Sequence[str]) -> UnknownModelError:
    """The error for names that are no model's, with the nearest ids and aliases."""
    nearest: list[str] = []
    # Of ten thousand names, as a program may send, nobody reads more than these.
    told = names[:_MOST_TOLD]
    for name in told:
        nearest += [near for near in suggest(listing, name) if near not in nearest]
    plural = "s" if len(names) > 1 else ""
    rest = f" and {len(names) - len(told)} more" if len(names) > len(told) else ""
    message = f"Unknown model{plural}: {', '.join(show_name(name) for name in told)}{rest}."
    if nearest:
        hint = f"Did you mean {' or '.join(show_name(near) for near in nearest[:_MANY])}?"
    elif listing.models:
        hint = "'corral ls' shows the models that this router has."
    else:
        hint = "This router has no models at all; check its --models-dir, --models-preset or cache."
    return UnknownModelError(message, hint, tuple(names), tuple(nearest[:_MANY]))


def suggest(listing: Listing, name: str) -> list[str]:
    """The ids and aliases that ``name`` may have meant, best first.

    Knows a ``.gguf`` file name, a path, another case, the part of an id after its last slash or before its
    quantisation, and spelling that is nearly right.
    """
    known = [known for model in listing.models for known in (model.id, *model.aliases)]
    wanted = _fold(name)
    same = [candidate for candidate in known if _fold(candidate) == wanted]
    if same:
        return same[:_MANY]
    short = _shorten_id(wanted)
    alike = [candidate for candidate in known if _shorten_id(_fold(candidate)) == short]
    if alike:
        return alike[:_MANY]
    if len(name) > 300:
        return []
    from difflib import SequenceMatcher, get_close_matches

    def find_distance(candidate: str) -> float:
        return -SequenceMatcher(None, candidate, wanted).ratio()

    folded = {_fold(candidate)[:300]: candidate for candidate in reversed(known)}
    close = get_close_matches(wanted, folded, _MOST_TOLD, 0.6)
    # Of those that are as near, it gives the last by the alphabet first.
    close = sorted(sorted(close), key=find_distance) or [
        candidate for candidate in folded if len(wanted) > 2 and wanted in candidate
    ]
    return [folded[candidate] for candidate in close[:_MANY]]


def _is_within(model: Model, selection: Selection) -> bool:
    if selection.tags and not set(selection.tags) & set(model.tags):
        return False
    if not selection.patterns:
        return True
    from fnmatch import fnmatchcase

    names = (model.id, *model.aliases)
    return any(fnmatchcase(name, pattern) for name in names for pattern in selection.patterns)


def _fold(name: str) -> str:
    """A name without its folder, its ``.gguf``, its part number and its case."""
    base = name.replace("\\", "/").rstrip("/")
    if base.casefold().endswith(".gguf"):
        base = base[: -len(".gguf")].rpartition("/")[2]
        stem, mark, parts = base.rpartition("-of-")
        if mark and parts.isdigit():
            base = stem.rpartition("-")[0]
    elif base.startswith(("/", "./", "~")):
        base = base.rpartition("/")[2]
    return base.casefold()


def _shorten_id(folded: str) -> str:
    return folded.rpartition("/")[2].partition(":")[0]
