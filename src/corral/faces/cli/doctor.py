"""``corral doctor``: the troubleshooting page as a command. Changes nothing, loads nothing, wakes nothing."""

from __future__ import annotations

import time
from json import dumps
from os import environ

from corral.client.examination import Examination
from corral.client.settings import Timeouts
from corral.client.target import DEFAULT_URL, parse_url
from corral.config import Config, Flags, load_config
from corral.faces.cli.columns import format_rows
from corral.faces.cli.documents import begin_document
from corral.faces.cli.exits import DONE, FAILED, code_of_error
from corral.faces.cli.here import look_around
from corral.faces.cli.host import list_others, look_at_host
from corral.faces.cli.options import Spec, tell_timeout
from corral.machine import Machine
from corral.ops.diagnosis import FAIL, LEVELS, OK, WARN, Facts, Finding, diagnose

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from typing import Any

    from corral.faces.cli.console import Console

SPEC = Spec(
    "[options]",
    tell_timeout("60s; it counts for each question alone"),
    epilog="Each line is ok, warn (works, but look at it) or fail, what was seen, and what to do. Where no router\n"
    "answers, the likely ports and prefixes of that host are asked too. -q leaves out what is ok.\n"
    "Exit 0 when nothing failed, 3 when no router answers, 9 when the API key is missing or wrong, else 1.",
    lists=("findings",),
)


def run(args: Namespace, console: Console) -> int:
    """Look at everything once and tell."""
    facts = collect_facts(args, console)
    findings = diagnose(facts)
    code = judge(facts, findings)
    if args.json:
        console.line(dumps(describe(facts, findings, code)))
    else:
        print_findings(findings, facts.url, console)
    return code


def collect_facts(args: Namespace, console: Console) -> Facts:
    """Look at the router, its machine and here; raises BadArgumentError for settings that cannot be used."""
    config = load_config(Flags(args.url, args.api_key_file, args.ca_file), environ)
    target = parse_url(config.url or DEFAULT_URL)
    console.status(f"Looking at {target.label}")
    began_at, began = time.time(), time.monotonic()
    answer = Examination(
        target,
        key=config.api_key,
        ca_file=config.ca_file,
        timeouts=_find_timeouts(args, config),
        clock=time.time,
        find_others=lambda: list_others(target),
        key_elsewhere=config.key_elsewhere,
    ).run()
    now = time.time()
    jumped_s = (now - began_at) - (time.monotonic() - began)
    machine = Machine.for_router(target.host, target.port, target.socket_path)
    find_living = machine.find_living
    here = look_around(args, config, environ, now=now, jumped_s=jumped_s, target=target, find_living=find_living)
    host = look_at_host(machine, target, answer.listing)
    return Facts(target.label, target.is_loopback, target.scheme == "http", answer, here, host)


def judge(facts: Facts, findings: Sequence[Finding]) -> int:
    """The exit code: what keeps every command from working has its own."""
    if facts.answer.error is not None:
        return code_of_error(facts.answer.error)
    return FAILED if any(finding.level == FAIL for finding in findings) else DONE


def print_findings(findings: Sequence[Finding], url: str, console: Console) -> None:
    """One line a finding, then the sum; when quiet, only what is not ok."""
    shown = [finding for finding in findings if not (console.quiet and finding.level == OK)]
    rows = [(finding.level, finding.check, f"{finding.seen} {finding.do}".rstrip()) for finding in shown]
    for line in format_rows(rows):
        console.line(line)
    if not console.quiet:
        console.line(f"{url}: {_tell_sum(findings)}.")


def describe(facts: Facts, findings: Sequence[Finding], code: int) -> dict[str, Any]:
    """The diagnosis for ``--json``."""
    counts = _count(findings)
    document = begin_document(code, facts.url) | {
        "found": facts.answer.found,
        "counts": counts,
        "findings": [{"check": f.check, "level": f.level, "seen": f.seen, "do": f.do} for f in findings],
    }
    if facts.answer.error is not None:
        from corral.faces.cli.words import describe_error

        document["error"] = describe_error(facts.answer.error)
    return document


def _count(findings: Sequence[Finding]) -> dict[str, int]:
    return {level: sum(finding.level == level for finding in findings) for level in LEVELS}


def _tell_sum(findings: Sequence[Finding]) -> str:
    counts = _count(findings)
    warnings = f"{counts[WARN] or 'no'} warning{'' if counts[WARN] == 1 else 's'}"
    failed = f"{counts[FAIL]} failed" if counts[FAIL] else "nothing failed"
    return f"{counts[OK]} ok, {warnings}, {failed}"


def _find_timeouts(args: Namespace, config: Config) -> Timeouts:
    """Limits of each question; ``--timeout`` bounds each of them, since there are only a few."""
    usual = Timeouts()
    limits = (
        args.connect_timeout or config.connect_timeout_s or usual.connect_s,
        args.read_timeout or config.read_timeout_s or usual.read_s,
        args.timeout or usual.total_s,
    )
    if args.timeout is None:
        return Timeouts(*limits)
    return Timeouts(*(min(limit, args.timeout) for limit in limits if limit is not None))
