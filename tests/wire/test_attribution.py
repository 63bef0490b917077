"""Which route a request is for, and how paths and queries are read as the router reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.wire.attribution import (
    BODY,
    CHANGE,
    CONVERSATION,
    LIST,
    LOOK,
    NOWHERE,
    OTHER,
    QUERY,
    STREAM,
    WORK,
    decode_path,
    decode_query,
    drop_parameters,
    find_route,
    list_routes,
    read_query,
)


@pytest.mark.parametrize(
    ("method", "path", "where", "kind"),
    [
        ("POST", "/v1/chat/completions", BODY, WORK),
        ("POST", "/chat/completions", BODY, WORK),
        ("POST", "/v1/messages/count_tokens", BODY, WORK),
        ("POST", "/audio/transcriptions", BODY, WORK),
        ("POST", "/slots/3", BODY, WORK),
        ("POST", "/lora-adapters", BODY, WORK),
        ("POST", "/v1/chat/completions/control", BODY, OTHER),
        ("GET", "/v1/stream", CONVERSATION, STREAM),
        ("DELETE", "/v1/stream", CONVERSATION, OTHER),
        ("POST", "/v1/streams/lookup", CONVERSATION, OTHER),
        ("GET", "/slots", QUERY, LOOK),
        ("HEAD", "/metrics", QUERY, LOOK),
        ("GET", "/props", QUERY, LOOK),
        ("POST", "/props", BODY, WORK),
        ("GET", "/v1/models", NOWHERE, LIST),
        ("HEAD", "/models", NOWHERE, LIST),
        ("POST", "/models", BODY, CHANGE),
        ("DELETE", "/models", QUERY, CHANGE),
        ("POST", "/models/load", BODY, CHANGE),
        ("POST", "/models/unload", BODY, CHANGE),
        ("POST", "/models/anything/new", NOWHERE, CHANGE),
        ("PUT", "/v1/models/a", NOWHERE, CHANGE),
        ("GET", "/models/anything", NOWHERE, OTHER),
        ("GET", "/", NOWHERE, OTHER),
        ("POST", "/slots/", NOWHERE, OTHER),
        ("POST", "/slots/1/2", NOWHERE, OTHER),
        ("GET", "/v1/chat/completions", NOWHERE, OTHER),
        ("POST", "/V1/chat/completions", NOWHERE, OTHER),
        ("POST", "//v1/chat/completions", NOWHERE, OTHER),
        ("OPTIONS", "/v1/chat/completions", NOWHERE, OTHER),
    ],
)
def test_route_says_where_its_model_is(method: str, path: str, where: str, kind: str) -> None:
    """Each route names its model in its own place; what the router does not serve names none."""
    route = find_route(method, path)

    assert (where, kind) == (route.where, route.kind)


def test_only_answers_count() -> None:
    """Looks, lists, changes and the control of answers are no use of a model; answers and their streams are."""
    assert {WORK, STREAM} == {route.kind for _, route in list_routes() if route.counts}
    assert not [route.path for method, route in list_routes() if route.kind == WORK and method != "POST"]


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/models/unload", "/models/unload"),
        ("/models%2Funload", "/models/unload"),
        ("/models%2funload", "/models/unload"),
        ("/models%u002Funload", "/models/unload"),
        ("/%6Dodels", "/models"),
        ("/a%", "/a%"),
        ("/a%2", "/a%2"),
        ("/a%zz", "/a%zz"),
        ("/a%u12", "/a%u12"),
        ("/a%%41", "/a%A"),
        ("/a+b", "/a+b"),
        ("/%C3%A9%FF", "/é\udcff"),
    ],
)
def test_path_is_decoded_as_the_router_does(raw: str, path: str) -> None:
    """Whatever spelling leads the router to a route leads us to the same one."""
    assert path == decode_path(raw)


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        ("model=a", {"model": "a"}),
        ("model=a&model=b", {"model": "b"}),
        ("model=a&model=b&model=a", {"model": "b"}),
        ("m%6fdel=a%2fb%3aQ4+x", {"model": "a/b:Q4 x"}),
        ("model", {"model": ""}),
        ("=a&&b=", {"b": ""}),
        ("a=b=c", {"a": "b=c"}),
        ("a=%zz%4", {"a": "%zz%4"}),
        ("", {}),
    ],
)
def test_query_is_read_as_the_router_does(raw: str, found: dict[str, str]) -> None:
    """Decoded, plus a space, and of a repeated parameter the last."""
    assert found == read_query(raw)


def test_dropped_parameters_leave_the_rest_untouched() -> None:
    """However the name is spelled it is found, and what stays keeps every byte and its order."""
    assert "x=%2f&&y" == drop_parameters("x=%2f&autoload=1&&%61utoload&y&autoload=", ("autoload",))
    assert "" == drop_parameters("reload=1", ("reload",))


@given(st.text())
def test_decoding_never_fails(text: str) -> None:
    """Any junk decodes to something, and plain text to itself."""
    for decode in (decode_path, decode_query):
        decode(text.encode("utf-8", "replace").decode())
    if not set(text) & set("%+") and text.isascii():
        assert text == decode_path(text) == decode_query(text)


@given(st.binary(max_size=40))
def test_escaped_bytes_come_back(data: bytes) -> None:
    """Bytes that are all escaped decode to themselves."""
    escaped = "".join(f"%{byte:02x}" for byte in data)

    assert data == decode_query(escaped).encode("utf-8", "surrogateescape")
    assert data == decode_path(escaped).encode("utf-8", "surrogateescape")
