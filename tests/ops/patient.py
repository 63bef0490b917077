"""Facts for tests of the diagnosis: a healthy router on a well-kept machine, but for what a test says."""

from __future__ import annotations

from typing import Any

from corral.ops.diagnosis import LEVELS, ROUTER, Answer, Facts, Finding, Folder, Host, Surroundings, diagnose
from corral.ops.measurement import Child, Measurement, Process
from corral.wire import CorralError, Listing, Model, read_model
from corral.wire.probes import PageAccess
from corral.wire.props import Props

NOW = 1795600000.0
URL = "http://127.0.0.1:8080"
GIB = 1 << 30
KEYLESS = {"key_needed": False, "key_accepted": None, "is_list_public": True}
PAGE_READS = KEYLESS | {"as_page": PageAccess(200, True, False)}
ODD = "\x1b[31m\u202eodd\n" + "x" * 500


def model(model_id: str, *args: str, status: str = "unloaded", **inner: Any) -> Model:
    """A model of a current build, with further arguments of its child."""
    words = ["llama-server", "--port", "5000", "--model", f"/models/{model_id}.gguf", *args]
    read = read_model({"id": model_id, "aliases": [], "status": {"value": status, "args": words, **inner}})
    assert read is not None
    return read


def props(**fields: Any) -> Props:
    """What a current router says of itself."""
    values: dict[str, Any] = {
        "role": "router",
        "build_info": "b11434-51e0a2b",
        "build": 11434,
        "autoload": True,
        "models_max": 4,
    }
    return Props(**(values | {"model_path": "none", "raw": {}} | fields))


def answer(*models: Model, **fields: Any) -> Answer:
    """A healthy, keyed answer, but for the fields."""
    values: dict[str, Any] = {
        "found": ROUTER,
        "server": "llama.cpp",
        "seconds": 0.004,
        "key_needed": True,
        "key_accepted": True,
        "is_list_public": False,
        "listing": Listing(models or (model("a", status="loaded"), model("b")), True),
        "props": props(),
        "as_page": PageAccess(401, True, False),
        "preflight": PageAccess(200, True, True),
        "clock_ahead_s": 0.3,
    }
    return Answer(**(values | fields))


def failed(found: str, error: CorralError, **fields: Any) -> Answer:
    """What is known of something that is no router one may use."""
    return Answer(found, error, **fields)


def here(**fields: Any) -> Surroundings:
    """A well-kept machine, but for the fields."""
    values: dict[str, Any] = {
        "corral": "0.1.0",
        "python": "3.11.7",
        "url_from": "CORRAL_URL",
        "key_from": "CORRAL_API_KEY",
        "now": NOW,
        "is_clock_synchronised": True,
        "state": Folder("/home/op/.local/state/corral", True, True, 0o700),
    }
    return Surroundings(**(values | fields))


def child(name: str, **fields: Any) -> Child:
    """A measured child."""
    values: dict[str, Any] = {"in_flight": 0, "host_bytes": GIB, "devices": ()}
    return Child(name, Process(10, 1, "llama-server"), 5000, **(values | fields))


def host(*children: Child, **fields: Any) -> Host:
    """What the router's machine says; None stays for what is not given."""
    inner = {key: fields.pop(key) for key in ("devices", "host", "reason") if key in fields}
    return Host(Measurement(children, router=Process(9, 1, "llama-server"), **inner), **fields)


def facts(given: Answer | None = None, **fields: Any) -> Facts:
    """Facts of a healthy router, but for what is given."""
    values: dict[str, Any] = {"url": URL, "is_loopback": True, "is_plain": True, "here": here()}
    return Facts(answer=given if given is not None else answer(), **(values | fields))


def find(found: tuple[Finding, ...], check: str) -> list[Finding]:
    """The lines of one check."""
    return [finding for finding in found if finding.check == check]


Row = tuple[Facts, str, str, str, str]
"""Facts, the check, its level, words in what was seen, words in what to do."""


def check_row(row: Row) -> None:
    """One line of the check, at this level, with these words, and a next step where something is amiss."""
    given, check, level, seen, do = row
    lines = find(diagnose(given), check)

    assert [level] == [line.level for line in lines], lines
    assert seen in lines[0].seen
    assert do in lines[0].do
    assert bool(lines[0].do) or level == "ok", "a warning or failure names the next step"


def check_sentences(row: Row) -> None:
    """Whatever the facts, each line has a known level and whole, printable sentences."""
    for line in diagnose(row[0]):
        assert line.level in LEVELS
        assert line.seen.isprintable() and line.do.isprintable()
        assert line.seen.endswith(".") and "None" not in line.seen
