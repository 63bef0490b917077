"""``python -m corral.sim``: a simulated router as a program of its own."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from collections.abc import Sequence
from dataclasses import replace

from corral.sim.config import ModelSpec, SimConfig
from corral.sim.eras import DEFAULT_ERA, ERAS
from corral.sim.faults import FAULTS, parse_fault
from corral.sim.server import SimServer

_EPILOG = """\
It prints one line of JSON with its URL on standard output when it listens, and serves until SIGTERM or Ctrl-C.

faults (KIND or KIND:key=value,key=value; keys: path, method, model, times, seconds, code, size, count, location):
{faults}

examples:
  python -m corral.sim --models 16 --models-max 16 --loaded 16 --era b9093
  python -m corral.sim --model 'a "quoted" name' --fault never-unloads:model=model-01
  python -m corral.sim --fault reset-after:path=/models/unload,times=1
"""


def parse_arguments(arguments: Sequence[str] | None = None) -> SimConfig:
    """Read the command line; exits with 2 on a usage error."""
    options = _build_parser().parse_args(arguments)
    specs = [*SimConfig(models=options.models).build_specs(), *map(ModelSpec, options.model)]
    loaded = [
        replace(spec, status="loaded" if index < options.loaded else "unloaded") for index, spec in enumerate(specs)
    ]
    return SimConfig(
        models=tuple(loaded),
        era=options.era,
        models_max=options.models_max,
        autoload=not options.no_models_autoload,
        api_keys=tuple(filter(None, options.api_key.split(","))),
        api_prefix=options.api_prefix,
        host=options.host,
        port=options.port,
        unix_socket=options.unix_socket,
        single=options.single,
        is_starting=options.starting,
        string_status=options.string_status,
        metrics=options.metrics,
        slots=not options.no_slots,
        load_s=options.load_seconds,
        exit_s=options.exit_seconds,
        stop_timeout_s=options.stop_timeout,
        sleep_idle_s=options.sleep_idle_seconds,
        token_s=options.token_seconds,
        faults=tuple(options.fault),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to end."""
    asyncio.run(_serve(parse_arguments(arguments)))
    return 0


async def _serve(config: SimConfig) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    server = SimServer(config)
    await server.start()
    print(json.dumps({"url": server.url}), flush=True)
    await over.wait()
    await server.close()


def _build_parser() -> argparse.ArgumentParser:
    faults = "\n".join(f"  {kind:14} {text}" for kind, text in FAULTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m corral.sim",
        description="A simulated llama-server in router mode: it behaves like the real one, and fails on demand.",
        epilog=_EPILOG.format(faults=faults),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    default = SimConfig()
    add = parser.add_argument
    add("--models", type=int, default=default.models, metavar="N", help="N models named model-01, ... (default 3)")
    add("--model", action="append", default=[], metavar="ID", help="one more model with this id; repeatable")
    add("--loaded", type=int, default=0, metavar="N", help="the first N models are loaded at the start")
    add("--era", choices=tuple(ERAS), default=DEFAULT_ERA, help=f"which build to behave like (default {DEFAULT_ERA})")
    add("--models-max", type=int, default=default.models_max, metavar="N", help="most residents (default 4; 0: any)")
    add("--no-models-autoload", action="store_true", help="requests load nothing")
    add("--api-key", default="", metavar="KEY[,KEY]", help="ask for one of these made-up keys")
    add("--api-prefix", default="", metavar="PATH", help="all routes lie under this path")
    add("--host", default=default.host, help="address to listen on (default 127.0.0.1)")
    add("--port", type=int, default=0, help="port to listen on (default: a free one)")
    add("--unix-socket", metavar="PATH", help="listen there instead")
    add("--single", metavar="ID", help="be a llama-server with this one model, not a router")
    add("--starting", action="store_true", help="answer 503 Loading model to everything")
    add("--string-status", action="store_true", help="send status as a plain string, as some forks do")
    add("--metrics", action="store_true", help="answer /metrics")
    add("--no-slots", action="store_true", help="do not answer /slots")
    _add_times(parser, default)
    add("--fault", action="append", default=[], type=parse_fault, metavar="FAULT", help="see below; repeatable")
    return parser


def _add_times(parser: argparse.ArgumentParser, default: SimConfig) -> None:
    times = (
        ("--load-seconds", default.load_s, "how long a load takes"),
        ("--exit-seconds", default.exit_s, "how long an idle child takes to exit"),
        ("--stop-timeout", default.stop_timeout_s, "when a busy child is killed (default: the era's)"),
        ("--sleep-idle-seconds", default.sleep_idle_s, "fall asleep after this long (default: never)"),
        ("--token-seconds", default.token_s, "how long a token takes"),
    )
    for flag, value, text in times:
        note = "" if value is None else f" (default {value:g})"
        parser.add_argument(flag, type=float, default=value, metavar="S", help=text + note)
