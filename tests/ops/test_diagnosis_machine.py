"""The diagnosis of a machine and of Corral's own surroundings: for each set of facts its line."""

from __future__ import annotations

import pytest

from corral.ops.diagnosis import CHECKS, Folder, Kept, KeptFile, diagnose
from corral.ops.measurement import Device, Holder, HostMemory, Orphan, Peer, Process
from tests.ops.patient import (
    GIB,
    ODD,
    PAGE_READS,
    Row,
    answer,
    check_row,
    check_sentences,
    child,
    facts,
    here,
    host,
    model,
    props,
)
from tests.ops.test_diagnosis import TABLE as ROUTER_TABLE

TABLE: dict[str, Row] = {
    "loopback only": (facts(host=host(addresses=("127.0.0.1",))), "network", "ok", "only this machine", ""),
    "key on the command line": (facts(host=host(shows_key=True)), "arguments", "warn", "stands on", "--api-key-file"),
    "open to all": (
        facts(answer(**PAGE_READS), host=host(addresses=("0.0.0.0",))),
        "network",
        "warn",
        "listens on 0.0.0.0 and asks for no key",
        "--host 127.0.0.1",
    ),
    "keyed to all": (facts(host=host(addresses=("::",))), "network", "ok", "listens on :: and wants a key", ""),
    "key in the clear": (facts(is_loopback=False), "network", "warn", "without TLS", "SSH tunnel"),
    "key in TLS": (facts(is_loopback=False, is_plain=False), "network", "ok", "wants a key", ""),
    "remote without key": (facts(answer(**PAGE_READS), is_loopback=False), "network", "warn", "no key", "--api-key"),
    "memory seen": (
        facts(host=host(child("a"), host=HostMemory(64 * GIB, 32 * GIB, GIB))),
        "memory",
        "ok",
        "1 model, 1.0 GiB; the machine has 32.0 GiB of 64.0 GiB available",
        "",
    ),
    "no memory": (facts(host=host()), "memory", "ok", "No model is resident", ""),
    "memory unseen": (
        facts(host=host(reason="it runs elsewhere")),
        "memory",
        "warn",
        "it runs elsewhere",
        "own machine",
    ),
    "memory in part": (
        facts(host=host(child("a", host_bytes=None, devices=None, reasons=("not permitted",)))),
        "memory",
        "warn",
        "a cannot be seen: not permitted",
        "as root",
    ),
    "hidden child": (facts(host=host(child("h", is_hidden=True))), "hidden", "warn", "h holds memory", "--all"),
    "no device": (facts(host=host()), "device", "ok", "No device with memory of its own", ""),
    "device": (
        facts(
            host=host(
                devices=(
                    Device(
                        "nvidia:0",
                        "RTX",
                        24 * GIB,
                        20 * GIB,
                        4 * GIB,
                        (Holder(Process(3, 1, "blender"), GIB), Holder(Process(10, 1, "llama-server"), 18 * GIB, "a")),
                    ),
                )
            )
        ),
        "device",
        "ok",
        "RTX (nvidia:0): 4.0 GiB of 24.0 GiB free; used by a 18.0 GiB, blender 1.0 GiB.",
        "",
    ),
    "device in part": (
        facts(host=host(devices=(Device("d", "n", GIB, None, None, None, "no permission"),))),
        "device",
        "warn",
        "an unknown amount of 1.0 GiB free. no permission.",
        "Troubleshooting",
    ),
    "no orphans": (facts(host=host(orphans=())), "orphans", "ok", "No model process", ""),
    "orphans": (
        facts(host=host(orphans=(Orphan(Process(66, 1), "a", 5000, 8080, GIB, ()),))),
        "orphans",
        "warn",
        "1 model process outlived the router, holding 1.0 GiB: a (pid 66)",
        "corral orphans --kill",
    ),
    "clock": (facts(), "clock", "ok", "agrees with the router's", ""),
    "clock of 1970": (facts(here=here(now=60.0)), "clock", "warn", "before December 2025", "Set the clock"),
    "clock that jumps": (
        facts(here=here(clock_jumped_s=-3600.0)),
        "clock",
        "warn",
        "jumped by 60 min",
        "Set the clock",
    ),
    "clocks apart": (facts(answer(clock_ahead_s=-90.0)), "clock", "warn", "90 s behind", "Set the wrong one"),
    "clock never set": (facts(here=here(is_clock_synchronised=False)), "clock", "warn", "not set", "time service"),
    "state": (facts(), "state", "ok", "can be written", ""),
    "state to be made": (facts(here=here(state=Folder("/s", False, True))), "state", "ok", "first needed", ""),
    "state unwritable": (
        facts(here=here(state=Folder("/s", True, False, 0o500))),
        "state",
        "warn",
        "cannot be written",
        "CORRAL_STATE_DIR",
    ),
    "state open": (
        facts(here=here(state=Folder("/s", True, True, 0o777))),
        "state",
        "warn",
        "other users",
        "chmod go-w",
    ),
    "state damaged": (
        facts(here=here(state=Folder("/s", True, True, 0o700, problem="It is damaged.", cure="Move it."))),
        "state",
        "warn",
        "It is damaged.",
        "Move it.",
    ),
    "state on NFS": (
        facts(here=here(state=Folder("/s", True, True, 0o700, is_network=True))),
        "state",
        "warn",
        "network file system",
        "CORRAL_STATE_DIR",
    ),
    "holds": (facts(here=here(kept=Kept(2))), "holds", "ok", "2 holds in force", "corral holds"),
    "hold without a guard": (
        facts(here=here(kept=Kept(2, ("h1",)))),
        "holds",
        "warn",
        "any more: h1",
        "release",
    ),
    "run left behind": (facts(here=here(kept=Kept(0, (), ("r1",)))), "runs", "warn", "1 run ended", "corral recover"),
    "no state": (facts(here=here(state=Folder(None))), "state", "warn", "no place", "CORRAL_STATE_DIR"),
    "key file": (facts(here=here(key_files=(KeptFile("/k", "key file", 0o600),))), "key file", "ok", "owner alone", ""),
    "key file open": (
        facts(here=here(key_files=(KeptFile("/k", "key file", 0o644),))),
        "key file",
        "warn",
        "other users",
        "chmod 600 /k",
    ),
    "versions": (facts(), "corral", "ok", "Corral 0.1.0 on Python 3.11.7", ""),
}


