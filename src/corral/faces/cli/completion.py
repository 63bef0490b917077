"""``corral completion SHELL``: scripts made from the same table that the parser and the help are made from.

Model names come from ``corral __complete``, which is silent and gives up after a second.
"""

from __future__ import annotations

from corral.faces.cli.commands import COMMANDS
from corral.faces.cli.complete import KINDS
from corral.faces.cli.documents import begin_document
from corral.faces.cli.entry import load_module
from corral.faces.cli.exits import DONE
from corral.faces.cli.options import CONNECTION, HELP, JSON, Option, Spec
from corral.wire import BadArgumentError, escape_controls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from corral.faces.cli.commands import Command
    from corral.faces.cli.console import Console

SPEC = Spec(
    "bash|zsh|fish",
    (JSON, HELP),
    "SHELL",
    "bash:  source <(corral completion bash)      in ~/.bashrc\n"
    "zsh:   source <(corral completion zsh)       in ~/.zshrc, after compinit\n"
    "fish:  corral completion fish | source       in ~/.config/fish/config.fish",
)


def run(args: Namespace, console: Console) -> int:
    """Print the script of one shell."""
    if len(args.words) != 1 or args.words[0] not in _SHELLS:
        given = " ".join(args.words)
        message = f"completion: no such shell: {escape_controls(given)}." if given else "completion: which shell?"
        raise BadArgumentError(message, f"Say one of {', '.join(_SHELLS)}.")
    script = _SHELLS[args.words[0]]()
    if args.json:
        from json import dumps

        console.line(dumps(begin_document(DONE) | {"shell": args.words[0], "script": script}))
    else:
        console.write(script)
    return DONE


def _names(command: Command) -> tuple[str, ...]:
    return (command.name, *command.aliases)


def _options(command: Command) -> tuple[Option, ...]:
    return load_module(command).SPEC.options


def _asks_for(command: Command) -> str:
    """What ``__complete`` is asked for a command's words; empty when nothing is known of them."""
    spec = load_module(command).SPEC
    return spec.offers or ("models" if spec.words == "NAME" else "")


def _list_words(option: Option) -> str:
    """What may follow an option: its choices, ``@file``, ``@models`` or nothing that is known."""
    kinds = {"FILE": "@file", "NAME": "@models"}
    return " ".join(option.choices) or kinds.get(option.value, "")


def _write_bash() -> str:
    commands: list[str] = []
    values: dict[str, dict[str, list[str]]] = {}
    for command in COMMANDS:
        flags = " ".join(flag for option in _options(command) for flag in option.flags)
        patterns = "|".join(_names(command))
        words = _asks_for(command) or ("@shells" if command.name == "completion" else "")
        commands.append(f"        {patterns}) options='{flags}'; words='{words}' ;;")
        for flag, offered in ((flag, _list_words(o)) for o in _options(command) if o.value for flag in o.flags):
            values.setdefault(flag, {}).setdefault(offered or "@none", []).extend(_names(command))
    cases = [line for flag, meanings in values.items() for line in _write_bash_values(flag, meanings)]
    names = " ".join(name for command in COMMANDS for name in _names(command))
    script = _BASH.replace("@COMMANDS@", "\n".join(commands)).replace("@VALUES@", "\n".join(cases))
    top = " ".join(["--version", *(flag for option in (*CONNECTION, HELP) for flag in option.flags)])
    return script.replace("@NAMES@", f"{names} help").replace("@TOP@", top).replace("@KINDS@", "|".join(KINDS))


def _write_bash_values(flag: str, meanings: dict[str, list[str]]) -> list[str]:
    """What may follow an option; where that differs from command to command, one line for each meaning."""
    if len(meanings) == 1:
        return [f"        *' {flag}') values='{words}' ;;" for words in meanings]
    lines = []
    for words, names in meanings.items():
        patterns = "|".join(f"'{name} {flag}'" for name in names)
        lines.append(f"        {patterns}) values='{words}' ;;")
    return lines


_BASH = r"""# corral completion for bash: source <(corral completion bash)
_corral_offer() {  # word, candidates one a line: sets COMPREPLY, quoted for the shell
    local word=$1 line shown cut=
    # bash splits words at colons and replaces only what stands after the last one.
    [[ -z $quote && $COMP_WORDBREAKS == *:* && $word == *:* ]] && cut=${word%:*}:
    while IFS= read -r line; do
        [[ -n $line && $line == "$word"* ]] || continue
        shown=${line#"$cut"}
        [[ -z $quote ]] && printf -v shown %q "$shown"
        COMPREPLY+=("$shown")
    done
}

_corral_ask() {  # a kind of names, such as models
    "${COMP_WORDS[0]}" __complete "$1" "${where[@]}" 2>/dev/null
}

_corral() {
    COMPREPLY=()
    local line=${COMP_LINE:0:COMP_POINT} char quote= word= command= options= words= values= i
    local -a typed=() where=()
    # The words as the shell would see them, quotes removed; COMP_WORDS is split at colons.
    for ((i = 0; i < ${#line}; i++)); do
        char=${line:i:1}
        if [[ $quote == "'" || $quote == '"' ]]; then
            if [[ $char == "$quote" ]]; then quote=; else word+=$char; fi
        elif [[ $char == '\' ]]; then
            ((++i)); word+=${line:i:1}
        elif [[ $char == "'" || $char == '"' ]]; then
            quote=$char
        elif [[ $char == [[:space:]] ]]; then
            [[ -n $word ]] && typed+=("$word"); word=
        else
            word+=$char
        fi
    done
    for ((i = 1; i < ${#typed[@]}; i++)); do
        case ${typed[i]} in
        --url|--api-key-file|--ca-file) where+=("${typed[i]}" "${typed[i+1]}"); ((++i)) ;;
        --url=*|--api-key-file=*|--ca-file=*) where+=("${typed[i]}") ;;
        --connect-timeout|--read-timeout|--timeout) ((++i)) ;;
        -*) ;;
        *) [[ -z $command ]] && command=${typed[i]} ;;
        esac
    done
    case $command in
@COMMANDS@
        help) words='@commands' ;;
        '') options='@TOP@'; words='@commands' ;;
    esac
    case "$command ${typed[${#typed[@]}-1]}" in
@VALUES@
    esac
    [[ -n $values ]] && { options=; words=$values; }
    if [[ $word == -* && -n $options ]]; then
        _corral_offer "$word" <<< "${options// /$'\n'}"
        return
    fi
    case $words in
        @file) COMPREPLY=($(compgen -f -- "$word")) ;;
        @commands) COMPREPLY=($(compgen -W '@NAMES@' -- "$word")) ;;
        @shells) COMPREPLY=($(compgen -W 'bash zsh fish' -- "$word")) ;;
        @models) _corral_offer "$word" < <(_corral_ask models) ;;
        @KINDS@) _corral_offer "$word" < <(_corral_ask "$words") ;;
        @none|'') ;;
        *) COMPREPLY=($(compgen -W "$words" -- "$word")) ;;
    esac
}
complete -F _corral corral
"""


