"""The pages for whoever runs a server, held against the program: nothing named that is not there, nothing left out."""

import re
import shlex
import subprocess
import sys

import click
import pytest

from imgpro import forms
from imgpro.cli.commands import cli
from imgpro.errors import OperatorError
from imgpro.exit_codes import EXIT_CODES
from imgpro.sources import variables_of
from tests.docs.test_readme import shell_lines
from tests.pictures import encoded, make_image
from tests.servers import ROOT, UNLIMITED, running

DOCS = ROOT / "docs"
MADE = ("settings.md", "commands.md", "exit-codes.md")
INTERNAL = ("design.md", "performance.md")
PAGES = sorted(path for path in DOCS.glob("*.md") if path.name not in INTERNAL)
BY_HAND = [path for path in PAGES if path.name not in MADE]
SETTINGS = {field.path: field for field in forms.fields()}
OTHER_VARIABLES = {"IMGPRO_CONFIG", "IMGPRO_ENGINE", "IMGPRO_SERVER", "IMGPRO_KEY"}


def by_name(paths):
    return pytest.mark.parametrize("path", paths, ids=[path.name for path in paths])


def test_the_made_pages_are_what_the_program_says():
    done = subprocess.run(
        [sys.executable, str(DOCS / "make_reference.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}: run python docs/make_reference.py"


def test_every_page_that_is_asked_for_is_there_and_linked():
    asked = {
        *("install.md", "first-run.md", "reverse-proxy.md", "upgrade.md", "disk-full.md", "move.md", "container.md"),
        *("settings.md", "commands.md", "exit-codes.md", "signals.md", "files.md", "monitoring.md"),
    }
    assert asked <= {path.name for path in PAGES}
    linked = set(re.findall(r"\]\(docs/([a-z-]+\.md)\)", (ROOT / "README.md").read_text()))
    assert {path.name for path in PAGES} <= linked


@by_name(PAGES)
def test_what_a_page_links_to_is_there(path):
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", path.read_text()):
        assert (path.parent / target).exists(), target


def named_commands(text):
    """Return the words of each `imgpro ...` in shell blocks and in backticks."""
    lines = [*shell_lines(text), *re.findall(r"`([^`\n]+)`", text)]
    for line in lines:
        for part in re.split(r"\s*(?:&&|\||;|\$\()\s*", line):
            found = re.match(r"(?:[A-Z_]+=\S+ |sudo (?:-u \w+ )?|exec )*(?:\S*/|\./run )?imgpro((?: .*)?)$", part)
            if found:
                yield shlex.split(found[1].rstrip(")"), comments=True)


@by_name(BY_HAND)
def test_the_commands_and_options_that_a_page_names_exist(path):
    for words in named_commands(path.read_text()):
        command, context = cli, click.Context(cli, info_name="imgpro")
        rest = list(words)
        while rest and isinstance(command, click.Group) and not rest[0].startswith("-"):
            name = rest.pop(0)
            found = command.get_command(context, name)
            assert found is not None, f"{path.name}: imgpro {' '.join(words)}"
            command, context = found, click.Context(found, info_name=name, parent=context)
        known = {name for param in command.get_params(context) for name in (*param.opts, *param.secondary_opts)}
        for word in rest:
            if word.startswith("-") and word != "-":
                assert word.partition("=")[0] in known | {"--help", "-h"}, f"{path.name}: imgpro {' '.join(words)}"


@by_name(BY_HAND)
def test_the_settings_and_variables_that_a_page_names_exist(path):
    text = path.read_text()
    known = {name for field in SETTINGS.values() for name in variables_of(field)} | OTHER_VARIABLES
    known |= {f"{name}_FILE" for name in known}
    assert set(re.findall(r"\bIMGPRO_[A-Z_]*[A-Z]\b", text)) <= known
    sections = "|".join({field.section for field in SETTINGS.values()})
    assert set(re.findall(rf"`((?:{sections})\.[a-z_]+)`", text)) <= set(SETTINGS) | {"config.toml"}
    for block in re.findall(r"(?ms)^ *```toml\n(.*?)^ *```", text):
        section = ""
        for line in block.splitlines():
            if header := re.match(r"\s*\[(\w+)\]", line):
                section = header[1]
            elif setting := re.match(r"\s*(\w+) *=", line):
                assert f"{section}.{setting[1]}" in SETTINGS, f"{path.name}: {line}"


def test_every_exit_code_is_explained():
    def below(kind):
        return {kind, *(found for child in kind.__subclasses__() for found in below(child))}

    assert {kind.exit_code for kind in below(OperatorError)} <= set(EXIT_CODES)


def test_every_file_in_a_used_data_directory_is_explained(tmp_path):
    told = (DOCS / "files.md").read_text()
    data = tmp_path / "data"
    with running(data, UNLIMITED) as server:
        server.must_upload(encoded(make_image("RGB", (60, 40)), "PNG"), "first.png")
        server.new_key("ann@example.org")
        there = {path.name for path in data.iterdir()}
    there |= {path.name for path in data.iterdir()}
    assert {name for name in there if f"`{name}`" not in told and f"`{name}/`" not in told} == set()


def test_every_signal_that_is_handled_is_explained():
    told = set(re.findall(r"`(SIG[A-Z0-9]+)`", (DOCS / "signals.md").read_text()))
    handled = set()
    for path in (ROOT / "imgpro" / "cli").glob("*.py"):
        source = path.read_text()
        if "add_signal_handler" in source or "signal.signal(" in source:
            handled |= set(re.findall(r"signal\.(SIG[A-Z0-9]+)\b(?!\s*_)", source))
    handled -= {"SIG_DFL", "SIG_IGN"}
    assert {"SIGTERM", "SIGINT", "SIGHUP"} <= handled
    assert handled <= told, handled - told


def test_every_metric_is_explained_and_none_besides(tmp_path):
    picture = encoded(make_image("RGB", (600, 400)), "JPEG")
    with running(tmp_path / "data", {**UNLIMITED, "IMGPRO_METRICS_ENABLED": "true"}) as server:
        found = server.must_upload(picture, "a.jpg")
        assert server.get(f"/t/{found['id']}.webp?size=m").status == 200
        there = set(re.findall(r"(?m)^# HELP (\w+) ", server.get("/metrics").body.decode()))
    told = set(re.findall(r"`((?:imgpro|process)_[a-z_]+)`", (DOCS / "monitoring.md").read_text()))
    assert there == told