@pytest.mark.parametrize("name", TABLE)
def test_each_fact_has_its_line(name: str) -> None:
    """What was seen is said at the right level, with the next step where there is one."""
    check_row(TABLE[name])


@pytest.mark.parametrize("name", TABLE)
def test_every_line_is_a_sentence_that_is_safe_to_print(name: str) -> None:
    """Whatever the facts, each line has a known level and whole, printable sentences."""
    check_sentences(TABLE[name])


def test_names_are_untrusted() -> None:
    """Ids, process names, reasons and servers from outside reach no line unescaped, and none swamps it."""
    lost = model(ODD, failed=True, exit_code=3)
    strange = host(
        child(ODD, host_bytes=None, devices=None, reasons=(ODD,), is_hidden=True),
        peers=(Peer(ODD, 1), Peer("::1", 1, Process(5, 1, ODD))),
        orphans=(Orphan(Process(6, 1, ODD), ODD, 1, None),),
        addresses=(ODD,),
        devices=(Device(ODD, ODD, 1, 1, 1, (Holder(Process(7, 1, ODD), 1),), ODD),),
    )
    lines = diagnose(facts(answer(lost, server=ODD, props=props(build_info=ODD, build=None)), host=strange))

    assert all(line.seen.isprintable() for line in lines)
    assert max(len(line.seen) for line in lines) < 2000


def test_healthy_router_has_nothing_to_warn_of() -> None:
    """A keyed router of today, all visible, gets no warning at all."""
    seen = host(child("a"), addresses=("127.0.0.1",), peers=(), orphans=(), waiting_s=(), loading_s={})

    assert {"ok"} == {line.level for line in diagnose(facts(host=seen))}


def test_table_reaches_every_check() -> None:
    """Each check has a row in one of the two tables, so a new one cannot be forgotten."""
    silent = [check for check in CHECKS if not any(list(check(row[0])) for row in (ROUTER_TABLE | TABLE).values())]

    assert not silent
