"""Completion for shells as plain lists of words, made from the tree of commands.

Click's own completion starts the program at each TAB, and the one-file program unpacks itself for that: most of a
second for a word. These scripts start nothing. Knows no command by name.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import click

_FOLDERS: Final = ("DIR",)  # metavars of options whose value click takes for mere text
_FILES: Final = ("PATH", "FILE")
_SAFE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")


class Value(NamedTuple):
    """What may stand as the value of an option or as an argument: fixed words, or a file, a folder, or anything."""

    kind: str  # "words", "file", "folder" or "any"
    words: tuple[str, ...] = ()


class Switch(NamedTuple):
    """An option under all its names. `value` is None for one that takes none."""

    names: tuple[str, ...]
    about: str
    value: Value | None
    repeats: bool


class Node(NamedTuple):
    """One command: its words after the program's name, the commands below it, its options and its arguments."""

    path: tuple[str, ...]
    about: str
    below: tuple[str, ...]
    switches: tuple[Switch, ...]
    arguments: tuple[Value, ...]
    more: bool  # the last argument may come again

    @property
    def joined(self) -> str:
        """The path as one word."""
        return " ".join(self.path)

    @property
    def switch_names(self) -> list[str]:
        """All names of all options."""
        return [name for switch in self.switches for name in switch.names]


def tree(command: click.Command, path: tuple[str, ...] = (), parent: click.Context | None = None) -> Iterator[Node]:
    """Yield a command and all below it, parents first."""
    context = click.Context(command, info_name=path[-1] if path else "imgpro", parent=parent)
    names = tuple(command.list_commands(context)) if isinstance(command, click.Group) else ()
    shown = [param for param in command.get_params(context) if not getattr(param, "hidden", False)]
    arguments = [param for param in shown if isinstance(param, click.Argument)]
    yield Node(
        path,
        command.get_short_help_str(limit=70),
        names,
        tuple(_switch(param, context) for param in shown if isinstance(param, click.Option)),
        tuple(_value(argument, context) for argument in arguments),
        bool(arguments) and arguments[-1].nargs != 1,
    )
    for name in names:
        child = command.get_command(context, name) if isinstance(command, click.Group) else None
        if child is not None and not child.hidden:
            yield from tree(child, (*path, name), context)


def _switch(option: click.Option, context: click.Context) -> Switch:
    about = re.sub(r"\s*\[env: .*?\]", "", option.help or "").rstrip(".")
    takes = not option.is_flag and not option.count
    names = (*option.opts, *option.secondary_opts)
    return Switch(names, about, _value(option, context) if takes else None, option.multiple)


def _value(param: click.Parameter, context: click.Context) -> Value:
    if param.metavar in _FOLDERS:
        return Value("folder")
    items = param.shell_complete(context, "")
    if any(item.type == "dir" for item in items):
        return Value("folder")
    if any(item.type == "file" for item in items) or param.metavar in _FILES:
        return Value("file")
    words = tuple(str(item.value) for item in items)
    return Value("words", words) if words else Value("any")


def names_of(called: str) -> list[str]:
    """Return the names to complete for: ours, and the one that the program was called by if that is another.

    `called` is how it was called, with or without a path: shells look a command up by its last part.
    """
    name = Path(called).name
    if name in ("imgpro", "__main__.py") or not _SAFE_NAME.fullmatch(name):
        return ["imgpro"]
    return ["imgpro", name]


def script(shell: str, root: click.Command, names: Sequence[str]) -> str:
    """Return what `shell` (bash, zsh, fish) has to read to complete the commands under `root`."""
    return _WRITERS[shell](list(tree(root)), names)


# --- bash ------------------------------------------------------------------------------------------------------

