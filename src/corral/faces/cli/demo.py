"""``corral demo``: the commands at work on a router of the demo's own, which is gone again afterwards."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from os.path import join
from shlex import quote

from corral.faces.cli.entry import run as run_command
from corral.faces.cli.exits import DONE
from corral.faces.cli.options import HELP, Option, Spec
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
    (Option(("--simulator",), "use the simulated router even where llama-server is installed"), HELP),
    epilog="Uses llama-server where one is installed (CORRAL_LLAMA_SERVER=/path names another), with tiny models\n"
    "made on the spot; else a simulated router. Nothing is downloaded, and everything it starts is stopped.",
)
_SCRIPT = (
    ("Three models, none of them resident:", ("ls",)),
    ("Load them all:", ("load", *MODELS)),
    ("They hold memory now:", ("ps",)),
    ("Free it, and see it done:", ("unload", "--all")),
    ("The proof:", ("ps",)),
)


def run(args: Namespace, console: Console) -> int:
    """Play the script; the first command that fails ends it with its exit code."""
    with _start_router(console, is_simulated=args.simulator) as url:
        console.line(f"$ export CORRAL_URL={url}")
        for text, words in _SCRIPT:
            console.line(f"\n# {text}\n$ corral {' '.join(map(quote, words))}")
            console.flush()
            code = run_command(["--url", url, *words])
            if code != DONE:
                return code
    console.line("\nThe demo's router is stopped.")
    return DONE


@contextmanager
def _start_router(console: Console, *, is_simulated: bool) -> Iterator[str]:
    """The URL of a router that ends with the block: the real one where there is one that starts."""
    from corral.sim.launch import LaunchError, find_llama_server

    binary = None if is_simulated else find_llama_server()
    if binary is not None:
        with ExitStack() as stack:
            try:
                url = stack.enter_context(_start_real(binary))
            except (LaunchError, OSError) as error:
                console.warn(f"{escape_controls(binary)} does not start as a router: {_tell_first_line(error)}")
            else:
                console.line(f"This is the real llama-server ({escape_controls(binary)}) with three tiny models.\n")
                yield url
                return
    from corral.sim import SimConfig, simulate

    console.line("This is a simulated router: it behaves like llama-server, and holds no memory.\n")
    with simulate(SimConfig(models=MODELS, load_s=0.3, exit_s=0.15)) as sim:
        yield sim.url


@contextmanager
def _start_real(binary: str) -> Iterator[str]:
    from tempfile import TemporaryDirectory

    from corral.sim.launch import RealRouter
    from corral.sim.tiny_model import write_tiny_model

    with TemporaryDirectory(prefix="corral-demo-") as folder:
        path = join(folder, "tiny.gguf")
        write_tiny_model(path)
        with RealRouter(binary, dict.fromkeys(MODELS, path)) as router:
            yield router.url


def _tell_first_line(error: Exception) -> str:
    said = error.message if isinstance(error, CorralError) else str(error)
    return escape_controls(said.partition("\n")[0])
