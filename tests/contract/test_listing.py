"""The list of models, the router's own routes, and what they never do."""

from __future__ import annotations

import pytest

from tests.contract.conftest import Target
from tests.contract.eras import EXPECTED
from tests.contract.kit import BROKEN, BUSY, EMOJI, NAP, PLAIN, QUOTED, Server


def test_list_shape(router: Server) -> None:
    """The list has ``data`` and ``object`` and nothing else, sorted by id, status always an object."""
    document = router.ask("GET", "/models").json
    assert set(document) == {"data", "object"}
    assert [entry["id"] for entry in document["data"]] == sorted([BROKEN, BUSY, EMOJI, NAP, PLAIN, QUOTED])
    assert all(isinstance(entry["status"], dict) for entry in document["data"])
    assert {entry["owned_by"] for entry in document["data"]} == {"llamacpp"}


def test_entry_fields(router: Server) -> None:
    """An entry has the fields of its build, and ``meta`` only while the child is up."""
    fields = {"id", "aliases", "tags", "object", "owned_by", "created", "status"}
    fields |= {"architecture"} if EXPECTED.has_architecture else set()
    fields |= {"source", "can_remove"} if EXPECTED.has_events else set()
    assert set(router.entries()[PLAIN]) == fields
    router.bring_up(PLAIN)
    entry = router.entries()[PLAIN]
    assert set(entry) == fields | {"meta"}
    assert entry["meta"]["n_params"] > 0


def test_aliases_and_tags(router: Server) -> None:
    """Aliases and tags of the preset are listed as arrays."""
    entry = router.entries()[QUOTED]
    assert sorted(entry["aliases"]) == ["al1", "al2"]
    assert sorted(entry["tags"]) == ["t1", "t2"]


def test_status_before_the_first_load(target: Target) -> None:
    """A model that never ran has port 0 and its preset, and is listed as failed by one era only."""
    with target.router() as fresh:
        status = fresh.status(BUSY)
    assert status["value"] == "unloaded"
    assert status["args"][status["args"].index("--port") + 1] == "0"
    assert "stop-timeout = 1" in status["preset"]
    assert status.get("exit_code") == EXPECTED.never_run_exit_code
    assert ("failed" in status) is (EXPECTED.never_run_exit_code is not None)


def test_both_list_routes_agree(router: Server) -> None:
    """``/models`` and ``/v1/models`` are the same list."""
    first, second = router.ask("GET", "/models").json, router.ask("GET", "/v1/models").json
    assert [entry["id"] for entry in first["data"]] == [entry["id"] for entry in second["data"]]


def test_listing_loads_nothing(router: Server) -> None:
    """Looking at everything that the router itself answers leaves every model unloaded."""
    for path in ("/models", "/v1/models", "/health", "/props"):
        assert router.ask("GET", path).status == 200
    assert {entry["status"]["value"] for entry in router.entries().values()} == {"unloaded"}


def test_router_props(router: Server) -> None:
    """``/props`` names the role and the maximum."""
    props = router.ask("GET", "/props").json
    assert props["role"] == "router"
    assert props["max_instances"] == 4
    assert props["models_autoload"] is True
    assert props["model_path"] == "none"
    assert props["build_info"].startswith("b")


def test_health_and_server_header(router: Server) -> None:
    """Every answer says ``Server: llama.cpp``; health is ok."""
    answer = router.ask("GET", "/health")
    assert answer.json == {"status": "ok"}
    assert answer.headers["Server"] == "llama.cpp"
    assert router.ask("GET", "/nope").headers["Server"] == "llama.cpp"


def test_unknown_path(router: Server) -> None:
    """A path that does not exist is 404 ``File Not Found``."""
    for method, path in (("GET", "/nope"), ("POST", "/nope"), ("POST", "/v1/models/load"), ("GET", "/models/unload")):
        answer = router.ask(method, path)
        assert answer.status == 404
        assert answer.json["error"] == {"message": "File Not Found", "type": "not_found_error", "code": 404}


def test_cors_reflects_any_origin(router: Server) -> None:
    """Any origin is reflected, in answers and in the preflight."""
    headers = {"Origin": "http://evil.example"}
    assert router.ask("GET", "/models", headers=headers).headers["Access-Control-Allow-Origin"] == headers["Origin"]
    preflight = router.ask("OPTIONS", "/models/unload", headers=headers)
    assert preflight.status == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == headers["Origin"]
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    assert preflight.headers["Access-Control-Allow-Credentials"] == "true"


def test_text_plain_is_accepted(router: Server) -> None:
    """A POST is read as JSON under any content type: what a web page can send without asking."""
    answer = router.ask("POST", "/models/load", {"model": PLAIN}, {"Content-Type": "text/plain"})
    assert answer.json == {"success": True}
    router.wait_for(PLAIN, "loaded")


def test_keep_alive(router: Server) -> None:
    """Good answers keep the connection; an error answer closes it."""
    connection = router.connect()
    connection.request("GET", "/health")
    connection.getresponse().read()
    first = connection.sock
    connection.request("GET", "/models")
    connection.getresponse().read()
    assert first is not None
    assert connection.sock is first
    connection.request("POST", "/models/unload", "{}")
    reply = connection.getresponse()
    reply.read()
    assert reply.headers["Connection"] == "close"
    connection.close()


def test_a_connection_ends_after_a_hundred_requests(router: Server) -> None:
    """The hundredth answer on a connection says that it closes."""
    connection = router.connect()
    said = []
    for _ in range(100):
        connection.request("GET", "/health")
        reply = connection.getresponse()
        reply.read()
        said.append(reply.headers["Connection"])
    connection.close()
    assert said == [None] * 99 + ["close"]


@pytest.mark.parametrize("path", ["/health", "/models", "/props"])
def test_single_model_server(target: Target, path: str) -> None:
    """A single-model server answers the same paths, in a shape that shows what it is."""
    with target.single() as server:
        answer = server.ask("GET", path)
    assert answer.status == 200
    if path == "/models":
        assert set(answer.json) == {"models", "object", "data"}
        assert [entry["id"] for entry in answer.json["data"]] == ["solo"]
        assert "status" not in answer.json["data"][0]
    if path == "/props":
        assert "role" not in answer.json
        assert answer.json["total_slots"] > 0


def test_single_model_server_has_no_verbs(target: Target) -> None:
    """A single-model server knows neither unload nor events."""
    with target.single() as server:
        assert server.unload("solo").status == 404
        assert server.ask("GET", "/models/sse").status == 404
