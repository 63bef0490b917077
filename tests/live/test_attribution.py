"""The real router and Corral read the same model out of a request, or neither reads one.

The router is asked for models that it does not have: it then says the name that it has read, and loads nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral.sim.launch import RealRouter
from corral.wire.attribution import BODY, QUERY, list_routes, read_query
from corral.wire.bodies import find_model
from tests.live.conftest import BUILD
from tests.support.live import ModelFiles
from tests.wire.bodies import BODIES, FORMS, NAME_BEHIND_A_PARAMETER

pytestmark = pytest.mark.live

Ask = Callable[..., str | None]
BOUNDED = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
FORM = "multipart/form-data; boundary=b-1"


@pytest.fixture(scope="module")
def ask(llama_server_binary: str, model_files: ModelFiles) -> Iterator[Ask]:
    """Sends a request to a real router, and returns the name of the model that it has read."""
    with RealRouter(llama_server_binary, {"only": model_files.quick}) as router:
        parts = urlsplit(router.url)

        def send(method: str, target: str, body: bytes = b"", content_type: str = "application/json") -> str | None:
            connection = HTTPConnection(parts.hostname or "", parts.port or 0, timeout=20)
            try:
                headers = {"Content-Type": content_type} if method == "POST" else {}
                connection.request(method, target, body if method == "POST" else None, headers)
                reply = connection.getresponse()
                said = reply.read().decode(errors="replace")
            finally:
                connection.close()
            assert reply.status in (400, 500), (reply.status, said)
            return read_name(said)

        yield send


def read_name(said: str) -> str | None:
    """The model in the router's refusal; None where it found none, or could not read the request."""
    try:
        message = json.loads(said)["error"]["message"]
    except ValueError:
        return None
    found = re.fullmatch(r"model '(.*)' not found", message, re.DOTALL)
    return found[1] if found else None


def as_said(name: str | None) -> str | None:
    """A name as the router prints it: to the first zero byte."""
    return None if name is None else name.partition("\0")[0]


@pytest.mark.parametrize("case", range(len(BODIES)))
def test_bodies_are_read_alike(ask: Ask, case: int) -> None:
    """Each of the odd bodies names the same model to both, or none to either."""
    body, model = BODIES[case]

    assert model == find_model(body, "application/json")
    assert model == ask("POST", "/v1/completions", body)


@pytest.mark.parametrize("case", range(len(FORMS)))
def test_forms_are_read_alike(ask: Ask, case: int) -> None:
    """Each of the odd forms names the same model to both."""
    body, model = FORMS[case]

    assert model == find_model(body, FORM)
    if BUILD < 11434 and body == NAME_BEHIND_A_PARAMETER:
        # That router refuses it itself, whatever the gateway takes it to be about.
        model = None
    assert model == ask("POST", "/v1/audio/transcriptions", body, FORM)


@pytest.mark.since(11434, "older builds have fewer routes")
def test_routes_name_their_model_where_we_look(ask: Ask) -> None:
    """Every route of the table reads its model from the body or the query, as the table says."""
    for method, route in list_routes():
        path = route.path.replace("*", "1")
        if path.startswith("/models"):
            continue
        if route.where == BODY:
            assert "nobody" == ask(method, f"{path}?model=other", b'{"model":"nobody"}'), path
        elif route.where == QUERY:
            assert "nobody" == ask(method, f"{path}?model=nobody"), path


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=5,
)
ends = st.sampled_from([b"", b" ", b"\0", b"x"])
members = st.lists(
    st.tuples(st.sampled_from(['"model"', '"mo\\u0064el"', '"x"', '"Model"']), documents), min_size=1, max_size=4
)


@BOUNDED
@given(members, st.booleans(), st.sampled_from([b"", b"\xef\xbb\xbf", b" \n"]), ends)
def test_any_body_is_read_alike(
    ask: Ask, found: list[tuple[str, object]], ascii_only: bool, before: bytes, after: bytes
) -> None:
    """Whatever keys repeat and however they are escaped, both read the same model."""
    inside = ",".join(f"{key}:{json.dumps(value, ensure_ascii=ascii_only)}" for key, value in found)
    body = before + b"{" + inside.encode("utf-8", "surrogatepass") + b"}" + after

    assert as_said(find_model(body, "application/json")) == ask("POST", "/v1/completions", body)


@BOUNDED
@given(st.binary(max_size=30), st.integers(0, 40))
def test_any_damage_is_read_alike(ask: Ask, junk: bytes, at: int) -> None:
    """A body with junk in it is refused by both, or read alike."""
    body = b'{"x":[1.5,"\\u00e4"],"model":"plain","y":null}'
    body = body[:at] + junk + body[at:]

    assert as_said(find_model(body, "application/json")) == ask("POST", "/v1/completions", body)


@BOUNDED
@given(st.lists(st.tuples(st.sampled_from(["model", "m%6fdel", "x"]), st.text(max_size=8)), min_size=1, max_size=3))
def test_any_query_is_read_alike(ask: Ask, pairs: list[tuple[str, str]]) -> None:
    """However a query is escaped and whatever repeats, both read the same model."""
    query = "&".join(f"{key}={quote(value, safe='/:+')}" for key, value in pairs)

    assert as_said(read_query(query).get("model") or None) == ask("GET", f"/slots?{query}")