_BASH: Final = """\
# Completion of imgpro for bash. Written by `imgpro completion bash`; starts nothing.
_imgpro() {
    local command='' waiting='' glued='' place=0 kind='' words='' word i
    local cur=${COMP_WORDS[COMP_CWORD]}
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        # Bash cuts words at these. What follows belongs to the word before; after an option and = it is the value.
        if [[ $word == = && -n $waiting ]]; then
            continue
        elif [[ $word == [=:@] ]]; then
            glued=yes waiting=''
            continue
        elif [[ -n $glued$waiting ]]; then
            glued='' waiting=''
            continue
        fi
        case "$command|$word" in
%(descents)s
        esac
        case "$command|$word" in
%(valued)s            waiting=$word ;;
        *'|-'?*) ;;
        *) ((place++)) ;;
        esac
    done
    [[ $cur == = ]] && cur=''
    COMPREPLY=()
    if [[ -n $glued ]]; then
        compopt -o default 2>/dev/null
        return
    elif [[ -n $waiting ]]; then
        case "$command|$waiting" in
%(values)s
        esac
    elif [[ $cur == -* ]]; then
        case $command in
%(switches)s
        esac
    else
        case "$command|$place" in
%(arguments)s
        esac
    fi
    case $kind in
    file | folder)
        compopt -o filenames 2>/dev/null
        [[ $kind == folder ]] && i=-d || i=-f
        mapfile -t COMPREPLY < <(compgen $i -- "$cur")
        ;;
    *) mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur") ;;
    esac
}
complete -F _imgpro %(names)s
"""


def _bash(nodes: Sequence[Node], names: Sequence[str]) -> str:
    descents = [
        f"        '{node.joined}|{name}') command='{' '.join((*node.path, name))}'; continue ;;"
        for node in nodes
        for name in node.below
    ]
    valued = [
        (switch.value, [f"'{node.joined}|{name}'" for name in switch.names])
        for node in nodes
        for switch in node.switches
        if switch.value is not None
    ]
    arguments = []
    for node in nodes:
        if node.below:
            arguments.append(f"        '{node.joined}|'*) words='{' '.join(node.below)}' ;;")
        for place, value in enumerate(node.arguments):
            last = node.more and place == len(node.arguments) - 1
            pattern = f"'{node.joined}|'*" if last else f"'{node.joined}|{place}'"
            arguments.append(f"        {pattern}) {_bash_value(value)} ;;")
    parts = {
        "descents": "\n".join(descents),
        "valued": " |\\\n".join(f"        {' | '.join(patterns)}" for _, patterns in valued) + ")\n",
        "values": "\n".join(f"        {' | '.join(patterns)}) {_bash_value(value)} ;;" for value, patterns in valued),
        "switches": "\n".join(f"        '{node.joined}') words='{' '.join(node.switch_names)}' ;;" for node in nodes),
        "arguments": "\n".join(arguments),
        "names": " ".join(names),
    }
    return _BASH % parts


def _bash_value(value: Value) -> str:
    return f"words='{' '.join(value.words)}'" if value.words else f"kind='{value.kind}'"


# --- zsh -------------------------------------------------------------------------------------------------------


def _zsh(nodes: Sequence[Node], names: Sequence[str]) -> str:
    lines = [f"#compdef {' '.join(names)}", "# Completion of imgpro for zsh. Written by `imgpro completion zsh`."]
    about = {node.path: node.about for node in nodes}
    for node in reversed(nodes):  # those below first: a function is there when its caller is
        lines += ["", f"{_zsh_function(node.path)}() {{"]
        lines += _zsh_group(node, about) if node.below else _zsh_command(node)
        lines.append("}")
    # From a folder of completions the file is the function's body; read by hand it only registers.
    lines += ["", "if [[ $funcstack[1] == _imgpro ]]; then", '    _imgpro "$@"', "else"]
    lines += [f"    compdef _imgpro {' '.join(names)}", "fi"]
    return "\n".join(lines) + "\n"


def _zsh_function(path: tuple[str, ...]) -> str:
    return "__".join(["_imgpro", *path]).replace("-", "_")


def _zsh_switches(node: Node) -> list[str]:
    specs = []
    for switch in node.switches:
        about = _zsh_escaped(switch.about)
        for name in switch.names:
            others = "" if switch.repeats else f"({' '.join(switch.names)})"
            star = "*" if switch.repeats else ""
            value = "" if switch.value is None else f":{name.lstrip('-')}:{_zsh_action(switch.value)}"
            equals = "=" if switch.value is not None and name.startswith("--") else ""
            specs.append(shlex.quote(f"{others}{star}{name}{equals}[{about}]{value}"))
    return specs


