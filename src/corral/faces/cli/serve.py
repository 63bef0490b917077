"""``corral serve``: stand in front of a router, so that nothing is cut and nothing held is loaded."""

from __future__ import annotations

from json import dumps
from os import environ

from corral.faces.cli.documents import begin_document
from corral.faces.cli.exits import DONE, FAILED, code_of_error
from corral.faces.cli.options import API_KEY_FILE, CA_FILE, HELP, JSON, QUIET, Option, Spec
from corral.wire import BadArgumentError, CorralError, UnreachableError, escape_controls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from corral.faces.cli.console import Console
    from corral.gateway.server import Gateway
    from corral.gateway.settings import Mount, Settings

_LEAST_AIOHTTP = (3, 14, 5)
"""As in pyproject.toml."""
_ALLOCATIONS = 10_000
"""So many more objects than before are made between two searches for garbage."""

SPEC = Spec(
    "--router URL [--listen ADDRESS] [options]",
    (
        Option(
            ("--listen",), "where clients come in (default 127.0.0.1:8080); may be given again", "ADDRESS", many=True
        ),
        Option(("--router",), "the router behind it, such as http://127.0.0.1:8081", "URL"),
        Option(("--client-keys-file",), "file with the keys of clients, one 'label key' a line", "FILE"),
        Option(API_KEY_FILE.flags, "file that holds the router's API key", "FILE"),
        CA_FILE,
        Option(("--check",), "say whether it would run with these settings, and do nothing"),
        JSON,
        QUIET,
        HELP,
    ),
    epilog="Clients keep their URL: the gateway listens there, and the router moves one port on. The settings are in\n"
    "the table [serve] of the configuration; docs/gateway.md lists them. Ctrl-C or SIGTERM lets answers that are\n"
    "under way end for 30 s; once more cuts them.",
    lists=("listening", "routers"),
)


def run(args: Namespace, console: Console) -> int:
    """Serve until told to stop; or check only."""
    _require_aiohttp()
    from corral.config import load_table
    from corral.gateway.reading import ServeFlags, read_settings

    table, path = load_table("serve", environ)
    flags = ServeFlags(tuple(args.listen), args.router, args.client_keys_file, args.api_key_file, args.ca_file)
    settings = read_settings(flags, table, path)
    if args.check:
        return _check(settings, args, console)
    import gc
    from asyncio import run as run_loop

    # What runs for months does not put off the search for garbage as long as a short command does.
    gc.set_threshold(_ALLOCATIONS)
    return run_loop(_serve(settings, args, console))


def _require_aiohttp() -> None:
    """Older ones give up no slow head, and lose a body behind an offer to speak something else."""
    from importlib import import_module

    hint = "Install it: pip install 'llama-corral[serve]'"
    try:
        found = str(import_module("aiohttp").__version__)
    except ImportError:
        raise BadArgumentError("'corral serve' needs aiohttp, which is not installed here.", hint) from None
    if tuple(int(part) if part.isdigit() else 0 for part in found.split(".")[:3]) < _LEAST_AIOHTTP:
        least = ".".join(map(str, _LEAST_AIOHTTP))
        raise BadArgumentError(
            f"'corral serve' needs aiohttp {least} or newer; here is {escape_controls(found)}.", hint
        )


async def _serve(settings: Settings, args: Namespace, console: Console) -> int:
    import asyncio
    import signal

    from corral.gateway.assembly import build_gateway
    from corral.gateway.security import load_token
    from corral.ledger import find_folder

    _log_to(console)
    _raise_file_limit()
    folder = find_folder(environ)
    gateway = build_gateway(settings, folder, load_token(folder))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        if stop.is_set():
            gateway.hurry()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # What the parent ignores, as nohup does, stays ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, end)
    await gateway.start()
    try:
        _tell_start(gateway, settings, args, console)
        await stop.wait()
        console.say("Stopping: nobody new is taken; answers under way may end.")
    finally:
        cut = await gateway.stop()
    if cut:
        console.warn(f"Stopped; {cut} {'answer was' if cut == 1 else 'answers were'} cut.")
        return FAILED
    console.say("Stopped; no answer was cut.")
    return DONE


def _tell_start(gateway: Gateway, settings: Settings, args: Namespace, console: Console) -> None:
    """On stdout, for people or as a document: from now on requests are taken."""
    mounts = _list_mounts(settings)
    if args.json:
        rows = [{"url": mount.target.label, "prefix": mount.prefix} for mount in mounts]
        console.line(dumps(begin_document(DONE) | {"listening": gateway.addresses, "routers": rows}))
        console.is_stream = True
    elif not console.quiet:
        routers = ", ".join(mount.target.label for mount in mounts)
        console.line(f"Listening on {', '.join(gateway.addresses)} for {routers}.")
    console.flush()


_AWAY = "The gateway would start all the same, and find it when it answers. Is --router its address?"


def _check(settings: Settings, args: Namespace, console: Console) -> int:
    code, rows = DONE, []
    for mount in _list_mounts(settings):
        row: dict[str, Any] = {"url": mount.target.label, "prefix": mount.prefix, "models": None}
        try:
            row["models"] = _count_models(mount, settings)
        except CorralError as found:
            from corral.faces.cli.words import describe_error

            error = UnreachableError(found.message, _AWAY) if isinstance(found, UnreachableError) else found
            code = code or code_of_error(error)
            row["error"] = describe_error(error)
            console.warn(f"corral: {error.message}\n{error.hint}")
        else:
            console.say(f"The router {row['url']} answers; it has {row['models']} models.")
        rows.append(row)
    code = console.settle(code)
    addresses = [listener.address.label for listener in settings.listeners]
    if args.json:
        console.line(dumps(begin_document(code) | {"listening": addresses, "routers": rows}))
    elif code == DONE:
        console.line(f"The settings are fine; it would listen on {', '.join(addresses)}.")
    return code


def _count_models(mount: Mount, settings: Settings) -> int:
    from corral.client import Router, Timeouts

    limits = Timeouts(settings.limits.connect_s, settings.limits.look_s, settings.limits.look_s)
    with Router(mount.target.label, api_key=mount.api_key, ca_file=mount.ca_file, timeouts=limits) as router:
        return len(router.list_models().models)


def _list_mounts(settings: Settings) -> list[Mount]:
    return list(dict.fromkeys(mount for listener in settings.listeners for mount in listener.mounts))


def _log_to(console: Console) -> None:
    import logging
    from sys import stderr

    from corral.gateway.logs import LineHandler, log

    def write(line: str) -> None:
        console.warn(escape_controls(line))

    log.addHandler(LineHandler(write, shows_time=stderr is not None and stderr.isatty()))
    log.propagate = False
    log.setLevel(logging.WARNING if console.quiet else logging.INFO)


def _raise_file_limit() -> None:
    """Each client takes two: its connection, and the one to the router."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 1 << 16
    if soft != resource.RLIM_INFINITY and soft < wanted:
        from contextlib import suppress

        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
