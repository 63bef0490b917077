"""``corral demo``: the commands at work on a router of the demo's own, which is gone again afterwards."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, redirect_stdout
from io import StringIO
from json import dumps, loads
from os import environ
from os.path import join
from shlex import quote

from corral.faces.cli.demo_folder import make_folder, sweep
from corral.faces.cli.documents import begin_document
from corral.faces.cli.entry import run as run_command
from corral.faces.cli.exits import DONE
from corral.faces.cli.options import HELP, JSON, Option, Spec
from corral.wire import CorralError, escape_controls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from corral.faces.cli.console import Console

MODELS = ("llama-3.2-3b", "qwen3-8b", 'my "odd" model/v1')
"""The last one has what breaks shell recipes: quotes, spaces and a slash."""

SPEC = Spec(
    "[--simulator]",
    (Option(("--simulator",), "use the simulated router even where llama-server is installed"), JSON, HELP),
    epilog="Uses llama-server where one is installed (CORRAL_LLAMA_SERVER=/path names another), with tiny models\n"
    "made on the spot; else a simulated router. Nothing is downloaded, no configuration is read, nothing is\n"
    "remembered, and everything that it starts is stopped.",
    lists=("steps",),
)
_SCRIPT = (
    ("Three models, none of them resident:", ("ls",)),
    ("Load them all:", ("load", *MODELS)),
    ("They hold memory now:", ("ps",)),
    ("Free it, and see it done:", ("unload", "--all")),
    ("The proof:", ("ps",)),
)
_KEPT = ("CORRAL_LLAMA_SERVER", "CORRAL_DEBUG")


def run(args: Namespace, console: Console) -> int:
    """Play the script; the first command that fails ends it with its exit code."""
    from tempfile import gettempdir

    sweep(gettempdir())
    with ExitStack() as stack:
        folder = stack.enter_context(make_folder(gettempdir()))
        stack.enter_context(_be_a_stranger(folder))
        binary, url = _start_router(stack, folder, console, is_simulated=args.simulator)
        if args.json:
            return _play_quietly(binary, url, console)
        console.line(f"{_introduce(binary)}\n\n$ export CORRAL_URL={url}")
        for text, words in _SCRIPT:
            console.line(f"\n# {text}\n$ corral {' '.join(map(quote, words))}")
            console.flush()
            code = run_command(["--url", url, *words], console.signals)
            if code != DONE:
                return code
    console.line("\nThe demo's router is stopped.")
    return DONE


def _introduce(binary: str | None) -> str:
    if binary is None:
        return "This is a simulated router: it behaves like llama-server, and holds no memory."
    return f"This is the real llama-server ({escape_controls(binary)}) with three tiny models."


def _play_quietly(binary: str | None, url: str, console: Console) -> int:
    """One document, with those of the commands in it."""
    steps = []
    for text, words in _SCRIPT:
        with redirect_stdout(StringIO()) as printed:
            code = run_command(["--url", url, *words, "--json"], console.signals)
        if code != DONE and not printed.getvalue():
            break
        steps.append({"text": text, "argv": ["corral", *words], "document": loads(printed.getvalue())})
        if code != DONE:
            break
    code = console.settle(code)
    console.line(dumps(begin_document(code, url) | {"simulated": binary is None, "binary": binary, "steps": steps}))
    return code


@contextmanager
def _be_a_stranger(folder: str) -> Iterator[None]:
    """The user's settings, keys, pins and log are none of the demo's, and what it does is no part of them."""
    names = [name for name in environ if name.startswith(("CORRAL_", "LLAMA_")) and name not in _KEPT]
    before = {name: environ.pop(name) for name in names}
    own = {"CORRAL_CONFIG": join(folder, "config.toml"), "CORRAL_STATE_DIR": join(folder, "state")}
    with open(own["CORRAL_CONFIG"], "w", encoding="ascii"):
        # A configuration that says nothing.
        pass
    environ.update(own)
    try:
        yield
    finally:
        for name in own:
            del environ[name]
        environ.update(before)


def _start_router(stack: ExitStack, folder: str, console: Console, *, is_simulated: bool) -> tuple[str | None, str]:
    """The binary that runs until the stack ends, None for the simulator, and the URL: real where one starts."""
    from corral.sim.launch import LaunchError, find_llama_server

    binary = None if is_simulated else find_llama_server()
    if binary is not None:
        try:
            return binary, _start_real(stack, folder, binary)
        except (LaunchError, OSError) as error:
            console.warn(f"{escape_controls(binary)} does not start as a router: {_tell_first_line(error)}")
    from corral.sim import SimConfig, simulate

    return None, stack.enter_context(simulate(SimConfig(models=MODELS, load_s=0.3, exit_s=0.15))).url


def _start_real(stack: ExitStack, folder: str, binary: str) -> str:
    from corral.sim.launch import RealRouter
    from corral.sim.tiny_model import write_tiny_model

    path = join(folder, "tiny.gguf")
    write_tiny_model(path)
    return stack.enter_context(RealRouter(binary, dict.fromkeys(MODELS, path), folder_in=folder)).url


def _tell_first_line(error: Exception) -> str:
    said = error.message if isinstance(error, CorralError) else str(error)
    return escape_controls(said.partition("\n")[0])
