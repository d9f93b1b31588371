"""The README is run, not only read: its curl lines against a server, its commands against the command line."""

import os
import re
import shutil
import subprocess

import pytest

from imgpro import settings
from imgpro.cli.commands import cli
from tests.peers import importing_from, picture_peer
from tests.pictures import encoded, make_image
from tests.servers import ROOT, UNLIMITED, running

README = ROOT / "README.md"
FENCED = re.compile(r"(?ms)^```(?:sh|console|bash)\n(.*?)^```")
PNG = encoded(make_image("RGB", (60, 40)), "PNG")
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
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    lines = curl_lines(readme)
    assert lines, "the README shows no first curl line"
    with picture_peer(PNG) as port, running(tmp_path / "data", {**UNLIMITED, **importing_from(port)}) as server:
        found = server.must_upload(PNG, "first.png")
        key = server.new_key("reader@example.org")
        for line in lines:
            local = re.sub(r"https?://[a-z.]*example\.(?:org|com|net)", f"http://127.0.0.1:{port}", line)
            local = re.sub(r"/t/(?:ID|\{id\}|<id>)\.", f"/t/{found['id']}.", local)
            status = run_line(local.replace("localhost:8080", f"127.0.0.1:{server.port}"), tmp_path, KEY=key)
            assert status in (200, 201, 303), (line, status)


def run_line(line, folder, **variables):
    """Run a line with the pictures it names in place; return the last status that curl saw."""
    for name in PICTURE.findall(line):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(PNG)
    shown = line.replace("curl ", "curl -sS -w '%{stderr}%{http_code}\\n' ")
    env = {**os.environ, **variables}
    done = subprocess.run(
        ["sh", "-c", shown], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, (line, done)
    return int(re.findall(r"(?m)^(\d{3})$", done.stderr)[-1])


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
    known = {field.variable for field in settings.fields()} | {
        "IMGPRO_CONFIG",
        "IMGPRO_DATA",
        "IMGPRO_LISTEN",
        "IMGPRO_BASE_URL",
        "IMGPRO_ENGINE",
    }
    assert named <= known, named - known


def test_what_it_links_to_is_there(readme):
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", readme):
        assert (ROOT / target).exists(), target