def _zsh_command(node: Node) -> list[str]:
    specs = _zsh_switches(node)
    for place, value in enumerate(node.arguments, 1):
        last = node.more and place == len(node.arguments)
        specs.append(shlex.quote(f"{'*' if last else place}:argument:{_zsh_action(value)}"))
    return ["    _arguments -s \\", *(f"        {spec} \\" for spec in specs[:-1]), f"        {specs[-1]}"]


def _zsh_group(node: Node, about: dict[tuple[str, ...], str]) -> list[str]:
    specs = [*_zsh_switches(node), "'1: :->command'", "'*:: :->rest'"]
    entries = [shlex.quote(f"{name}:{about[*node.path, name]}") for name in node.below if (*node.path, name) in about]
    cases = [
        f"        {name}) {_zsh_function((*node.path, name))} ;;" for name in node.below if (*node.path, name) in about
    ]
    return [
        "    local context state state_descr line",
        "    typeset -A opt_args",
        "    _arguments -C \\",
        *(f"        {spec} \\" for spec in specs[:-1]),
        f"        {specs[-1]} && return",
        "    case $state in",
        "    command)",
        "        local -a commands=(",
        *(f"            {entry}" for entry in entries),
        "        )",
        "        _describe command commands",
        "        ;;",
        "    rest)",
        "        case $line[1] in",
        *cases,
        "        esac",
        "        ;;",
        "    esac",
    ]


def _zsh_action(value: Value) -> str:
    if value.words:
        return f"({' '.join(value.words)})"
    return {"file": "_files", "folder": "_files -/"}.get(value.kind, " ")


def _zsh_escaped(text: str) -> str:
    return re.sub(r"([\[\]:\\])", r"\\\1", text)


# --- fish ------------------------------------------------------------------------------------------------------

_FISH: Final = """\
# Completion of imgpro for fish. Written by `imgpro completion fish`; starts nothing.
function __imgpro_at --description 'Is the command on the line this one?'
    set -l command
    set -l waiting no
    for word in (commandline -opc)[2..-1]
        if test $waiting = yes
            set waiting no
            continue
        end
        switch "$command|$word"
%(valued)s
                set waiting yes
%(descents)s
        end
    end
    test "$command" = "$argv"
end
"""


def _fish(nodes: Sequence[Node], names: Sequence[str]) -> str:
    valued = [
        f"'{node.joined}|{name}'"
        for node in nodes
        for switch in node.switches
        if switch.value is not None
        for name in switch.names
    ]
    descents = [
        f"            case '{node.joined}|{name}'\n                set command '{' '.join((*node.path, name))}'"
        for node in nodes
        for name in node.below
    ]
    about = {node.path: node.about for node in nodes}
    parts = {"valued": "            case " + " \\\n                ".join(valued), "descents": "\n".join(descents)}
    out = [_FISH % parts]
    for name in names:
        out.append(f"complete -c {name} -f")
        out += [line for node in nodes for line in _fish_lines(node, f"complete -c {name}", about)]
    return "\n".join(out) + "\n"


def _fish_lines(node: Node, start: str, about: dict[tuple[str, ...], str]) -> Iterator[str]:
    at = f"{start} -n {_fish_quoted(f'__imgpro_at {node.joined}'.rstrip())}"
    for name in node.below:
        yield f"{at} -a {name} -d {_fish_quoted(about.get((*node.path, name), ''))}"
    for switch in node.switches:
        long = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in switch.names)
        value = "" if switch.value is None else f" {_fish_value(switch.value)}"
        yield f"{at} {long}{value} -d {_fish_quoted(switch.about)}"
    for argument in {argument for argument in node.arguments if argument.kind != "any"}:
        yield f"{at} {_fish_value(argument).replace('-x', '-f').replace('-r', '')}"


def _fish_value(value: Value) -> str:
    if value.words:
        return f"-x -a {_fish_quoted(' '.join(value.words))}"
    return {"file": "-r -F", "folder": "-x -a '(__fish_complete_directories)'"}.get(value.kind, "-x")


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_WRITERS: Final[dict[str, Callable[[Sequence[Node], Sequence[str]], str]]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
