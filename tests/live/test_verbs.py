"""The verbs on a real llama-server: what was asked for is done, and what is said is true."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from corral import AuthError, Model, NotARouterError, RefusedError, Router
from corral.sim.launch import RealRouter
from tests.live.conftest import BUILD, HAS_EVENTS, asking_when_gone, busy, chat, load_broken
from tests.support.clients import Use
from tests.support.live import QUOTED, ModelFiles

pytestmark = pytest.mark.live

QUICK = ("plain", QUOTED, "emoji 🐎 ü:Q4")
RECIPE = Path(__file__).resolve().parents[2] / "contrib" / "unload-all.sh"


def statuses(router: RealRouter) -> dict[str, str]:
    """What the router lists."""
    with Router(router.url, api_key=router.api_key) as client:
        return {model.id: model.status for model in client.list_models().models}


def corral(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "corral", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=env)


def test_load_and_unload_all(live_router: RealRouter, use: Use) -> None:
    """Models with ordinary and odd ids are loaded, then all unloaded, and a second time there is nothing to do."""
    loaded = use(live_router.url, lambda router: router.load(*QUICK))
    assert loaded.ok and [statuses(live_router)[name] for name in QUICK] == ["loaded"] * 3
    report = use(live_router.url, lambda router: router.unload_all())
    assert report.ok and {outcome.model for outcome in report.outcomes} == set(QUICK)
    assert set(statuses(live_router).values()) == {"unloaded"}
    assert use(live_router.url, lambda router: router.unload_all()).outcomes == ()


def test_alias_and_tag(live_router: RealRouter, use: Use) -> None:
    """An alias names its model, and a tag selects it."""
    assert use(live_router.url, lambda router: router.load("al2", "plain")).ok
    report = use(live_router.url, lambda router: router.unload_all(tags=["t1"]))
    assert [outcome.model for outcome in report.outcomes] == [QUOTED] and report.ok
    assert statuses(live_router)["plain"] == "loaded"


def test_looking_loads_nothing(live_router: RealRouter, use: Use) -> None:
    """List, residents, wait and the commands ls and ps leave every model unloaded and never spawned."""
    use(live_router.url, lambda router: router.list_models())
    use(live_router.url, lambda router: router.residents())
    use(live_router.url, lambda router: router.wait("plain", state="unloaded"))
    assert corral("--url", live_router.url, "ls", "-o", "wide").returncode == 0
    assert corral("--url", live_router.url, "ps").returncode == 0
    with Router(live_router.url) as router:
        assert all(model.port is None for model in router.list_models().models), "no child ever had a port"


def test_failed_load(live_router: RealRouter, use: Use) -> None:
    """A model that cannot load is reported with its exit code."""
    outcome = load_broken(
        lambda: use(live_router.url, lambda router: router.load("broken", timeout_s=5)).outcomes[0],
        lambda: use(live_router.url, lambda router: router.unload("broken", at_once=True)),
    )

    assert outcome.outcome == "load_failed" and outcome.exit_code == 1


def test_busy_model_takes_its_stop_timeout_and_is_said_to_be_killed(live_router: RealRouter, use: Use) -> None:
    """By force a stream in flight is cut at the stop-timeout; the model counts as unloaded only then."""
    with busy(live_router.url, "busy"):
        outcome = use(live_router.url, lambda router: router.unload("busy", at_once=True)).outcomes[0]

    assert outcome.outcome == "unloaded" and outcome.cut and "cut" in outcome.detail
    if BUILD >= 11114:
        # Before, a child with a stream in flight may also end in order, and cut the stream all the same.
        assert outcome.exit_code == 1


def test_model_that_comes_back(live_router: RealRouter, use: Use) -> None:
    """A client that asks again while another model is still stopping is noticed, by the new child's port."""
    assert use(live_router.url, lambda router: router.load("plain")).ok
    with asking_when_gone(live_router.url, "plain"), busy(live_router.url, "busy"):
        report = use(live_router.url, lambda router: router.unload("plain", "busy", at_once=True))
    found = {outcome.model: outcome.outcome for outcome in report.outcomes}

    assert found["plain"] in ("came_back", "unloaded") and found["busy"] == "unloaded"
    if BUILD >= 11114:
        # Before, what arrives during the stop goes to the dying child, so that it need not come back in time.
        assert found["plain"] == "came_back"


def test_loading_model_is_let_up(live_router: RealRouter, use: Use) -> None:
    """A model that is loading comes up, and is unloaded in order."""
    with Router(live_router.url) as other:
        other.load("busy", wait=False)
    report = use(live_router.url, lambda router: router.unload("busy"))

    assert report.ok and statuses(live_router)["busy"] == "unloaded"
    if HAS_EVENTS:
        assert report.outcomes[0].exit_code is None, "it was not killed"


def test_eviction_is_named(start_router: Callable[..., RealRouter], use: Use) -> None:
    """At the router's maximum the model that had to go is in the report."""
    router = start_router(models_max=1)
    assert use(router.url, lambda client: client.load("plain")).ok
    outcome = use(router.url, lambda client: client.load(QUOTED)).outcomes[0]

    assert outcome.outcome == "loaded" and outcome.evicted == ("plain",)


def test_sleeping_model_is_not_woken_and_is_unloaded(start_router: Callable[..., RealRouter], use: Use) -> None:
    """A sleeping model stays asleep while it is looked at, and counts as resident."""
    router = start_router(sleep_idle_s=1)
    assert use(router.url, lambda client: client.load("plain")).ok
    assert use(router.url, lambda client: client.wait("plain", state="sleeping", timeout_s=20)).ok
    assert "sleeping" in corral("--url", router.url, "ps").stdout
    assert statuses(router)["plain"] == "sleeping"
    report = use(router.url, lambda client: client.unload_all())
    assert report.ok and [outcome.model for outcome in report.outcomes] == ["plain"]


