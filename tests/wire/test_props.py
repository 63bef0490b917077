"""What a server says about itself, and how it treats foreign web pages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from corral.wire import CorralError, Reply
from corral.wire.probes import FOREIGN_ORIGIN, list_as_page, preflight_unload, read_page_access
from corral.wire.props import ask_props, read_props

REPLIES = Path(__file__).parent / "replies"


def test_recorded_router() -> None:
    """The recorded answer of b11434 is a router's; its archive build tells no number."""
    props = read_props(Reply(200, {}, (REPLIES / "b11434-props.json").read_bytes()))

    assert props.is_router
    assert (props.autoload, props.models_max, props.build_info, props.build) == (True, 4, "b0-unknown", None)


@pytest.mark.parametrize(
    ("build_info", "build"),
    [
        ("b11434-51e0a2b", 11434),
        ("b8681-Debian", 8681),
        ("b9093", 9093),
        ("b0-unknown", None),
        ("11434", None),
        ("v1.0.0", None),
        ("b12345678901234567890-x", None),
        ("", None),
        (7, None),
        (None, None),
    ],
)
def test_build_number(build_info: object, build: int | None) -> None:
    """The number is read where there is one, and never guessed."""
    assert build == read_props(Reply(200, {}, json.dumps({"build_info": build_info}).encode())).build


def test_first_routers_say_little() -> None:
    """The constant that the first routers sent as their maximum is not taken for one."""
    props = read_props(Reply(200, {}, b'{"role": "router", "max_instances": 4}'))

    assert props.is_router
    assert (props.models_max, props.autoload, props.build) == (None, None, None)


@pytest.mark.parametrize("body", [b"[]", b"<html>", b'{"role": 5, "max_instances": "x", "models_autoload": 1}'])
def test_junk(body: bytes) -> None:
    """Junk is refused or leaves the fields unknown; it is no crash."""
    try:
        props = read_props(Reply(200, {}, body))
    except CorralError:
        return
    assert (props.role, props.models_max, props.autoload) == (None, None, None)


def test_questions_change_nothing() -> None:
    """The server is asked about itself and never about a model; a page's unload is only asked for, not sent."""
    assert ("GET", "/props") == (ask_props().method, ask_props().path)
    assert ("GET", "/models", None) == (list_as_page().method, list_as_page().path, list_as_page().body)
    assert ("OPTIONS", None) == (preflight_unload().method, preflight_unload().body)
    assert all(("Origin", FOREIGN_ORIGIN) in call.headers for call in (list_as_page(), preflight_unload()))


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"access-control-allow-origin": FOREIGN_ORIGIN}, (True, False)),
        ({"access-control-allow-origin": "*"}, (True, False)),
        ({"access-control-allow-origin": "https://mine.example"}, (False, False)),
        ({"access-control-allow-origin": ""}, (False, False)),
        ({}, (False, False)),
        (
            {"access-control-allow-origin": FOREIGN_ORIGIN, "access-control-allow-credentials": "True "},
            (True, True),
        ),
    ],
)
def test_cors(headers: dict[str, str], allowed: tuple[bool, bool]) -> None:
    """Only an answer that names the page's origin, or all, is handed to it."""
    access = read_page_access(Reply(200, headers, b""))

    assert allowed == (access.allows_origin, access.allows_credentials)
