"""The container recipe in docs/container.md: what it says is so, and where Podman runs, it is followed to the letter."""

import contextlib
import http.client
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import tempfile
import time

import pytest
import yaml

from imgpro import forms
from imgpro.cli.commands import cli
from imgpro.settings import Server
from tests import box
from tests.built import built_archive
from tests.pictures import encoded, make_image
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "container.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
CONTAINERFILE = next(text for kind, text in BLOCKS if kind == "dockerfile")
COMPOSE = yaml.safe_load(next(text for kind, text in BLOCKS if kind == "yaml"))["services"]["imgpro"]
RUN = shlex.split(
    next(text for kind, text in BLOCKS if text.startswith("docker run")).split("\ndocker exec")[0].replace("\\\n", "")
)


def test_both_ways_to_run_it_say_the_same():
    options = " ".join(RUN)
    assert COMPOSE["read_only"] is True
    assert "--read-only" in RUN
    assert COMPOSE["cap_drop"] == ["ALL"]
    assert "--cap-drop ALL" in options
    assert COMPOSE["security_opt"] == ["no-new-privileges:true"]
    assert "--security-opt no-new-privileges" in options
    assert COMPOSE["init"] is True
    assert "--init" in RUN
    assert f"--memory {COMPOSE['mem_limit']} " in options
    assert f"--pids-limit {COMPOSE['pids_limit']} " in options
    assert COMPOSE["stop_grace_period"] == RUN[RUN.index("--stop-timeout") + 1] + "s"
    assert f"-p {COMPOSE['ports'][0]} " in options
    mounted = [place.partition(":")[2] for place in COMPOSE["volumes"]]
    assert mounted == json.loads(re.search(r"^VOLUME (.*)$", CONTAINERFILE, re.MULTILINE)[1])
    assert all(f":{place} " in options for place in mounted)


def test_it_names_what_there_is():
    variables = {field.variable for field in forms.fields()} | {"IMGPRO_DATA"}
    assert set(re.findall(r"\bIMGPRO_[A-Z_]+[A-Z]\b", PAGE)) - {"IMGPRO_MAIL_PASSWORD_FILE"} <= variables | {
        "IMGPRO_BASE_URL"
    }
    health = json.loads(re.search(r"^HEALTHCHECK .*CMD (.*)$", CONTAINERFILE, re.MULTILINE)[1])
    assert health[0] == "imgpro"
    assert health[1] in cli.commands
    for command in re.findall(r"imgpro imgpro ([a-z-]+)", PAGE):
        assert command in cli.commands
    # It is given longer than it takes.
    assert float(RUN[RUN.index("--stop-timeout") + 1]) > Server().stop_deadline_s


@pytest.fixture
def podman(tmp_path):
    """Podman with a storage of its own that holds a Debian, as a function that runs it."""
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed")
    tree = box._tree()
    short = tempfile.mkdtemp(prefix="pod")  # more than fifty letters it does not take
    places = ["--root", str(tmp_path / "root"), "--runroot", short, "--events-backend", "file"]
    if shutil.which("runc"):
        places += ["--runtime", "runc"]

    def run(*words, check=True, cwd=tmp_path):
        done = subprocess.run(
            ["podman", *places, *words], capture_output=True, text=True, check=False, cwd=cwd, timeout=240
        )
        assert done.returncode == 0 or not check, f"{words}: {done.stdout}{done.stderr}"
        return done

    pack = subprocess.Popen(["tar", "-C", str(tree), "--exclude=./var/cache/apt", "-c", "."], stdout=subprocess.PIPE)
    done = subprocess.run(
        ["podman", *places, "import", "-", "docker.io/library/debian:bookworm-slim"],
        stdin=pack.stdout,
        capture_output=True,
        text=True,
        check=False,
    )
    pack.stdout.close()
    if pack.wait() or done.returncode:
        pytest.skip(f"podman does not work here: {done.stderr[-300:]}")
    yield run
    run("rm", "--all", "--force", "--time", "0", check=False)
    shutil.rmtree(short, ignore_errors=True)
    subprocess.run(["umount", "-l", str(tmp_path / "root" / "overlay")], capture_output=True, check=False)


def limits():
    """No higher than ours: an engine in a container may not raise them."""
    files = min(1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    return ["--ulimit", f"nofile={files}:{files}", "--ulimit", "nproc=1024:1024"]


@pytest.mark.slow
def test_the_recipe_works(podman, tmp_path):
    context = tmp_path / "context"
    context.mkdir()
    shutil.copy(built_archive(), context)
    (context / "Containerfile").write_text(CONTAINERFILE)
    done = podman(
        "build", "--format", "docker", "--network", "host", *limits(), "-t", "imgpro", ".", cwd=context, check=False
    )
    if "Temporary failure resolving" in done.stdout + done.stderr:
        pytest.skip("no Debian mirror is reachable")
    assert done.returncode == 0, done.stdout + done.stderr

    # As the page says, but for the network, which is ours here, and the restarts.
    at = RUN.index("-p")
    words = [
        *RUN[1:at],
        *RUN[at + 2 : -1],
        *limits(),
        "--network",
        "host",
        "--read-only-tmpfs=false",
        "-e",
        "IMGPRO_LISTEN=127.0.0.1:0",
    ]
    for option in ("--restart", "unless-stopped"):  # it would hide how the server ends
        words.remove(option)
    if shutil.which("catatonit") is None:
        words.remove("--init")
    podman(*words, "imgpro")
    port = wait_for_port(podman)
    assert podman("exec", "imgpro", "id", "-u").stdout == "10001\n"
    assert podman("exec", "imgpro", "touch", "/x", check=False).returncode != 0
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("POST", "/v1/upload", encoded(make_image(), "PNG"), {"Content-Type": "image/png"})
        answer = connection.getresponse()
        assert answer.status == 201, answer.read()
        answer.read()
    assert "http://img.lan:8080/setup?t=" in podman("exec", "imgpro", "imgpro", "setup-link").stdout
    assert "refused to a worker" in podman("exec", "imgpro", "imgpro", "doctor").stdout
    url = f"http://127.0.0.1:{port}"
    podman("exec", "imgpro", "imgpro", "health", "--ready", "--url", url)

    # A clean stop, and on a volume that has become empty no new beginning.
    podman("stop", "imgpro")
    assert podman("inspect", "imgpro", "--format", "{{.State.ExitCode}}").stdout == "0\n"
    volume = podman("volume", "inspect", "imgpro-data", "--format", "{{.Mountpoint}}").stdout.strip()
    os.rename(volume, f"{volume}.away")
    os.mkdir(volume, 0o750)
    os.chown(volume, 10001, 10001)
    podman("start", "imgpro")
    assert podman("wait", "imgpro").stdout == "10\n"


def wait_for_port(podman):
    deadline = time.monotonic() + 60
    while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", (log := podman("logs", "imgpro")).stdout + log.stderr)):
        assert time.monotonic() < deadline, log.stdout + log.stderr
        time.sleep(0.2)
    return int(found[1])