def test_key(start_router: Callable[..., RealRouter], use: Use) -> None:
    """A protected router refuses without the key and obeys with it, from the library and the command."""
    router = start_router(api_key="sesame")
    if BUILD >= 10490:
        with pytest.raises(AuthError):
            use(router.url, lambda client: client.load("plain"), api_key="wrong")
    else:
        # These builds show their list to anybody, and refuse only what would change something.
        assert use(router.url, lambda client: client.load("plain"), api_key="wrong").outcomes[0].outcome == "denied"
    assert use(router.url, lambda client: client.load("plain"), api_key="sesame").ok
    refused = corral("--url", router.url, "load", "busy", env={"HOME": os.devnull})
    assert refused.returncode == 9 and "sesame" not in refused.stdout + refused.stderr
    environ = {"HOME": os.devnull, "LLAMA_SERVER_URL": router.url, "LLAMA_API_KEY": "sesame"}
    done = corral("unload", "--all", env=environ)
    assert done.returncode == 0 and statuses(router)["plain"] == "unloaded"


def test_prefix_and_unix_socket(start_router: Callable[..., RealRouter], use: Use, tmp_path: Path) -> None:
    """A router under a path prefix, and one on a unix socket, are operated like any other."""
    prefixed = start_router(api_prefix="/llm")
    assert use(prefixed.url, lambda client: client.load("plain")).ok
    assert use(prefixed.url, lambda client: client.unload_all()).ok
    path = tmp_path / "router.sock"
    start_router(unix_socket=str(path))
    assert use(f"unix://{path}", lambda client: client.load("plain")).ok
    assert use(f"unix://{path}", lambda client: client.unload_all()).ok


def test_single_model_server(llama_server_binary: str, model_files: ModelFiles, use: Use) -> None:
    """A llama-server with one model is told apart, while it loads or after."""
    from corral.sim.launch import pick_free_port

    port = pick_free_port()
    command = [llama_server_binary, "-m", str(model_files.quick), "--port", str(port), "-c", "256", "--no-webui"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while chat(f"http://127.0.0.1:{port}", "any", 1) == b"" and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(NotARouterError) as caught:
            use(f"http://127.0.0.1:{port}", lambda client: client.list_models())
        assert caught.value.found in ("single", "starting")
    finally:
        process.kill()
        process.wait()


def test_event_stream(live_router: RealRouter, use: Use) -> None:
    """What happens is heard as it happens; a build without a stream says so."""
    heard: list[tuple[str, str | None]] = []
    with Router(live_router.url) as router:

        def on_state(_: object) -> None:
            with Router(live_router.url) as other:
                other.load("plain", wait=False)

        try:
            for event in router.follow(on_state, time.monotonic() + 20):
                heard.append((event.model, event.status))
                if event.status == "loaded":
                    break
        except RefusedError:
            assert not HAS_EVENTS
    if HAS_EVENTS:
        assert heard[0] == ("plain", "loading") and heard[-1] == ("plain", "loaded")


def test_two_operators_at_once(live_router: RealRouter) -> None:
    """Two unloads of the same models both end well."""
    with Router(live_router.url) as router:
        assert router.load(*QUICK).ok
    command = [sys.executable, "-m", "corral", "--url", live_router.url, "unload", "--all"]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said


def wait_for_end(router: Router, child: Model) -> None:
    """Return when this child of a model has ended, though a request that came late may have brought the next."""
    deadline = time.monotonic() + 20
    while (model := router.list_models().find(child.id)) is not None and model.port == child.port:
        if not model.is_resident:
            return
        assert time.monotonic() < deadline, "the child goes on"
        time.sleep(0.05)


def test_interrupted_unload_says_what_was_done(live_router: RealRouter) -> None:
    """Ctrl-C while a busy model stops: exit 130, and the model is said to have been asked for."""
    with busy(live_router.url, "busy"), Router(live_router.url) as router:
        child = router.list_models().find("busy")
        command = [sys.executable, "-m", "corral", "--url", live_router.url, "unload", "busy", "--now"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None and child is not None
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert "Unloading busy" in first and "Traceback" not in said
        if process.returncode == 0:
            assert not HAS_EVENTS, "before, the stop-timeout was not kept: the unload may be over when the signal comes"
        elif "1 not asked for" in said:
            assert process.returncode == 130 and statuses(live_router)["busy"] == "loaded"
        else:
            assert process.returncode == 130 and "1 asked for" in said
            wait_for_end(router, child)


def test_router_that_dies_meanwhile(start_router: Callable[..., RealRouter]) -> None:
    """A router killed while a model stops: exit 3, the address named, no traceback."""
    router = start_router()
    with busy(router.url, "busy"):
        command = [sys.executable, "-m", "corral", "--url", router.url, "unload", "busy", "--now"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        process.stderr.readline()
        assert router.process is not None
        router.process.kill()
        _, said = process.communicate(timeout=60)
    if HAS_EVENTS:
        assert process.returncode == 3 and router.url in said and "Traceback" not in said


def test_shell_recipe(start_router: Callable[..., RealRouter]) -> None:
    """The recipe for boxes without Python asks for every loaded model, odd ids and key included."""
    router = start_router(api_key="sesame")
    with Router(router.url, api_key="sesame") as client:
        assert client.load(*QUICK).ok
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LLAMA_API_KEY": "sesame"}
        command = ["sh", str(RECIPE), router.url]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "sesame" not in done.stdout + done.stderr
        assert client.wait(*QUICK, state="unloaded", timeout_s=20).ok
