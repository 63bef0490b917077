"""Reading the list: every shape that a build has sent, and junk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.wire import (
    AuthError,
    CorralError,
    NotARouterError,
    RefusedError,
    Reply,
    list_models,
    read_listing,
    read_model,
)

REPLIES = Path(__file__).parent / "replies"
LLAMA = {"server": "llama.cpp"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


def answer(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    """A reply with this JSON body, as llama-server sends it."""
    return Reply(status, LLAMA if headers is None else headers, json.dumps(document).encode())


def entry(**fields: Any) -> dict[str, Any]:
    """An entry of the list."""
    return {"id": "a", "status": {"value": "loaded", "args": ["llama-server", "--port", "4711"]}, **fields}


def test_recorded_list() -> None:
    """A list recorded from b11434 gives every field."""
    listing = read_listing(Reply(200, LLAMA, (REPLIES / "b11434-models.json").read_bytes()))
    by_id = {model.id: model for model in listing.models}
    quoted = by_id['we "quote" it\'s / here']

    assert listing.has_events is True
    assert (by_id["plain"].status, by_id["plain"].is_resident) == ("loaded", True)
    assert by_id["plain"].port is not None
    assert (quoted.aliases, quoted.tags, quoted.is_gone) == (("al1", "al2"), ("t1", "t2"), True)
    assert (by_id["slow"].stop_timeout_s, quoted.stop_timeout_s) == (2.0, 10.0)


def test_asking_for_the_list_changes_nothing() -> None:
    """The list is asked for without ``reload``, which would unload models."""
    call = list_models()

    assert (call.method, call.path, call.body) == ("GET", "/models", None)


@pytest.mark.parametrize("status", ["loaded", {"value": "loaded"}])
def test_status_as_string_or_object(status: object) -> None:
    """A status is read from an object and from a plain string."""
    assert read_listing(answer({"data": [{"id": "a", "status": status}]})).models[0].status == "loaded"


@pytest.mark.parametrize("key", ["id", "name", "model"])
def test_identifier_keys(key: str) -> None:
    """The identifier stands under id, else name, else model."""
    assert read_listing(answer({"data": [{key: "m", "status": "unloaded"}]})).models[0].id == "m"


def test_one_odd_entry_hides_no_other() -> None:
    """Entries that cannot be read are left out, and odd fields are None."""
    odd = [7, None, {"id": 7, "status": {}}, {"id": "b", "status": 5}, entry()]
    models = read_listing(answer({"data": odd})).models

    assert [(model.id, model.status) for model in models] == [("b", "unknown"), ("a", "loaded")]


def test_unknown_status_is_carried_through() -> None:
    """A status word of a later build is kept, and may hold memory."""
    model = read_listing(answer({"data": [entry(status={"value": "warming", "new": 1})]})).models[0]

    assert (model.status, model.is_resident, model.is_gone) == ("warming", True, False)
    assert model.raw["status"]["new"] == 1


def test_port_before_the_first_load_is_none() -> None:
    """Port 0 means that no child ever ran."""
    model = read_listing(answer({"data": [entry(status={"value": "unloaded", "args": ["--port", "0"]})]})).models[0]

    assert model.port is None


@pytest.mark.parametrize(
    ("status", "exit_code"),
    [
        ({"value": "unloaded", "failed": True, "exit_code": 1, "args": ["--port", "5"]}, 1),
        ({"value": "unloaded", "failed": True, "exit_code": 10, "args": ["--port", "0"]}, None),
        ({"value": "unloaded", "failed": True, "exit_code": 10, "args": ["--port", "5"]}, 10),
        ({"value": "unloaded", "exit_code": 1}, None),
        ({"value": "loaded", "failed": True, "exit_code": 1}, None),
    ],
)
def test_exit_codes_and_their_traps(status: dict[str, Any], exit_code: int | None) -> None:
    """An exit code counts only with ``failed``, on an unloaded model, and not b9093's code for never loaded."""
    assert read_listing(answer({"data": [{"id": "a", "status": status}]})).models[0].exit_code == exit_code


@pytest.mark.parametrize(
    ("value", "seconds"), [("30", 30.0), ("0", 0.0), ("soon", 10.0), ("", 10.0), ("99999999999999999999", 10.0)]
)
def test_stop_timeout_from_the_preset(value: str, seconds: float) -> None:
    """The stop-timeout is read from the preset, and is the router's default when it cannot be."""
    status = {"value": "loaded", "preset": f"[a]\nmodel = x\nstop-timeout = {value}\n"}

    assert read_listing(answer({"data": [{"id": "a", "status": status}]})).models[0].stop_timeout_s == seconds


def test_empty_router() -> None:
    """A router without models is a router; whether it has events cannot be told."""
    listing = read_listing(answer({"data": [], "object": "list"}))

    assert listing.models == () and listing.has_events is None


