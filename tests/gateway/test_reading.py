"""The settings of a gateway: what they mean together, and what is refused with the next step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from corral.gateway.reading import ServeFlags, parse_listen, read_settings
from corral.gateway.settings import Limits
from corral.ops.idle import IdleLimits
from corral.wire import BadArgumentError

ROUTER = {"router": "http://127.0.0.1:8081"}


def read(table: dict[str, Any] | None = None, path: str | None = None, **flags: Any) -> Any:
    """Settings of a table and flags."""
    return read_settings(ServeFlags(**flags), table or {}, path)


def test_little_is_needed() -> None:
    """A router is enough: the gateway then listens where clients look for a router."""
    settings = read(router="http://127.0.0.1:8081")

    (listener,) = settings.listeners
    assert "http://127.0.0.1:8080" == listener.address.label
    assert ["http://127.0.0.1:8081"] == [mount.target.label for mount in listener.mounts]
    assert Limits() == settings.limits and () == settings.client_keys


def test_flags_come_before_the_file(tmp_path: Path) -> None:
    """What the command line says counts, the rest is the file's; paths of the file count from its folder."""
    (tmp_path / "keys").write_text("# people\nann key-a\n\nkey-b\n")
    table = ROUTER | {
        "listen": ["127.0.0.1:1", "unix:///run/x.sock"],
        "client_keys_file": "keys",
        "max_body": "2MiB",
        "stop_timeout": "1m",
        "max_connections": 9,
        "allowed_hosts": "LLM.example.org",
        "task_header": "X-Task",
    }
    settings = read(table, str(tmp_path / "config.toml"), router="http://10.0.0.2:9000/llm")

    assert ["http://127.0.0.1:1", "unix:///run/x.sock"] == [one.address.label for one in settings.listeners]
    assert {"http://10.0.0.2:9000/llm"} == {m.target.label for one in settings.listeners for m in one.mounts}
    assert (("ann", "key-a"), ("key 2", "key-b")) == settings.client_keys
    assert (2 << 20, 60.0, 9) == (
        settings.limits.max_body_bytes,
        settings.limits.stop_s,
        settings.limits.max_connections,
    )
    assert (("llm.example.org",), "X-Task") == (settings.allowed_hosts, settings.task_header)
    assert "key-a" not in repr(settings)


