"""ps with what the machine shows, and the marks of what is promised: as text, wide, and as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import corral
from corral.client import identify
from corral.faces.cli.console import Console
from corral.faces.cli.marks import Held, Marks
from corral.faces.cli.residents import Residents, show_device
from corral.ledger import Ledger, read_moment
from corral.machine import read_process
from corral.ops.measurement import Child, Device, DeviceUse, Holder, HostMemory, Measurement, Process
from corral.ops.promises import Actor, Hold, Moment, Owner, RouterKey
from corral.wire import Model, read_model
from tests.faces.kit import RawRouter, Result

Cli = Callable[..., Result]
GIB = 1 << 30
MEMORY = HostMemory(64 * GIB, 48 * GIB, 8 * GIB)
BLENDER = Holder(Process(77, 1, "blender"), 3 * GIB)
GPU = Device("nvidia:0", "NVIDIA One", 24 * GIB, 18 * GIB, 6 * GIB, (BLENDER, Holder(Process(1, 1), 9 * GIB, "a")))


def model(name: str, status: str = "loaded", *args: str, **fields: Any) -> Model:
    """A model as the list shows it."""
    read = read_model({"id": name, "status": {"value": status, "args": ["--port", "5000", *args]}, **fields})
    assert read is not None
    return read


def child(name: str = "a", **fields: Any) -> Child:
    """A child that holds nine GiB on the card and one on the host."""
    values: dict[str, Any] = {"in_flight": 0, "host_bytes": GIB, "cache_bytes": 2 * GIB}
    values["devices"] = (DeviceUse(GPU.id, 9 * GIB),)
    return Child(name, Process(4711, 1), 5000, **(values | fields))


def measured(*children: Child, **fields: Any) -> Measurement:
    """A look at a machine with one card."""
    values: dict[str, Any] = {"devices": (GPU,), "host": MEMORY, "router": Process(9, 1, "llama-server")}
    return Measurement(children, **(values | fields))


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Shows residents as text, line by line."""

    def run(*models: Model, found: Measurement, marks: Marks | None = None, wide: bool = False) -> list[str]:
        console = Console()
        Residents(models, found, marks or Marks()).print_text(console, wide=wide)
        console.flush()
        return capsys.readouterr().out.splitlines()

    return run