def _write_zsh() -> str:
    listed = "\n".join(f"        '{name}:{c.help.replace(':', ';')}'" for c in COMMANDS for name in _names(c))
    cases = []
    for command in COMMANDS:
        specs = [_write_zsh_option(option) for option in _options(command)]
        asked = _asks_for(command)
        if asked:
            specs.append(f"'*:{asked}:_corral_{asked}'")
        elif command.name == "completion":
            specs.append("'1:shell:(bash zsh fish)'")
        joined = " \\\n            ".join(specs)
        cases.append(f"        {'|'.join(_names(command))}) _arguments -s \\\n            {joined} ;;")
    askers = "\n".join(f"_corral_{kind}() {{ _corral_ask {kind} }}" for kind in KINDS)
    return _ZSH.replace("@LISTED@", listed).replace("@CASES@", "\n".join(cases)).replace("@ASKERS@", askers)


def _write_zsh_option(option: Option) -> str:
    words = _list_words(option)
    action = {"@file": "_files", "@models": "_corral_models"}.get(words, f"({words})" if words else " ")
    explained = option.help.replace("[", "(").replace("]", ")").replace(":", ";").replace("'", "")
    tail = f":{option.value.lower()}:{action}" if option.value else ""
    repeat = "*" if option.many else ""
    if len(option.flags) == 1:
        return f"'{repeat}{option.flags[0]}[{explained}]{tail}'"
    return f"{{{','.join(option.flags)}}}'[{explained}]{tail}'"


_ZSH = r"""#compdef corral
# corral completion for zsh: source <(corral completion zsh)
_corral_ask() {
    local -a names where
    local i
    for ((i = 2; i < CURRENT; i++)); do
        case $words[i] in
        --url|--api-key-file|--ca-file) where+=($words[i] ${(Q)words[i+1]}) ;;
        --url=*|--api-key-file=*|--ca-file=*) where+=(${(Q)words[i]}) ;;
        esac
    done
    names=("${(@f)$(corral __complete $1 $where 2>/dev/null)}")
    compadd -a names
}
@ASKERS@
_corral() {
    local -a commands
    commands=(
@LISTED@
        'help:show how a command is used'
    )
    if ((CURRENT == 2)); then
        _describe command commands
        return
    fi
    local command=$words[2]
    shift words
    ((CURRENT--))
    case $command in
@CASES@
        help) _describe command commands ;;
    esac
}
compdef _corral corral
"""


def _write_fish() -> str:
    lines = [_FISH]
    for command in COMMANDS:
        explained = _quote_fish(command.help)
        lines += [f"complete -c corral -n __fish_use_subcommand -a {n} -d '{explained}'" for n in _names(command)]
        seen = f"__fish_seen_subcommand_from {' '.join(_names(command))}"
        lines += [f"complete -c corral -n '{seen}' {_write_fish_option(option)}" for option in _options(command)]
        asked = _asks_for(command)
        if asked:
            lines.append(f"complete -c corral -n '{seen}' -a '(__corral_ask {asked})'")
        elif command.name == "completion":
            lines.append(f"complete -c corral -n '{seen}' -a 'bash zsh fish'")
    return "\n".join(lines) + "\n"


def _write_fish_option(option: Option) -> str:
    parts = [f"-s {flag[1:]}" if len(flag) == 2 else f"-l {flag[2:]}" for flag in option.flags]
    words = _list_words(option)
    if option.value:
        arguments = {"@file": "-r -F", "@models": "-x -a '(__corral_ask models)'", "": "-x"}
        parts.append(arguments.get(words, f"-x -a '{words}'"))
    return f"{' '.join(parts)} -d '{_quote_fish(option.help)}'"


def _quote_fish(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


_FISH = r"""# corral completion for fish: corral completion fish | source
function __corral_ask
    corral __complete $argv[1] (commandline -opc)[2..] 2>/dev/null
end
complete -c corral -f"""


_SHELLS: dict[str, Callable[[], str]] = {"bash": _write_bash, "zsh": _write_zsh, "fish": _write_fish}
