"""Options as values: each is written once, and parser, help and completion read it from here.

``argparse`` knows what a line may look like, what is wrong with one, and the help. A line of whole flags with their
values, each a word of its own, is read without it: importing it takes longer than talking to the router.
"""

from __future__ import annotations

from functools import partial

from corral.config import parse_duration, parse_size
from corral.wire import BadArgumentError, Record, escape_controls, shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Sequence
    from typing import Any

    from corral.faces.cli.commands import Command


class Option(Record):
    """One option of a command."""

    flags: tuple[str, ...]
    help: str
    value: str = ""
    """What stands for its value in the help; empty for a switch. ``DURATION``, ``SIZE`` and ``N`` are read as such."""
    many: bool = False
    """May be given more than once; the values become a list."""
    choices: tuple[str, ...] = ()
    may_be_zero: bool = False
    """Of a duration: whether none at all is one too."""


class Spec(Record):
    """What a command takes."""

    usage: str
    options: tuple[Option, ...]
    words: str = ""
    """What its plain words are: ``NAME`` (of a model) or something else; empty when it takes none."""
    epilog: str = ""
    offers: str = ""
    """What completion offers for the words, one of ``corral.faces.cli.complete.KINDS``; empty for nothing."""
    lists: tuple[str, ...] = ()
    """The lists of its document; in that of an error they are empty."""
    takes_command: bool = False
    """What follows the mark ``--`` is a command with its arguments, taken as it is, and none of the plain words."""
    failure: int | None = None
    """The exit code of any error, in place of the error's own."""


URL = Option(("--url",), "the router's address (CORRAL_URL, LLAMA_SERVER_URL)", "URL")
API_KEY_FILE = Option(("--api-key-file",), "file that holds the API key (CORRAL_API_KEY, LLAMA_API_KEY)", "FILE")
CA_FILE = Option(("--ca-file",), "trust this authority for https (CORRAL_CA_FILE)", "FILE")
CONNECT_TIMEOUT = Option(("--connect-timeout",), "time to connect (default 5s)", "DURATION")
READ_TIMEOUT = Option(("--read-timeout",), "longest silence of the router within a reply (default 10s)", "DURATION")
CONNECTION = (URL, API_KEY_FILE, CA_FILE, CONNECT_TIMEOUT, READ_TIMEOUT)
TIMEOUT = Option(("--timeout",), "time for the whole command, such as 90s, 10m or 1h30m", "DURATION")
JSON = Option(("--json",), "print one JSON document; for programs, since it has any id as it is")
DRY_RUN = Option(("-n", "--dry-run"), "show what would be done, and do nothing")
QUIET = Option(("-q", "--quiet"), "print ids only, and talk only about failures")
HELP = Option(("-h", "--help"), "show this help")
COMMON = (*CONNECTION, TIMEOUT, JSON, QUIET, HELP)
"""Known to every command that talks to a router, and allowed before its name."""


def tell_timeout(default: str) -> tuple[Option, ...]:
    """The common options, with what holds for this command where no --timeout is given."""
    timeout = Option(TIMEOUT.flags, f"{TIMEOUT.help} (default {default})", TIMEOUT.value)
    return tuple(timeout if option is TIMEOUT else option for option in COMMON)


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
    plain = read_plain(spec, words)
    return parse_in_full(command, spec, words) if plain is None else plain


def parse_in_full(command: Command, spec: Spec, words: Sequence[str]) -> Namespace:
    """``parse`` for any line, by ``argparse``."""
    parser = build_parser(command, spec)
    if not spec.words:
        return parser.parse_args(words)
    # argparse forgets the mark "--" between its two passes, so what follows it is taken aside here.
    end = words.index("--") if "--" in words else len(words)
    args = parser.parse_intermixed_args(words[:end])
    if spec.takes_command:
        args.command = words[end + 1 :]
    else:
        args.words += words[end + 1 :]
    if "" in args.words:
        # What a shell makes of "$NAME" where that is not set.
        raise BadArgumentError(f"{command.name}: {spec.words} is empty.", f"'corral help {command.name}' shows how.")
    return args


def read_plain(spec: Spec, words: Sequence[str]) -> Namespace | None:
    """What ``parse_in_full`` makes of these words; None for all that takes it to know, and for every mistake."""
    flags = {flag: option for option in spec.options for flag in option.flags}
    found: dict[str, Any] = {"words": []} if spec.words else {}
    if spec.takes_command:
        # It comes behind the mark "--", which is not for here.
        found["command"] = []
    found |= {_name(option): [] if option.many else None if option.value else False for option in spec.options}
    left = iter(words)
    for word in left:
        if word[:1] != "-":
            if not (spec.words and word):
                return None
            found["words"].append(word)
            continue
        option = flags.get(word)
        if option is None:
            return None
        if not option.value:
            found[_name(option)] = True
            continue
        text = next(left, "-")
        if text[:1] == "-" or (option.choices and text not in option.choices):
            return None
        try:
            value = _find_reader(option)(text, option.flags[-1])
        except BadArgumentError:
            return None
        if option.many:
            found[_name(option)].append(value)
        else:
            found[_name(option)] = value
    from types import SimpleNamespace

    result: Any = SimpleNamespace(**found)
    return result  # type: ignore[no-any-return]  # it has what a Namespace has


def build_parser(command: Command, spec: Spec) -> ArgumentParser:
    """The parser of one command, which raises instead of exiting."""
    from argparse import ArgumentParser, RawDescriptionHelpFormatter

    class Parser(ArgumentParser):
        def error(self, message: str) -> None:  # type: ignore[override]  # it raises too
            hint = f"'corral help {command.name}' shows how."
            if spec.words == "NAME" and ("unrecognized arguments: -" in message or "ignored explicit" in message):
                hint += f" A name that begins with - goes after the mark --, as in: corral {command.name} -- -name"
            raise BadArgumentError(f"{command.name}: {escape_controls(shorten(message, 300))}", hint)

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
_WORDS_HELP = {
    "NAME": "id or alias of a model",
    "SET": "name of a set",
    "HOLD": "id of a hold, or of a held model",
    "LEASE": "id of a lease, such as r3; all where none is given",
    "PID": "number of a process; all where none is given",
    "SIZE": "such as 12GiB, 500MiB or 8G",
}


def _add(parser: ArgumentParser, option: Option) -> None:
    if not option.value:
        parser.add_argument(*option.flags, action="store_true", dest=_name(option), help=option.help)
        return
    read = _find_reader(option)
    parser.add_argument(
        *option.flags,
        action="append" if option.many else "store",
        dest=_name(option),
        metavar=option.value,
        type=lambda text: read(text, option.flags[-1]),
        choices=option.choices or None,
        default=[] if option.many else None,
        help=option.help,
    )


def _name(option: Option) -> str:
    """Under which the value is found."""
    return option.flags[-1].lstrip("-").replace("-", "_")


def _find_reader(option: Option) -> Callable[[str, str], object]:
    if option.value == "DURATION":
        return partial(parse_duration, may_be_zero=option.may_be_zero)
    return _READERS.get(option.value, _read_text)


def _read_text(text: str, flag: str) -> str:
    if not text:
        raise BadArgumentError(f"{flag} is empty.", "Give it a value, or leave the option out.")
    return text


def _read_count(text: str, flag: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise BadArgumentError(f"{flag}: not a count: {escape_controls(text)}", "Give a whole number from 1 on.")
    return int(text)


_READERS: dict[str, Callable[[str, str], object]] = {"N": _read_count, "SIZE": parse_size}
