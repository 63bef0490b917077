"""API keys and the path prefix: what is public, what is asked, how a key may be sent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.conftest import Target
from tests.contract.eras import EXPECTED
from tests.contract.kit import Server

KEY = {"Authorization": "Bearer k1"}


@pytest.fixture(scope="module")
def locked(target: Target) -> Iterator[Server]:
    """A router that asks for a key, one of two."""
    with target.router(api_key="k1,k2") as server:
        yield server


@pytest.mark.parametrize("path", ["/props", "/slots", "/metrics", "/models/sse", "/nope", "/models/load"])
def test_without_a_key(locked: Server, path: str) -> None:
    """Everything that is not public is refused before anything else is looked at."""
    answer = locked.ask("GET", path)
    assert answer.status == 401
    assert answer.json["error"] == {"message": "Invalid API Key", "type": "authentication_error", "code": 401}


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_verbs_need_the_key(locked: Server, verb: str) -> None:
    """Load and unload are refused without a key."""
    assert locked.ask("POST", f"/models/{verb}", {"model": "plain"}).status == 401


def test_public_routes(locked: Server) -> None:
    """Health is public; the list was, up to b10240."""
    assert locked.ask("GET", "/health").status == 200
    assert locked.ask("GET", "/v1/health").status == 200
    assert locked.ask("GET", "/models").status == (200 if EXPECTED.list_is_public else 401)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (KEY, 200),
        ({"Authorization": "k2"}, 200),
        ({"X-Api-Key": "k1"}, 200),
        ({"Authorization": "bearer k1"}, 401),
        ({"Authorization": "Basic abc", "X-Api-Key": "k1"}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
    ],
)
def test_ways_to_send_a_key(locked: Server, headers: dict[str, str], status: int) -> None:
    """A key is taken with or without Bearer, or from X-Api-Key; a foreign Authorization hides the latter."""
    assert locked.ask("GET", "/props", headers=headers).status == status


def test_preflight_needs_no_key(locked: Server) -> None:
    """A preflight is answered without a key."""
    assert locked.ask("OPTIONS", "/models/unload", headers={"Origin": "http://a.example"}).status == 200


def test_prefix(target: Target) -> None:
    """With a prefix the routes live under it only, and its health needs the key."""
    with target.router(prefix="/pre", api_key="k1") as server:
        assert server.ask("GET", "/models", headers=KEY).status == 200
        assert server.ask("GET", "/health").status == 401
        bare = Server(server.port)
        assert bare.ask("GET", "/health").status == 404
        assert bare.ask("GET", "/props", headers=KEY).status == 404
