"""``corral serve`` as its users run it: a process of its own, in front of a simulated router."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import tomllib
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from corral.faces.cli import serve
from corral.sim import SimConfig, simulate
from tests.faces.conftest import SOURCE

ROOT = Path(__file__).resolve().parents[2]

if TYPE_CHECKING:
    from tests.faces.kit import Result

    Cli = Callable[..., Result]
    Spawn = Callable[..., "subprocess.Popen[str]"]
    Finish = Callable[["subprocess.Popen[str]"], Result]


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """State and configuration of the test's own."""
    monkeypatch.setenv("CORRAL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("CORRAL_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").touch()


def start(spawn: Spawn, *argv: str) -> tuple[subprocess.Popen[str], str]:
    """Start a gateway on a free port; returns it and its address."""
    process = spawn("serve", "--listen", "127.0.0.1:0", *argv)
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found, line
    return process, found[0]


def ask(url: str, path: str, body: object = None) -> tuple[int, bytes]:
    """Status and body of an answer."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port or 0, timeout=10)
    try:
        data = None if body is None else json.dumps(body)
        connection.request("GET" if data is None else "POST", path, data, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGHUP, 0)])
def test_serves_until_told_to_stop(spawn: Spawn, finish: Finish, number: int, code: int) -> None:
    """It says where it listens, passes requests, and ends with success when told to stop and nothing was cut."""
    with simulate(SimConfig(models=("a",))) as sim:
        process, url = start(spawn, "--router", sim.url)
        assert 200 == ask(url, "/v1/chat/completions", {"model": "a", "max_tokens": 2})[0]
        assert 200 == ask(url, "/corral/v1/ready")[0]
        process.send_signal(number)
        result = finish(process)

    assert code == result.code
    assert "Stopped; no answer was cut." in result.err
    assert "Traceback" not in result.err


def test_stop_lets_a_stream_end(spawn: Spawn, finish: Finish) -> None:
    """Ctrl-C with a stream open: the stream ends whole, and then the gateway."""
    with simulate(SimConfig(models=("a",), token_s=0.01)) as sim:
        process, url = start(spawn, "--router", sim.url)
        bodies: list[bytes] = []
        body = {"model": "a", "max_tokens": 60, "stream": True}
        client = threading.Thread(target=lambda: bodies.append(ask(url, "/v1/chat/completions", body)[1]))
        client.start()
        while sim.in_flight("a") == 0:
            pass
        process.send_signal(signal.SIGINT)
        client.join()
        result = finish(process)

    assert bodies[0].endswith(b"data: [DONE]\n\n")
    assert 0 == result.code


def ask_in_vain(url: str, body: object) -> None:
    """Ask for an answer that is cut."""
    with pytest.raises((OSError, HTTPException)):
        ask(url, "/v1/chat/completions", body)


def test_second_signal_cuts(spawn: Spawn, finish: Finish) -> None:
    """Told a second time it ends at once, and says how many answers that cut."""
    with simulate(SimConfig(models=("a",), token_s=5.0)) as sim:
        process, url = start(spawn, "--router", sim.url)
        body = {"model": "a", "max_tokens": 60}
        client = threading.Thread(target=ask_in_vain, args=(url, body))
        client.start()
        while sim.in_flight("a") == 0:
            pass
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        assert "Stopping" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        result = finish(process)
        client.join()

    assert 1 == result.code
    assert "1 answer was cut" in result.err


def test_document_when_it_listens(spawn: Spawn, finish: Finish) -> None:
    """With --json the line that says where it listens is a document."""
    with simulate(SimConfig()) as sim:
        process = spawn("serve", "--json", "--router", sim.url, "--listen", "127.0.0.1:0")
        assert process.stdout is not None
        document = json.loads(process.stdout.readline())
        process.terminate()
        result = finish(process)

    assert (1, True, 0) == (document["schema_version"], document["ok"], result.code)
    assert document["listening"][0].startswith("http://127.0.0.1:")
    assert [{"url": sim.url, "prefix": ""}] == document["routers"]


def test_several_routers(spawn: Spawn, finish: Finish, tmp_path: Path) -> None:
    """Routers are behind a path, or an address of their own; each knows its own models alone."""
    with (
        simulate(SimConfig(models=("main",))) as main,
        simulate(SimConfig(models=("small",), api_prefix="/llm")) as small,
        simulate(SimConfig(models=("other",))) as other,
    ):
        (tmp_path / "config.toml").write_text(
            f'[[serve.routers]]\nprefix = "/small"\nrouter = "{small.url}"\n'
            f'[[serve.routers]]\nlisten = "localhost:0"\nrouter = "{other.url}"\n'
        )
        process = spawn("serve", "--json", "--router", main.url, "--listen", "127.0.0.1:0")
        assert process.stdout is not None
        first, last = json.loads(process.stdout.readline())["listening"]
        found = [
            json.loads(ask(url, path)[1])["data"][0]["id"]
            for url, path in ((first, "/v1/models"), (first, "/small/v1/models"), (last, "/models"))
        ]
        assert 200 == ask(first, "/small/corral/v1/ready")[0]
        process.terminate()
        result = finish(process)

    assert (["main", "small", "other"], 0) == (found, result.code)


def test_keys_are_told_to_nobody(spawn: Spawn, finish: Finish, tmp_path: Path) -> None:
    """Neither the router's key, nor a client's, right or wrong, nor the token is in anything that is printed."""
    (tmp_path / "router-key").write_text("router-secret\n")
    (tmp_path / "client-keys").write_text("ann client-secret\n")
    keys = ("--api-key-file", str(tmp_path / "router-key"), "--client-keys-file", str(tmp_path / "client-keys"))
    with simulate(SimConfig(models=("a",), api_keys=("router-secret",))) as sim:
        process, url = start(spawn, "--router", sim.url, *keys)
        parts = urlsplit(url)
        said = b""
        for key in ("client-secret", "wrong-secret", "router-secret"):
            for path in ("/v1/models", "/models/unload", "/corral/v1/residents", "/nothing"):
                connection = HTTPConnection(parts.hostname or "", parts.port or 0, timeout=10)
                headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
                connection.request("POST" if "unload" in path else "GET", path, b"{", headers)
                said += connection.getresponse().read()
                connection.close()
        token = (tmp_path / "state" / "token").read_text().strip()
        process.terminate()
        result = finish(process)

    assert 0 == result.code
    for text in (result.out, result.err, said.decode()):
        assert "secret" not in text and token not in text


def test_check_says_whether_it_would_run(cli: Cli) -> None:
    """--check asks the router, listens nowhere, and has the exit code that fits."""
    with simulate(SimConfig(models=3)) as sim:
        good = cli("serve", "--check", "--router", sim.url, "--json")
    bad = cli("serve", "--check", "--router", sim.url)
    wrong = cli("serve", "--check", "--router", sim.url, "--listen", "0.0.0.0:80")

    assert (0, 3) == (good.code, json.loads(good.out)["routers"][0]["models"])
    assert 3 == bad.code and sim.url in bad.err and "--router" in bad.err
    assert 2 == wrong.code and "client keys" in wrong.err


def test_check_sees_a_wrong_key(cli: Cli, tmp_path: Path) -> None:
    """--check tells of a key that the router refuses, as exit code 9."""
    (tmp_path / "key").write_text("wrong\n")
    with simulate(SimConfig(api_keys=("right",))) as sim:
        keys = ("--api-key-file", str(tmp_path / "key"), "--client-keys-file", str(tmp_path / "key"))
        result = cli("serve", "--check", "--router", sim.url, *keys)

    assert 9 == result.code


def test_port_in_use(cli: Cli) -> None:
    """An address that is taken is named, with what to do."""
    with simulate(SimConfig()) as sim, simulate(SimConfig()) as other:
        result = cli("serve", "--router", sim.url, "--listen", f"127.0.0.1:{other.port}")

    assert 2 == result.code
    assert f"127.0.0.1:{other.port}" in result.err and "in use" in result.err


@pytest.mark.parametrize(
    ("hidden", "said"),
    [
        ("sys.modules['aiohttp'] = None", "not installed"),
        ("import types; sys.modules['aiohttp'] = types.SimpleNamespace(__version__='3.14.4')", "here is 3.14.4"),
    ],
)
def test_missing_package_is_named(hidden: str, said: str) -> None:
    """Without aiohttp, or with one too old, the command says what to install, and nothing of Python's inside."""
    script = textwrap.dedent(
        f"""
        import sys
        {hidden}
        from corral.faces.cli import main
        sys.exit(main(["serve", "--router", "http://127.0.0.1:1"]))
        """
    )
    own = dict(os.environ) | {"PYTHONPATH": SOURCE}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, env=own)

    assert 2 == done.returncode
    assert said in done.stderr and "pip install 'llama-corral[serve]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_package_asked_for_is_the_one_needed() -> None:
    """What the command asks for is what the extra installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    least = ".".join(map(str, serve._LEAST_AIOHTTP))

    assert [f"aiohttp>={least},<4"] == project["optional-dependencies"]["serve"]