@pytest.fixture
def describe(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Shows residents as a document."""

    def run(*models: Model, found: Measurement, marks: Marks | None = None) -> dict[str, Any]:
        console = Console()
        Residents(models, found, marks or Marks()).print_json("http://x", console)
        console.flush()
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return document

    return run


def cells(line: str) -> list[str]:
    """A row's cells; columns are three spaces apart."""
    return [cell.strip() for cell in line.split("   ") if cell.strip()]


# Text.


def test_memory_and_requests(show: Callable[..., list[str]]) -> None:
    """Each model has its memory and its requests in flight, each device what is used and free and who else uses it."""
    lines = show(model("a"), model("b", "sleeping"), found=measured(child(), child("b", in_flight=2, host_bytes=0)))

    assert lines == [
        "NAME   STATE      MEMORY     BUSY",
        "a      loaded     10.0 GiB   0",
        "b      sleeping   9.0 GiB    2",
        "GPU 0 NVIDIA One: 18.0 of 24.0 GiB used, 6.0 GiB free; others: blender (pid 77) 3.0 GiB",
    ]


def test_machine_without_a_device(show: Callable[..., list[str]]) -> None:
    """Where there is no card, one line tells of the machine's memory."""
    assert show(model("a"), found=measured(child(devices=()), devices=()))[1:] == [
        "a      loaded   1.0 GiB   0",
        "host memory: 16.0 of 64.0 GiB used, 48.0 GiB free",
    ]


def test_wide_takes_it_apart(show: Callable[..., list[str]]) -> None:
    """-o wide has device, host and cache apart, how long idle, process, port, names, and the host's line too."""
    asleep = model("b", "sleeping", "--sleep-idle-seconds", "900", aliases=["bee"], tags=["t"])
    lines = show(model("a"), asleep, found=measured(child(last_active_s=12.3), child("b")), wide=True)

    assert lines[0].split() == [
        "NAME",
        "STATE",
        "DEVICE",
        "HOST",
        "CACHE",
        "BUSY",
        "IDLE",
        "PID",
        "PORT",
        "ALIASES",
        "TAGS",
    ]
    assert cells(lines[1])[2:] == ["9.0 GiB", "1.0 GiB", "2.0 GiB", "0", "12s", "4711", "5000", "-", "-"]
    assert cells(lines[2])[6] == ">15m" and cells(lines[2])[-2:] == ["bee", "t"]
    assert lines[-1].startswith("host memory: ")


def test_what_is_not_visible_is_a_dash(show: Callable[..., list[str]]) -> None:
    """Elsewhere there are dashes and no devices; -o wide says why."""
    blind = Measurement((), reason="gpu-box:8080 is another machine")
    usual, wide = show(model("a"), found=blind), show(model("a"), found=blind, wide=True)

    assert usual == ["NAME   STATE    MEMORY   BUSY", "a      loaded   -        -"]
    assert wide[1].split() == ["a", "loaded", "-", "-", "-", "-", "-", "-", "5000", "-", "-"]
    assert wide[2:] == ["Memory and requests in flight are not visible: gpu-box:8080 is another machine."]


PARTLY = {
    "device": (child(devices=None, reasons=("no rights",)), ">1.0 GiB", "no rights"),
    "amount": (child(devices=(DeviceUse(GPU.id, None),), reasons=("WSL",)), ">1.0 GiB", "WSL"),
    "host": (child(host_bytes=None, reasons=("another user",)), ">9.0 GiB", "another user"),
    "all": (child(host_bytes=None, devices=None, in_flight=None, reasons=("a", "b")), "-", "a; b"),
}


@pytest.mark.parametrize("case", PARTLY)
def test_part_of_the_memory(show: Callable[..., list[str]], case: str) -> None:
    """Of memory that is seen in part, the part is told as such, and the rest is a dash with its reason."""
    one, memory, note = PARTLY[case]
    usual, wide = show(model("a"), found=measured(one)), show(model("a"), found=measured(one), wide=True)

    assert cells(usual[1])[2] == memory
    assert wide[0].endswith("NOTES") and wide[1].endswith(note) and "-" in cells(wide[1])[2:4]


def test_model_whose_process_is_not_seen(show: Callable[..., list[str]]) -> None:
    """A resident model without a process in sight has dashes, and wide says that."""
    assert show(model("a"), found=measured(), wide=True)[1].endswith("its process is not seen")


def test_hidden_child_is_shown(show: Callable[..., list[str]], describe: Callable[..., dict[str, Any]]) -> None:
    """A child that the router's list hides is shown and marked, though the list tells no state of it."""
    found = measured(child(), child("cached", is_hidden=True))
    lines, row = show(model("a"), found=found), describe(model("a"), found=found)["models"][1]
    wide = show(model("a"), found=found, wide=True)

    assert lines[2].split() == ["cached", "-", "10.0", "GiB", "0", "HIDDEN"]
    assert "HIDDEN" in wide[2] and "4711" in wide[2]
    assert (row["id"], row["status"], row["hidden"], row["resident"], row["host_bytes"]) == (
        "cached",
        None,
        True,
        True,
        GIB,
    )


DEVICES = {
    "nobody else": (Device("d", "Card", GIB, 0, GIB, ()), "Card: 0 B of 1.0 GiB used, 1.0 GiB free"),
    "use not told": (Device("d", "Card", GIB, None, None, (BLENDER,), "why"), "Card: - of 1.0 GiB used, - free"),
    "nothing told": (Device("d", "Card", None, None, None, None, "why"), "Card: - used, - free"),
    "control codes": (Device("d", "\x1b[31mCard", None, None, None, None), "\\e[31mCard: - used, - free"),
}


@pytest.mark.parametrize("case", DEVICES)
def test_device_lines(case: str) -> None:
    """What a device does not tell is a dash; wide gives the reason."""
    device, line = DEVICES[case]

    assert show_device(device, wide=False).partition("; others: ")[0] == line
    assert ("(why)" in show_device(device, wide=True)) == bool(device.reason)


def test_many_others_are_counted() -> None:
    """Of many who use a device, the largest are named and the others counted."""
    games = [Holder(Process(pid, 1, "game"), pid * GIB) for pid in range(1, 8)]
    holders = (*games, Holder(Process(99, 1), None))
    line = show_device(Device("d", "Card", 64 * GIB, 32 * GIB, 32 * GIB, holders), wide=False)

    assert line.endswith(
        "others: game (pid 7) 7.0 GiB, game (pid 6) 6.0 GiB, game (pid 5) 5.0 GiB, game (pid 4) 4.0 GiB, 4 more"
    )


# Documents.


def test_document_has_it_all(describe: Callable[..., dict[str, Any]]) -> None:
    """As JSON each model has its process, memory by kind and device, and requests; each device its holders."""
    document = describe(model("a"), found=measured(child(in_flight=1, last_active_s=0.0)))
    row, device = document["models"][0], document["devices"][0]

    assert (row["pid"], row["in_flight"], row["last_active_s"], row["idle_s"]) == (4711, 1, 0.0, 0.0)
    assert (row["memory_bytes"], row["device_bytes"], row["host_bytes"], row["cache_bytes"]) == (
        10 * GIB,
        9 * GIB,
        GIB,
        2 * GIB,
    )
    assert row["memory_by_device"] == [{"id": "nvidia:0", "used_bytes": 9 * GIB}]
    assert (row["pinned"], row["held"], row["hidden"], row["reasons"]) == (False, False, False, [])
    assert {"pid": 77, "name": "blender", "used_bytes": 3 * GIB, "model": None} in device["holders"]
    assert (device["index"], device["free_bytes"]) == (0, 6 * GIB)
    assert document["host"] == {"total_bytes": 64 * GIB, "used_bytes": 16 * GIB, "free_bytes": 48 * GIB}
    assert (document["visible"], document["router_pid"], document["ok"]) == (True, 9, True)


def test_blind_document_has_nulls(describe: Callable[..., dict[str, Any]]) -> None:
    """What is not visible is null, and the reason is told; nothing is 0."""
    document = describe(model("a"), found=Measurement((), reason="elsewhere"))
    row = document["models"][0]

    assert (document["visible"], document["reason"], document["devices"], document["host"]) == (
        False,
        "elsewhere",
        [],
        None,
    )
    assert all(row[key] is None for key in ("pid", "in_flight", "memory_bytes", "host_bytes", "memory_by_device"))


# Marks.


def held(*models: str, enforced: bool | None = True) -> Held:
    """A hold in force."""
    moment = Moment(0.0)
    hold = Hold("h1", RouterKey("k", "l"), models or None, Owner("ann", "box"), moment, 60.0)
    return Held(hold, enforced, 60.0)


def test_marks(show: Callable[..., list[str]]) -> None:
    """What is pinned and held is marked; a hold whose enforcer is gone says so."""
    marks = Marks(frozenset({"a", "b"}), (held("b"), held("c", enforced=False), held("d", enforced=None)))
    names = ("a", "b", "c", "d", "e")
    lines = show(*map(model, names), found=measured(*map(child, names)), marks=marks)

    assert lines[0].endswith("MARKS")
    assert [line.partition("   0 ")[2].strip() for line in lines[1:6]] == [
        "PINNED",
        "PINNED, HELD",
        "HELD (not enforced)",
        "HELD (elsewhere)",
        "",
    ]


def test_marks_of_what_is_not_known() -> None:
    """Of a ledger that cannot be read, nothing is claimed."""
    assert set(Marks(None).describe("a").values()) == {None} and Marks(None).show("a") == ""


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """The ledger of the commands."""
    monkeypatch.setenv("USER", "ann")
    with Ledger.open(str(tmp_path / ".local" / "state" / "corral")) as opened:
        yield opened


def test_ls_and_ps_show_marks(cli: Cli, router: RawRouter, ledger: Ledger) -> None:
    """Pins and holds of this router stand beside its models, in ls and ps, as text and as JSON; others' do not."""
    key, now, owner = identify(os.environ["CORRAL_URL"]), read_moment(), Owner("ann", "box")
    process = read_process(os.getpid())
    assert process is not None
    cli("pin", "alpha")
    ledger.holds.add(
        key, ("gamma", "beta"), owner=owner, duration_s=60.0, now=now, enforcer=Actor(process, now.boot_id)
    )
    ledger.pins.add(RouterKey("http://10.0.0.1:1", "http://other:1"), ["beta"], owner=owner, wall=0.0)
    listed, resident = cli("ls"), cli("ps")
    rows = {row["id"]: row for row in json.loads(cli("ls", "--json").out)["models"]}

    marks = {line.split()[0]: line.split()[2:] for line in listed.out.splitlines()[1:]}
    assert marks == {"alpha": ["PINNED"], "beta": ["HELD"], "gamma": ["HELD"]}
    assert "PINNED" in resident.out and "HELD" in resident.out
    assert [rows[name]["pinned"] for name in ("alpha", "beta")] == [True, False]
    assert (rows["beta"]["held"], rows["beta"]["hold"], rows["beta"]["hold_enforced"]) == (True, "h1", True)


def test_ledger_that_cannot_be_read_hides_nothing(cli: Cli, router: RawRouter, tmp_path: Path) -> None:
    """A damaged ledger is told, and the list is shown all the same, with nothing claimed of pins."""
    folder = tmp_path / ".local" / "state" / "corral"
    folder.mkdir(parents=True)
    (folder / "ledger.db").write_bytes(b"no database at all" * 100)
    result = cli("ls")

    assert 0 == result.code and "alpha" in result.out and "MARKS" not in result.out
    assert "What is pinned or held is not known" in result.err
    assert json.loads(cli("ls", "--json").out)["models"][0]["pinned"] is None
    assert "alpha\nbeta\ngamma\n" == cli("ls", "-q").out


@pytest.mark.parametrize(("name", "denied"), [("ls", {"sqlite3", "corral.machine"}), ("ps", {"sqlite3"})])
def test_marks_cost_nothing_where_nothing_is_promised(router: RawRouter, name: str, denied: set[str]) -> None:
    """Without a ledger ls imports neither database nor machine, and ps no database."""
    code = "import sys; from corral.faces.cli import main; assert main(sys.argv[1:]) == 0; print(*sys.modules)"
    environ = dict(os.environ) | {"PYTHONPATH": str(Path(corral.__file__).parent.parent)}
    command = [sys.executable, "-S", "-c", code, name]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=True)

    assert not denied & set(done.stdout.split())
