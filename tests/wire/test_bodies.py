"""The model that a body names; tests/live/test_attribution.py asks the real router about the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.wire.bodies import (
    LARGE_BYTES,
    find_field,
    find_model,
    read_boundary,
    read_conversations,
    search_json,
    wants_stream,
)
from tests.wire.bodies import BODIES, FORMS

JSON = "application/json"


@pytest.mark.parametrize(("body", "model"), BODIES)
def test_model_of_a_body(body: bytes, model: str | None) -> None:
    """The router's model is ours, and what it refuses names none."""
    assert model == find_model(body, JSON)


@pytest.mark.parametrize(("body", "model"), BODIES)
def test_large_body_is_searched_for_the_same(body: bytes, model: str | None) -> None:
    """A body too large to be read as a whole names the same model; the router checks the rest of it."""
    if model is not None:
        assert model == search_json(body)
        assert model == find_model(body + b" " * LARGE_BYTES, JSON)


@pytest.mark.parametrize(("body", "model"), FORMS)
def test_model_of_a_form(body: bytes, model: str | None) -> None:
    """Of a form its one text field counts, whatever the route."""
    assert model == find_model(body, 'Multipart/Form-Data; charset=x; boundary="b-1"')


def test_boundaries() -> None:
    """A boundary may be quoted, and may hold what else would end it."""
    assert "b;1" == read_boundary('multipart/form-data; boundary="b;1"; x=y')
    assert "b" == read_boundary("multipart/form-data;boundary=b")
    assert "" == read_boundary("multipart/form-data")
    assert None is find_field(b"--\r\n", "", "model")


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def write(document: object, ascii_only: bool, pretty: bool) -> bytes:
    """JSON in one of its spellings."""
    return json.dumps(document, ensure_ascii=ascii_only, indent=1 if pretty else None).encode("utf-8", "surrogatepass")


@given(st.dictionaries(st.sampled_from(["model", "x", "messages"]), documents), st.booleans(), st.booleans())
def test_reading_and_searching_agree(document: dict[str, object], ascii_only: bool, pretty: bool) -> None:
    """On any JSON the search finds what the reading finds."""
    body = write(document, ascii_only, pretty)
    name = document.get("model")
    expected = name if isinstance(name, str) and name else None

    assert expected == find_model(body, JSON) == search_json(body)


@given(st.binary(max_size=200))
def test_junk_names_nothing_and_never_fails(data: bytes) -> None:
    """Any bytes are read without an error."""
    for body in (data, b'{"model":"a"' + data, b'{"model":"a",' + data + b"}"):
        find_model(body, JSON)
        search_json(body)
        find_model(body, "multipart/form-data; boundary=a")


def test_deep_bodies_are_read() -> None:
    """Nesting that is too deep for Python's parser is none for the router's."""
    body = b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b',"model":"a"}'

    assert "a" == find_model(body, JSON)
    assert not wants_stream(body)


def test_stream_is_wanted() -> None:
    """Only a true ``stream`` asks for pieces."""
    assert wants_stream(b'{"stream":false,"stream":true}')
    assert not wants_stream(b'{"stream":1}') and not wants_stream(b"[]") and not wants_stream(b"x")


def test_conversations_of_a_lookup() -> None:
    """Strings count, all else is left out."""
    assert ["a", "b"] == read_conversations(b'{"conversation_ids":["a",1,"","b",null]}')
    assert [] == read_conversations(b'{"conversation_ids":"a"}') == read_conversations(b"junk")
