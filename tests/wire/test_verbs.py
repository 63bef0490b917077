"""The calls that change something, and what their replies mean."""

from __future__ import annotations

import json

import pytest

from corral.wire import (
    NotARouterError,
    RefusedError,
    Reply,
    load_model,
    read_refusal,
    read_success,
    says_already_running,
    says_not_found,
    says_not_running,
    unload_model,
)


@pytest.mark.parametrize("name", ['we "quote"', "a/b:c", "line\nend", "🐎", "x" * 10_000, "\ud800", "\x1b[0m"])
def test_any_id_survives_the_body(name: str) -> None:
    """The body is ASCII JSON from which the router reads the very id."""
    for call in (load_model(name), unload_model(name)):
        assert call.body is not None and call.body.isascii()
        assert json.loads(call.body) == {"model": name}


def test_success_must_be_said() -> None:
    """Only ``success: true`` is success."""
    read_success(Reply(200, {}, b'{"success":true}'))

    with pytest.raises(RefusedError):
        read_success(Reply(200, {}, b'{"success":false}'))
    with pytest.raises(NotARouterError):
        read_success(Reply(200, {}, b"<html>"))


@pytest.mark.parametrize(
    ("text", "judge"),
    [
        ("model is not running", says_not_running),
        ("model is not loaded", says_not_running),
        ("model is already running", says_already_running),
        ("model is already loaded", says_already_running),
        ("model is not found", says_not_found),
    ],
)
def test_refusals_are_told_apart(text: str, judge: object) -> None:
    """The texts of old and new builds are recognised."""
    body = json.dumps({"error": {"code": 400, "message": text, "type": "invalid_request_error"}}).encode()
    error = read_refusal(Reply(400, {}, body))

    assert isinstance(error, RefusedError)
    matches = [known(error) for known in (says_not_running, says_already_running, says_not_found)]
    assert matches.count(True) == 1 and callable(judge) and judge(error)
