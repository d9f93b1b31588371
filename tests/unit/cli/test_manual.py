"""The manual page and completion: complete, clean, and as the shells themselves understand them."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from imgpro import forms
from imgpro.cli import completing
from imgpro.cli.commands import cli
from imgpro.cli.manual_page import manual_page
from imgpro.exit_codes import EXIT_CODES
from imgpro.sources import variables_of
from imgpro.store import layout
from tests.terminals import at_terminal

ROOT = Path(__file__).resolve().parents[3]


def leaves(command: click.Command, path: str = "imgpro") -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from leaves(child, f"{path} {name}")
    else:
        yield path, command


def needs(tool: str) -> str:
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"{tool} is not installed")
    return found


@pytest.fixture(scope="module")
def page() -> str:
    """The page as roff."""
    return manual_page(cli)


@pytest.fixture(scope="module")
def shown(page: str) -> str:
    """The page as a reader sees it, on a very wide screen."""
    words = [needs("groff"), "-man", "-Tutf8", "-rLL=400n", "-rHY=0"]
    done = subprocess.run(
        words, input=page, capture_output=True, text=True, check=True, env={**os.environ, "GROFF_NO_SGR": "1"}
    )
    return re.sub(r".\x08", "", done.stdout)


def test_groff_has_no_complaint(page: str) -> None:
    done = subprocess.run(
        [needs("groff"), "-ww", "-man", "-Tutf8"], input=page, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def test_mandoc_has_no_complaint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    dated = manual_page(cli)
    assert '.TH IMGPRO 1 "2023-11-14" "imgpro ' in dated
    done = subprocess.run([needs("mandoc"), "-T", "lint"], input=dated, capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_every_command_and_option_is_there(shown: str) -> None:
    assert "Under construction" not in shown
    for path, command in leaves(cli):
        part = re.search(rf"^   {path} [^\n]*\n(.*?)(?=^ {{0,3}}\S)", shown, re.MULTILINE | re.DOTALL)
        assert part, path
        for param in command.params:
            if isinstance(param, click.Option) and not param.hidden:
                assert re.search(rf"^ +{', '.join(param.opts)}\b", part[1], re.MULTILINE), f"{path} {param.opts}"


def test_every_setting_variable_and_exit_code_is_there(shown: str) -> None:
    for field in forms.fields():
        assert f"{field.name} = {forms.show_value(field, field.default)}" in shown, field.path
        assert ", ".join(variables_of(field)) in shown
    for code, (meaning, _) in EXIT_CODES.items():
        assert re.search(rf"^ +{code} +{re.escape(meaning[:20])}", shown, re.MULTILINE), code


def test_every_file_of_the_data_directory_is_there(shown: str) -> None:
    for name in {layout.DATABASE_NAME, *layout.OWN_NAMES}:
        assert name.endswith(".new") or re.search(rf"^ +(\S*/)?{re.escape(name)}/?(\s|$)", shown, re.MULTILINE), name


def test_every_variable_and_signal_that_the_program_knows_is_there(page: str) -> None:
    plain = page.replace("\\", "")
    variables, signals = set(), set()
    for path in (ROOT / "imgpro").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                variables |= set(
                    re.findall(r"^(?:IMGPRO_[A-Z_]+|TMPDIR|\w+_DIRECTORY|\w+_USEC|LISTEN_\w+)$", node.value)
                )
        if path.name in ("serve.py", "hang_ups.py"):
            signals |= set(re.findall(r"signal\.(SIG[A-Z]+)\b", path.read_text()))
    # For tests and ./run alone; the last is a prefix.
    variables -= {"IMGPRO_CRASH_AT", "IMGPRO_ENGINE", "IMGPRO_"}
    assert {"IMGPRO_KEY", "STATE_DIRECTORY", "TMPDIR"} <= variables
    assert {"SIGTERM", "SIGHUP"} <= signals
    missing = {name for name in variables | signals if name not in plain}
    assert not missing


def test_what_roff_would_obey_is_shown_as_it_is() -> None:
    @click.command("odd")
    @click.option("--o", help=".sp 3")
    def odd() -> None:
        """'quoted' at the start, a \\fBslash\\fR, `code-with-dashes`.

        .br is no macro here, ~ and ^ are letters – and “these” too.
        """

    group = click.Group("imgpro", commands=[odd], callback=lambda: None)
    words = [needs("groff"), "-ww", "-man", "-Tutf8"]
    done = subprocess.run(words, input=manual_page(group), capture_output=True, text=True, check=True)
    text = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)
    assert done.stderr == ""
    for expected in (
        "'quoted' at the start, a \\fBslash\\fR, code-with-dashes.",
        ".br is no macro here, ~ and ^",
        ".sp 3",
        "– and “these” too.",
    ):
        assert expected in text


# --- completion ------------------------------------------------------------------------------------------------


def imgpro(*words: str) -> str:
    command = [sys.executable, "-m", "imgpro", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_an_unknown_shell_is_refused() -> None:
    command = [sys.executable, "-m", "imgpro", "completion", "tcsh"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("called", "names"),
    [
        ("imgpro", ["imgpro"]),
        ("./imgpro", ["imgpro"]),
        ("/opt/imgpro-1.2-linux-x86_64", ["imgpro", "imgpro-1.2-linux-x86_64"]),
        ("/srv/imgpro/__main__.py", ["imgpro"]),
        ("/tmp/$(reboot)", ["imgpro"]),
        ("/tmp/-x", ["imgpro"]),
    ],
)
def test_it_completes_for_the_name_it_was_called_by(called: str, names: list[str]) -> None:
    assert completing.names_of(called) == names


# What stands on the line, and what is offered (some of it).
LINES = [
    ("imgpro con", {"config"}),
    ("imgpro accounts v", {"verify"}),
    ("imgpro accounts --help pl", {"plan"}),
    ("imgpro run --log-f", {"--log-format"}),
    ("imgpro run --log-format ", {"auto", "text", "json"}),
    ("imgpro accounts plan ann@example.org p", {"pro"}),
    ("imgpro run --data run --db", {"--db-dir"}),
    ("imgpro completion ", {"bash", "zsh", "fish"}),
    ("imgpro integrations show sha", {"sharex"}),
    ("imgpro integrations write cad", {"caddy"}),
    ("imgpro run --data fol", {"folder/"}),
    ("imgpro run --config fold", {"folder/", "folder.txt"}),
    ("imgpro run --config fil", {"file.toml"}),
    ("imgpro upload pic", {"picture.png"}),
    ("imgpro upload picture.png pic", {"picture.png"}),
]
# Nothing else may be offered for these.
EXACT = {"imgpro con", "imgpro run --log-format ", "imgpro completion ", "imgpro run --data fol"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.txt").touch()
    (tmp_path / "file.toml").touch()
    (tmp_path / "picture.png").touch()
    return tmp_path


def check(offered: dict[str, set[str]]) -> None:
    for line, expected in LINES:
        found = {word.rstrip() for word in offered[line]}
        # Shells differ in whether they say already that a folder is one.
        assert {word.rstrip("/") for word in expected} <= {word.rstrip("/") for word in found}, line
        if line in EXACT:
            assert len(found) == len(expected), f"{line}: {found}"


def test_bash_completes(place: Path) -> None:
    (place / "script").write_text(imgpro("completion", "bash"))
    calls = [
        "source ./script",
        't() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _imgpro; printf \'%s\\t\' "${COMPREPLY[@]}"; echo; }',
    ]
    for line, _ in LINES:
        calls.append("t " + " ".join(f"'{word}'" for word in line.split(" ")))
    # Bash gives "=" as a word of its own.
    calls += ["t imgpro run --log-format = t", "t imgpro run --log-format =", "complete -p imgpro"]
    done = subprocess.run(
        [needs("bash"), "--norc", "-c", "\n".join(calls)], capture_output=True, text=True, check=True, cwd=place
    )
    assert done.stderr == ""
    rows = done.stdout.split("\n")
    check({line: set(row.split("\t")) - {""} for (line, _), row in zip(LINES, rows, strict=False)})
    assert rows[len(LINES)].split() == ["text"]
    assert rows[len(LINES) + 1].split() == ["auto", "text", "json"]
    assert rows[len(LINES) + 2] == "complete -F _imgpro imgpro"


def test_fish_completes(place: Path) -> None:
    script = imgpro("completion", "fish")
    (place / "script").write_text(script)
    calls = ["source ./script"]
    calls += [f"echo (complete -C '{line}' | string replace -r '\\t.*' '' | string join \\t)" for line, _ in LINES]
    done = subprocess.run(
        [needs("fish"), "--no-config", "-c", "\n".join(calls)],
        capture_output=True,
        text=True,
        check=True,
        cwd=place,
        env={**os.environ, "HOME": str(place)},
    )
    assert done.stderr == ""
    check({line: set(row.split("\t")) for (line, _), row in zip(LINES, done.stdout.split("\n"), strict=False)})


@pytest.mark.parametrize(
    ("shell", "call"),
    [
        ("bash", "COMP_WORDS=(imgpro box --at list '') COMP_CWORD=4; _imgpro; echo ${COMPREPLY[@]}"),
        ("fish", "complete -C 'imgpro box --at list '"),
    ],
)
def test_a_value_that_is_also_a_command_is_a_value(shell: str, call: str, tmp_path: Path) -> None:
    inner = click.Group("box", commands=[click.Command("list")], params=[click.Option(["--at"])])
    root = click.Group("imgpro", commands=[inner])
    (tmp_path / "script").write_text(completing.script(shell, root, ["imgpro"]))
    words = [needs(shell), "-c", f"source ./script; {call}"]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, cwd=tmp_path, env={**os.environ, "HOME": "/"}
    )
    assert done.stdout.split() == ["list"]


# What is typed before a TAB, and what then stands on the line or below it.
TYPED = [
    ("imgpro con", ["imgpro config"]),
    ("imgpro accounts ver", ["imgpro accounts verify"]),
    ("imgpro accounts plan ann@example.org p", ["example.org pro"]),
    ("imgpro run --log-format=t", ["--log-format=text"]),
    ("./imgpro completion z", ["./imgpro completion zsh"]),
    ("imgpro run --data fol", ["--data folder/"]),
    ("imgpro run --data x --db-d", ["--db-dir"]),
    ("imgpro upload pic", ["imgpro upload picture.png"]),
    ("imgpro run --log-format ", ["auto", "json", "text"]),
]
INTERACTIVE = {
    "bash": (
        ["--norc", "-i"],
        "PS1=; bind 'set show-all-if-ambiguous on'; bind 'set bell-style none'; source ./script",
    ),
    "zsh": (["-f", "-i"], "PS1=; unsetopt beep; autoload -Uz compinit; compinit -u -D; source ./script"),
}


def shows(expected: list[str]) -> Callable[[str], bool]:
    return lambda text: all(word in text for word in expected)


@pytest.mark.parametrize("shell", INTERACTIVE)
def test_tab_completes_in_a_terminal(shell: str, place: Path) -> None:
    (place / "script").write_text(imgpro("completion", shell))
    options, start = INTERACTIVE[shell]
    env = {"PATH": os.environ["PATH"], "HOME": str(place), "LC_ALL": "C.UTF-8", "TERM": "dumb"}
    with at_terminal([needs(shell), *options], env, place, rows=50, columns=180, stdout=True) as terminal:
        terminal.write(f"{start}\necho rea''dy\n")
        assert terminal.read_until(lambda text: "ready" in text.replace("rea''dy", "")), terminal.text
        for line, expected in TYPED:
            terminal.screen = b""
            terminal.write(f"{line}\t")
            assert terminal.read_until(shows(expected), 10), (line, terminal.text)
            terminal.write("\x15")  # forgets the line


def test_zsh_takes_it_from_a_folder_of_completions(place: Path) -> None:
    """As a package puts it there: the file is the body of the function."""
    (place / "completions").mkdir()
    (place / "completions" / "_imgpro").write_text(imgpro("completion", "zsh"))
    env = {"PATH": os.environ["PATH"], "HOME": str(place), "LC_ALL": "C.UTF-8", "TERM": "dumb"}
    with at_terminal([needs("zsh"), "-f", "-i"], env, place, rows=50, columns=180, stdout=True) as terminal:
        terminal.write("PS1=; fpath=($PWD/completions $fpath); autoload -Uz compinit; compinit -u -D; echo rea''dy\n")
        assert terminal.read_until(lambda text: "ready" in text.replace("rea''dy", "")), terminal.text
        for line, expected in TYPED[:2]:  # the first one loads it
            terminal.screen = b""
            terminal.write(f"{line}\t")
            assert terminal.read_until(shows(expected), 10), (line, terminal.text)
            terminal.write("\x15")
