"""Which models a command is about."""

from __future__ import annotations

import pytest

from corral.ops import Selection, find_models, plan_spared, plan_unload, select, suggest
from corral.wire import UnknownModelError
from tests.ops.world import listing, model

LIST = listing(
    model("Qwen/Qwen3-8B:Q4_K_M", aliases=("qwen", "chat"), tags=("big",)),
    model("embedder", "sleeping", tags=("small", "keep")),
    model("llama-3.2-3b", "unloaded"),
    model("chat", "loading"),
)


def ids(selection: Selection) -> list[str]:
    """The ids that a selection means."""
    return [found.id for found in select(LIST, selection)]


def test_names_aliases_and_their_order() -> None:
    """Names are taken in the order given, each model once; an id goes before another model's alias."""
    assert ids(Selection(("embedder", "qwen", "Qwen/Qwen3-8B:Q4_K_M"))) == ["embedder", "Qwen/Qwen3-8B:Q4_K_M"]
    assert ids(Selection(("chat",))) == ["chat"]


def test_tags_patterns_and_exceptions() -> None:
    """All may be narrowed by tag and by a pattern on id or alias, and exceptions always hold."""
    assert ids(Selection((), True, tags=("keep",))) == ["embedder"]
    assert ids(Selection((), patterns=("q*",))) == ["Qwen/Qwen3-8B:Q4_K_M"]
    assert ids(Selection((), True, excepted=("qwen", "chat"))) == ["embedder", "llama-3.2-3b"]
    assert ids(Selection(("embedder",), excepted=("embedder",))) == []


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("EMBEDDER", "embedder"),
        ("embeder", "embedder"),
        ("llama-3.2-3b.gguf", "llama-3.2-3b"),
        ("/models/llama-3.2-3b.gguf", "llama-3.2-3b"),
        ("~/m/llama-3.2-3b-00001-of-00002.gguf", "llama-3.2-3b"),
        ("C:\\models\\Llama-3.2-3B.GGUF", "llama-3.2-3b"),
        ("qwen3-8b", "Qwen/Qwen3-8B:Q4_K_M"),
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B:Q4_K_M"),
        ("3.2", "llama-3.2-3b"),
    ],
)
def test_nearest_names(name: str, nearest: str) -> None:
    """A file name, a path, another case, a part and a slip of the finger find the model that was meant."""
    assert suggest(LIST, name)[0] == nearest
    with pytest.raises(UnknownModelError) as caught:
        find_models(LIST, [name])
    assert nearest in caught.value.hint and "Did you mean" in caught.value.hint


def test_names_that_are_as_near_stand_in_order() -> None:
    """Of several that are equally near the first by the alphabet are told, in that order."""
    rows = listing(*(model(f"model-{number:02}") for number in range(9)))
    assert suggest(rows, "model-x") == ["model-00", "model-01", "model-02"]


def test_nothing_near() -> None:
    """A name like no other points to the list, and a huge or empty one costs nothing."""
    for name in ("zzzzzz", "", "/", ".gguf", "x" * 100_000, "\x1b[2J"):
        with pytest.raises(UnknownModelError) as caught:
            find_models(LIST, [name])
        assert caught.value.message.isprintable() and len(caught.value.message) < 300 and caught.value.hint


def test_plan_says_what_and_why() -> None:
    """The plan holds residents only, unless others are named; each with its action and reason."""
    plan = {item.model.id: item.action for item in plan_unload(LIST, Selection((), True), at_once=False)}
    named = plan_unload(LIST, Selection(("llama-3.2-3b", "chat")), at_once=True)

    assert plan == {"Qwen/Qwen3-8B:Q4_K_M": "unload", "embedder": "unload", "chat": "wait_then_unload"}
    assert [(item.action, bool(item.reason)) for item in named] == [("leave", True), ("kill", True)]


def test_pinned_models_are_chosen_by_name_only() -> None:
    """A pinned model is left alone by --all and its like, is told when it was resident, and goes by its name."""
    pinned = ("embedder", "llama-3.2-3b", "long-gone")

    assert ids(Selection((), True, pinned=pinned)) == ["Qwen/Qwen3-8B:Q4_K_M", "chat"]
    assert ids(Selection((), patterns=("e*",), pinned=pinned)) == []
    assert ids(Selection(("embedder",), pinned=pinned)) == ["embedder"]
    assert spared(Selection((), True, pinned=pinned)) == [("embedder", "leave")]
    assert spared(Selection((), True, excepted=("embedder",), pinned=pinned)) == []
    assert spared(Selection((), patterns=("q*",), pinned=pinned)) == []
    assert spared(Selection(("embedder",), pinned=pinned)) == []


def spared(selection: Selection) -> list[tuple[str, str]]:
    """Ids and actions of what is left alone because it is pinned."""
    return [(item.model.id, item.action) for item in plan_spared(LIST, selection)]


def test_thousands_of_unknown_names_are_told_in_short() -> None:
    """Of very many unknown names some are named, the rest counted, and none is forgotten by programs."""
    names = [f"nobody-{number}" for number in range(10_000)]
    with pytest.raises(UnknownModelError, match="nobody-19 and 9980 more") as caught:
        select(LIST, Selection(tuple(names)))
    assert len(caught.value.message) < 500
    assert caught.value.names == tuple(names)