@pytest.mark.parametrize(
    ("reply", "found", "words"),
    [
        (answer({"models": [{}], "data": [{"id": "m"}]}), "single", "single model"),
        (
            answer({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, 503),
            "starting",
            "loading",
        ),
        (
            answer({"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}, 404),
            "other",
            "/models",
        ),
        (answer({"data": [{"id": "gpt", "object": "model"}]}, 200, {}), "other", "OpenAI"),
        (answer({"data": [], "object": "list"}, 200, {"server": "uvicorn"}), "other", "OpenAI"),
        (Reply(200, {}, b"<html><title>nginx</title>"), "other", "not JSON"),
        (Reply(502, {"server": "nginx"}, b"<html>Bad Gateway"), "other", "502"),
        (Reply(302, {"location": "https://x/\x1b[2J"}, b""), "other", "redirects"),
        (answer({"hello": 1}), "other", "not a list"),
        (answer([1]), "other", "not llama-server's"),
        (Reply(200, {}, b""), "other", "empty"),
        (Reply(200, {}, b"[" * 100_000), "other", "not JSON"),
    ],
)
def test_what_is_not_a_router(reply: Reply, found: str, words: str) -> None:
    """Whatever else answers is told apart, with a next step and without its control codes."""
    with pytest.raises(NotARouterError) as caught:
        read_listing(reply)

    assert caught.value.found == found
    assert words in caught.value.message and caught.value.hint
    assert caught.value.message.isprintable()


def test_missing_key_and_refusals() -> None:
    """A 401 is AuthError, a llama-server 500 is RefusedError with the server's own words."""
    denied = answer({"error": {"code": 401, "message": "Invalid API Key", "type": "authentication_error"}}, 401)
    broken = answer({"error": {"code": 500, "message": "boom\x07", "type": "server_error"}}, 500)

    with pytest.raises(AuthError, match="Invalid API Key"):
        read_listing(denied)
    with pytest.raises(RefusedError, match=r"boom\\x07") as caught:
        read_listing(broken)
    assert (caught.value.status, caught.value.code, caught.value.kind) == (500, 500, "server_error")


@given(st.binary(max_size=200), st.sampled_from([200, 204, 301, 400, 401, 404, 500, 503]))
def test_any_bytes_are_read_or_refused(body: bytes, status: int) -> None:
    """No reply makes the reader raise anything but Corral's own errors."""
    message = ""
    try:
        read_listing(Reply(status, LLAMA, body))
    except CorralError as error:
        message = error.message

    assert message == "" or message.isprintable()


@given(
    st.lists(JSON | st.fixed_dictionaries({"id": st.text(), "status": JSON, "aliases": JSON, "tags": JSON}), max_size=5)
)
def test_any_entries_are_read(entries: list[Any]) -> None:
    """Any JSON as entries gives models or one of Corral's errors."""
    try:
        models = read_listing(answer({"data": entries})).models
    except CorralError:
        return

    assert all(isinstance(model.id, str) and isinstance(model.status, str) for model in models)


@pytest.mark.parametrize("status", [{"value": 7}, {}, 5, None])
def test_unreadable_status_may_hold_memory(status: object) -> None:
    """A status that cannot be read is unknown, and what is unknown is not taken for unloaded."""
    model = read_model({"id": "a", "status": status})

    assert model is not None and model.is_resident and not model.is_gone


def test_of_two_entries_with_one_id_the_resident_one_counts() -> None:
    """A list that names a model twice never hides the one that holds memory."""
    loaded, unloaded = ({"id": "a", "status": {"value": value}} for value in ("loaded", "unloaded"))
    for entries in ([loaded, unloaded], [unloaded, loaded]):
        reply = Reply(200, {"server": "llama.cpp"}, json.dumps({"data": entries}).encode())

        assert [model.status for model in read_listing(reply).models] == ["loaded"]


def test_entries_without_a_name_are_counted() -> None:
    """An entry that names nothing is counted; a list of nothing else is no list of models."""
    good = {"id": "a", "status": {"value": "loaded"}}
    reply = Reply(200, {"server": "llama.cpp"}, json.dumps({"data": [good, 0, {"id": 5}]}).encode())
    assert (len(read_listing(reply).models), read_listing(reply).unreadable) == (1, 2)
    with pytest.raises(NotARouterError):
        read_listing(Reply(200, {"server": "llama.cpp"}, b'{"data":[0,0]}'))


def test_a_number_without_end_hides_nothing() -> None:
    """A number of more digits than Python reads makes no list unreadable, and is not known."""
    body = b'{"data":[{"id":"a","odd":%b,"status":{"value":"unloaded","failed":true,"exit_code":7}}]}' % (b"9" * 5000)
    found = read_listing(Reply(200, {"server": "llama.cpp"}, body)).models[0]

    assert (found.exit_code, found.raw["odd"]) == (7, None)
