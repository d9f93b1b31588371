"""The README is run, not only read: its curl lines against a server, its commands against the command line."""

import os
import re
import shutil
import subprocess
from typing import NamedTuple

import pytest

from imgpro import forms
from imgpro.cli.commands import cli
from tests.peers import importing_from, picture_peer
from tests.pictures import encoded, make_image
from tests.servers import ROOT, UNLIMITED, running

README = ROOT / "README.md"
FENCED = re.compile(r"(?ms)^```(?:sh|console|bash)\n(.*?)^```")
PNG = encoded(make_image("RGB", (60, 40)), "PNG")
MARK = "@@ "
PICTURE = re.compile(r"(?:@|-T ?)([\w./~-]+\.\w{3,4})\b")


@pytest.fixture(scope="module")
def readme():
    if not README.is_file():
        pytest.skip("there is no README.md yet")
    return README.read_text()


def shell_lines(text):
    """Return the commands of all shell blocks; continued lines are joined, prompts and comments left out."""
    joined = "\n".join(FENCED.findall(text)).replace("\\\n", " ")
    lines = [line.strip().removeprefix("$ ").strip() for line in joined.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def curl_lines(text):
    return [line for line in shell_lines(text) if "curl" in line and "localhost:8080" in line]


def test_every_curl_line_works_as_pasted(readme, tmp_path):
    lines = curl_lines(readme)
    assert lines, "the README shows no first curl line"
    with picture_peer(PNG) as port, running(tmp_path / "data", {**UNLIMITED, **importing_from(port)}) as server:
        found = server.must_upload(PNG, "first.png")
        key = server.new_key("reader@example.org")
        local = [
            re.sub(r"/t/(?:ID|\{id\}|<id>)\.", f"/t/{found['id']}.", from_peer(line, port)).replace(
                "localhost:8080", f"127.0.0.1:{server.port}"
            )
            for line in lines
        ]
        for run in run_lines(local, tmp_path, KEY=key):
            assert run.statuses, run
            assert set(run.statuses) <= {200, 201, 303}, run


def from_peer(line, port):
    """Return a line that imports from a peer on this machine instead of a site on the web."""
    return re.sub(r"https?://(?:[a-z.]*example\.(?:org|com|net)|www\.w3\.org)(?=/)", f"http://127.0.0.1:{port}", line)


class Run(NamedTuple):
    """A line that was run: the statuses that curl saw in it, and what it printed."""

    line: str
    statuses: list[int]
    output: str


def run_lines(lines, folder, *, picture=PNG, options="", **variables):
    """Run lines in one shell, as they are pasted, with the pictures they name in place; `options` are for curl."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    for name in {name for line in lines for name in PICTURE.findall(line)}:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture)
    script = [f"""curl() {{ command curl -sS -w '%{{stderr}}\\n{MARK}%{{http_code}}\\n' {options} "$@"; }}"""]
    for line in lines:
        script += [f"echo; echo {MARK}next", f"echo {MARK}next >&2", line]
    text = "\n".join(script) + "\n"
    env = {**{name: value for name, value in os.environ.items() if name != "KEY"}, **variables}
    done = subprocess.run(
        ["sh", "-c", text],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
    )
    outputs, errors = (part.split(f"{MARK}next\n")[1:] for part in (done.stdout, done.stderr))
    assert len(outputs) == len(errors) == len(lines), done
    statuses = [[int(status) for status in re.findall(rf"(?m)^{MARK}(\d{{3}})$", one)] for one in errors]
    for line, one in zip(lines, errors, strict=True):
        # What has no end is listened to for as long as the line says.
        assert "curl: (" not in (one.replace("curl: (28)", "") if "--max-time" in line else one), (line, one)
    return [Run(*row) for row in zip(lines, statuses, outputs, strict=True)]


def test_the_commands_it_names_exist(readme):
    code = "\n".join([*shell_lines(readme), *re.findall(r"`([^`\n]+)`", readme)])
    named = set(re.findall(r"(?:^|[ /])imgpro ([a-z-]+)", code, re.MULTILINE))
    assert named <= set(cli.commands), named - set(cli.commands)
    tasks = set(re.findall(r"\./run ([a-z-]+)", code))
    assert tasks, "the README does not say how to run the tests"
    script = (ROOT / "run").read_text()
    for task in tasks:
        assert re.search(rf"(?m)^    {task}\)", script), f"./run {task}"


def test_the_variables_it_names_exist(readme):
    named = set(re.findall(r"IMGPRO_[A-Z_]*[A-Z]", readme))
    known = {field.variable for field in forms.fields()} | {
        "IMGPRO_CONFIG",
        "IMGPRO_DATA",
        "IMGPRO_LISTEN",
        "IMGPRO_BASE_URL",
        "IMGPRO_ENGINE",
        "IMGPRO_KEY",
        "IMGPRO_SERVER",
    }
    assert named <= known, named - known


def test_what_it_links_to_is_there(readme):
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", readme):
        assert (ROOT / target).exists(), target
