"""Options as values: each is written once, and parser, help and completion read it from here.

``argparse`` does the parsing; it is imported when a command is called, for that one command.
"""

from __future__ import annotations

from corral.config import parse_duration
from corral.wire import BadArgumentError, Record, escape_controls, shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from corral.faces.cli.commands import Command


class Option(Record):
    """One option of a command."""

    flags: tuple[str, ...]
    help: str
    value: str = ""
    """What stands for its value in the help; empty for a switch. ``DURATION`` and ``N`` are read as such."""
    many: bool = False
    """May be given more than once; the values become a list."""
    choices: tuple[str, ...] = ()
    default: str | None = None


class Spec(Record):
    """What a command takes."""

    usage: str
    options: tuple[Option, ...]
    words: str = ""
    """What its plain words are: ``NAME`` (of a model) or something else; empty when it takes none."""
    epilog: str = ""


URL = Option(("--url",), "the router's address (CORRAL_URL, LLAMA_SERVER_URL)", "URL")
API_KEY_FILE = Option(("--api-key-file",), "file that holds the API key (CORRAL_API_KEY, LLAMA_API_KEY)", "FILE")
CA_FILE = Option(("--ca-file",), "trust this authority for https (CORRAL_CA_FILE)", "FILE")
CONNECT_TIMEOUT = Option(("--connect-timeout",), "time to connect (default 5s)", "DURATION")
READ_TIMEOUT = Option(("--read-timeout",), "longest silence of the router within a reply (default 10s)", "DURATION")
CONNECTION = (URL, API_KEY_FILE, CA_FILE, CONNECT_TIMEOUT, READ_TIMEOUT)
TIMEOUT = Option(("--timeout",), "time for the whole command, such as 90s, 10m or 1h30m", "DURATION")
JSON = Option(("--json",), "print one JSON document")
QUIET = Option(("-q", "--quiet"), "print ids only, and talk only about failures")
HELP = Option(("-h", "--help"), "show this help")
COMMON = (*CONNECTION, TIMEOUT, JSON, QUIET, HELP)
"""Known to every command that talks to a router, and allowed before its name."""


def split_command(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """The command's name and all other words; options may stand before the name. None when there is no name."""
    takes_value = {flag for option in COMMON if option.value for flag in option.flags}
    at = 0
    while at < len(argv):
        word = argv[at]
        if not word.startswith("-") or word == "-":
            return word, [*argv[:at], *argv[at + 1 :]]
        at += 2 if word in takes_value else 1
    return None, list(argv)


def parse(command: Command, spec: Spec, words: Sequence[str]) -> Namespace:
    """Read a command's words; raises BadArgumentError in one line for what it does not understand."""
    parser = build_parser(command, spec)
    if not spec.words:
        return parser.parse_args(words)
    # argparse forgets the mark "--" between its two passes, so what follows it is taken aside here.
    end = words.index("--") if "--" in words else len(words)
    args = parser.parse_intermixed_args(words[:end])
    args.words += words[end + 1 :]
    return args


def build_parser(command: Command, spec: Spec) -> ArgumentParser:
    """The parser of one command, which raises instead of exiting."""
    from argparse import ArgumentParser, RawDescriptionHelpFormatter

    class Parser(ArgumentParser):
        def error(self, message: str) -> None:  # type: ignore[override]
            raise BadArgumentError(
                f"{command.name}: {escape_controls(shorten(message, 300))}", f"'corral help {command.name}' shows how."
            )

    names = f" (also: {', '.join(command.aliases)})" if command.aliases else ""
    parser = Parser(
        prog=f"corral {command.name}",
        usage=f"corral {command.name} {spec.usage}".rstrip(),
        description=f"{command.help[0].upper()}{command.help[1:]}{names}.",
        epilog=spec.epilog or None,
        add_help=False,
        allow_abbrev=False,
        # With a width of its own the formatter does not import shutil, and with that half the compressors.
        formatter_class=lambda prog: RawDescriptionHelpFormatter(prog, max_help_position=28, width=_HELP_COLUMNS),
    )
    if spec.words:
        parser.add_argument("words", nargs="*", metavar=spec.words, help=_WORDS_HELP.get(spec.words))
    for option in spec.options:
        _add(parser, option)
    return parser


_HELP_COLUMNS = 100
_WORDS_HELP = {"NAME": "id or alias of a model"}


def _add(parser: ArgumentParser, option: Option) -> None:
    flag = option.flags[-1]
    dest = flag.lstrip("-").replace("-", "_")
    if not option.value:
        parser.add_argument(*option.flags, action="store_true", dest=dest, help=option.help)
        return
    read = {"DURATION": lambda text: parse_duration(text, flag), "N": lambda text: _read_count(text, flag)}
    parser.add_argument(
        *option.flags,
        action="append" if option.many else "store",
        dest=dest,
        metavar=option.value,
        type=read.get(option.value, str),
        choices=option.choices or None,
        default=[] if option.many else option.default,
        help=option.help,
    )


def _read_count(text: str, flag: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise BadArgumentError(f"{flag}: not a count: {escape_controls(text)}", "Give a whole number from 1 on.")
    return int(text)