def test_several_routers() -> None:
    """Routers are told apart by a path prefix, or have an address of their own."""
    table = ROUTER | {
        "routers": [
            {"prefix": "/small", "router": "http://127.0.0.1:8082"},
            {"listen": "127.0.0.1:9090", "router": "unix:///run/llama.sock"},
        ]
    }
    one, two = read(table).listeners

    assert [("", 8081), ("/small", 8082)] == [(mount.prefix, mount.target.port) for mount in one.mounts]
    assert (9090, "unix:///run/llama.sock") == (two.address.port, two.mounts[0].target.label)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (":8090", "http://127.0.0.1:8090"),
        ("0.0.0.0:80", "http://0.0.0.0"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("unix:///run/c.sock", "unix:///run/c.sock"),
        ("http://127.0.0.1:0", "http://127.0.0.1:0"),
    ],
)
def test_addresses(text: str, label: str) -> None:
    """An address may be short; without a host it is the loopback's."""
    assert label == parse_listen(text).label


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no router": ({}, "No router is named"),
    "open to others": (ROUTER | {"listen": "0.0.0.0:8080"}, "can be reached by others"),
    "open to others, version 6": (ROUTER | {"listen": "[::]:8080"}, "can be reached by others"),
    "open by name": (ROUTER | {"listen": "gpu-box:8080"}, "can be reached by others"),
    "its own router": ({"router": "http://localhost:8080"}, "its own router"),
    "https": (ROUTER | {"listen": "https://127.0.0.1:8080"}, "without https"),
    "a path": (ROUTER | {"listen": "http://127.0.0.1:8080/x"}, "without a path"),
    "a typing error": (ROUTER | {"liste": "x"}, "unknown setting liste"),
    "a typing error below": ({"routers": [ROUTER | {"prefx": "/x"}]}, "unknown setting prefx"),
    "a number as text": (ROUTER | {"max_connections": "many"}, "wrong form"),
    "a truth as number": (ROUTER | {"max_connections": True}, "wrong form"),
    "no size": (ROUTER | {"max_body": "12"}, "not a size"),
    "no duration": (ROUTER | {"idle_timeout": "soon"}, "not a duration"),
    "no list": (ROUTER | {"allowed_hosts": [1]}, "wrong form"),
    "no table": (ROUTER | {"routers": "x"}, "wrong form"),
    "a router without its address": ({"routers": [{"prefix": "/x"}]}, "router is missing"),
    "one prefix twice": ({"routers": [ROUTER, {"router": "http://127.0.0.1:8082"}]}, "same prefix"),
    "a prefix that is no path": ({"routers": [ROUTER | {"prefix": "x"}]}, "no path"),
    "a prefix that no path can have": ({"routers": [ROUTER | {"prefix": "/x?y"}]}, "no path"),
    "no port": (ROUTER | {"listen": ":99999"}, "Not an address to listen on: :99999"),
    "no file of keys": (ROUTER | {"client_keys_file": "/nonexistent"}, "cannot be read"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_refused(case: str) -> None:
    """Each mistake is named, with what to write instead."""
    table, said = REFUSED[case]
    with pytest.raises(BadArgumentError, match=said) as caught:
        read(table, "/etc/corral/config.toml")

    assert caught.value.hint


def test_router_key_needs_client_keys(tmp_path: Path) -> None:
    """Whoever connects would use the router's key; so clients must show one of their own."""
    key = tmp_path / "key"
    key.write_text("router-key\n")
    with pytest.raises(BadArgumentError, match="would use that key") as caught:
        read(ROUTER, api_key_file=str(key))
    assert "router-key" not in caught.value.message + caught.value.hint

    (listener,) = read(ROUTER, api_key_file=str(key), client_keys_file=str(key)).listeners
    assert "router-key" == listener.mounts[0].api_key
    assert "router-key" not in repr(listener)


@pytest.mark.parametrize("text", ["", "# none\n", "one two three\n", "sch\xf6n\n"])
def test_files_of_keys_that_hold_none(tmp_path: Path, text: str) -> None:
    """A file without a usable key is refused rather than letting everybody in."""
    path = tmp_path / "keys"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(BadArgumentError):
        read(ROUTER, client_keys_file=str(path))


@pytest.mark.parametrize(("encoding", "label"), [("utf-8", "jörg"), ("utf-8-sig", "jörg"), ("latin-1", "j\ufffdrg")])
def test_labels_in_any_language(tmp_path: Path, encoding: str, label: str) -> None:
    """A label may be anybody's name; in another encoding than UTF-8 it is one that can be written down all the same."""
    path = tmp_path / "keys"
    path.write_text("jörg key-a\n", encoding=encoding)
    assert read(ROUTER, client_keys_file=str(path)).client_keys == ((label, "key-a"),)


def test_rules() -> None:
    """What the gateway does by itself is set in the same table."""
    table = {
        "router": "http://127.0.0.1:8081",
        "grace": "1m",
        "eject_wait": "10s",
        "eject_grace": "2m",
        "max_parked": 7,
        "max_parked_bytes": "1MiB",
        "load_timeout": "5m",
        "park_held": "0s",
        "refuse_tasks": False,
        "idle": "30m",
        "idle_match": ["qwen*=10m", "a=b=1h"],
        "idle_never": "embedder",
    }
    rules = read_settings(ServeFlags(), table, None).rules

    assert (rules.grace_s, rules.eject_s, rules.eject_grace_s) == (60.0, 10.0, 120.0)
    assert (rules.limits.parked_max, rules.limits.parked_bytes_max) == (7, 1 << 20)
    assert (rules.limits.load_park_s, rules.limits.held_park_s, rules.limits.refuses_tasks) == (300.0, 0.0, False)
    assert rules.idle == IdleLimits(1800.0, (("qwen*", 600.0), ("a=b", 3600.0)))
    assert rules.idle_never == ("embedder",)
    for wrong in ({"idle_match": "qwen"}, {"idle_match": "qwen=x"}, {"refuse_tasks": 1}, {"max_parked": 0}):
        with pytest.raises(BadArgumentError):
            read_settings(ServeFlags(), table | wrong, None)
