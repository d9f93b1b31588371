"""The built executable at work: that it runs on a bare machine, and that it leaves nothing behind.

Driven with an empty PATH and a home that does not exist. Faults of its temporary directory are real: file systems
without permission to execute, or full, mounted where only the tested process sees them.
"""

import contextlib
import fcntl
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

import imgpro.imaging.engine  # noqa: F401  # registers AVIF for reading the answers
from tests.built import ask, bare
from tests.patience import comes_true
from tests.pictures import encoded, film, make_image
from tests.servers import ROOT, UNLIMITED, Server, held_open, multipart
from tests.terminals import at_terminal

PNG = encoded(make_image("RGB", (900, 700)), "PNG")
FORMATS = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "avif": "AVIF", "gif": "GIF"}
MARKER = ".imgpro-unpacked"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@contextlib.contextmanager
def serving(program, data, place, *args, prefix=(), **more):
    server = Server(data, None, *args, program=(str(program),), prefix=prefix)
    server.env = {**UNLIMITED, **bare(place, **more)}
    try:
        yield server.start()
    finally:
        for pid in children(server.pid):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        server.close()


def children(pid):
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def gone(pid):
    """Tell whether a process has ended, all of its threads: until then it holds its locks."""
    try:
        dead = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        return dead and len(os.listdir(f"/proc/{pid}/task")) == 1
    except OSError:
        return True


def unpacked(place):
    return sorted(path.name for path in place.iterdir() if path.name.startswith("_MEI"))


# A bare machine


@pytest.fixture(scope="module")
def bare_root(tmp_path_factory, program):
    """A root with the C library, two devices and the executable: no Python, no shell, no programs at all."""
    root = tmp_path_factory.mktemp("bare")
    for name in ("proc", "dev", "tmp", "lib64", "data"):
        (root / name).mkdir()
    shown = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    loader = re.search(r"^\s*(/\S*ld-linux\S*)", shown, re.MULTILINE)[1]
    libraries = Path(re.search(r"libc\.so\.6 => (\S+)", shown)[1]).parent
    for name in ("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1"):
        target = root / libraries.relative_to("/") / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(libraries / name, target)
    (root / loader.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(loader, root / loader.lstrip("/"))
    shutil.copy(program, root / "imgpro")
    return root


def inside(root):
    """Return the words that run a command with `root` as its whole file system."""
    script = (
        'touch "$0/dev/null" "$0/dev/urandom" && mount --bind /dev/null "$0/dev/null" && '
        'mount --bind /dev/urandom "$0/dev/urandom" && mount --rbind /proc "$0/proc" && exec chroot "$0" "$@"'
    )
    return ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", script, str(root)]


@needs_root
def test_a_whole_life_on_a_machine_with_nothing_but_the_c_library(bare_root):
    env = {**os.environ, "TMPDIR": "/tmp", "HOME": "/nonexistent"}
    told = ask("/imgpro", "doctor", "--data", "/data/img", "--json", env=env, prefix=inside(bare_root))
    checks = {check["name"]: check for check in json.loads(told.stdout)}
    assert not [check for check in checks.values() if check["state"] == "red"], told.stdout
    assert "unpacked into /tmp" in checks["imgpro"]["found"]
    server = Server(Path("/data/img"), UNLIMITED, program=("/imgpro",), prefix=inside(bare_root))
    server.env |= {"TMPDIR": "/tmp", "HOME": "/nonexistent", "IMGPRO_METRICS_ENABLED": "true"}
    try:
        server.start()
        stored = {}
        for name, body in {
            "png": PNG, "jpeg": encoded(make_image("RGB", (900, 700)), "JPEG"), "webp": film("WEBP"),
            "gif": film("GIF"), "avif": encoded(make_image("RGB", (900, 700)), "AVIF"), "heic": (ROOT / "tests" / "data" / "grid.heic").read_bytes(),
            "bmp": encoded(make_image("RGB", (900, 700)), "BMP"),
        }.items():  # fmt: skip
            stored[name] = server.must_upload(body, f"picture.{name}")
            for extension, kind in FORMATS.items():
                answer = server.get(f"/t/{stored[name]['id']}.{extension}?size=s")
                assert answer.status == 200, (name, extension, answer)
                assert Image.open(io.BytesIO(answer.body)).format == kind
        for page in ("/", "/api", "/api/errors", "/openapi.json", "/metrics", "/static/swagger-ui-bundle.js"):
            assert server.get(page).status == 200, page
        (bare_root / "a.png").write_bytes(PNG)
        sent = ask("/imgpro", "upload", "--server", server.base, "/a.png", env=env, prefix=inside(bare_root))
        assert sent.stdout.startswith(f"{server.base}/"), sent
        assert (sent.returncode, sent.stderr) == (0, "")
        assert server.stop() == 0
        assert unpacked(bare_root / "tmp") == []
        server.start()
        for name, made in stored.items():
            assert server.get(f"/t/{made['id']}.webp?size=m").status == 200, name
        assert server.stop() == 0
        assert "Traceback" not in server.log()
    finally:
        server.close()
    assert unpacked(bare_root / "tmp") == []


# Starting


def first_answer(command, data, env):
    """Return how long it takes from the command to the first answer, in seconds."""
    server = Server(data, None, program=command)
    server.env = env
    started = time.monotonic()
    try:
        server.start()
        assert server.get("/healthz").status == 200
        return time.monotonic() - started
    finally:
        server.stop()
        server.close()


def test_it_starts_in_a_time_like_that_of_its_parts(program, place, tmp_path):
    env = bare(place)
    first_answer([str(program)], tmp_path / "data", env)  # makes the directory, warms the disk
    packed = min(first_answer([str(program)], tmp_path / "data", env) for _ in range(2))
    source = min(first_answer([sys.executable, "-m", "imgpro"], tmp_path / "data", dict(os.environ)) for _ in range(2))
    assert packed < 3 * source


def test_short_commands_load_no_server(program, place):
    """The database's library is small; the server, its templates and the decoders are not."""
    found = ask(program, "--version", env=bare(place, PYTHONVERBOSE="1"))
    assert (found.returncode, found.stderr) == (0, ""), "variables of Python mean nothing to a packed program"
    code = (
        "import sys, imgpro.__main__ as m\n"
        "sys.argv = ['imgpro', 'upload', '--help']\n"
        "try: m.main()\nexcept SystemExit: pass\n"
        "sys.exit(', '.join({'aiohttp', 'jinja2', 'PIL', 'uvloop'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


# Unpacking once, and leaving nothing


def test_workers_share_what_was_unpacked_once(program, place, tmp_path):
    with serving(program, tmp_path / "data", place, IMGPRO_IMAGING_WORKERS="3") as server:
        made = server.must_upload(PNG, "a.png")
        most, done = 0, threading.Event()

        def count():
            nonlocal most
            while not done.wait(0.01):
                most = max(most, len(unpacked(place)))

        counting = threading.Thread(target=count)
        counting.start()
        asking = [
            threading.Thread(target=server.get, args=(f"/t/{made['id']}.{extension}?size={size}",))
            for extension in FORMATS
            for size in "sml"
        ]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        (python,) = children(server.pid)
        (zygote,) = children(python)
        workers = children(zygote)
        assert workers
        os.kill(zygote, signal.SIGKILL)
        assert comes_true(lambda: server.upload(encoded(make_image("L", (300, 200)), "PNG"), "b.png").status == 201)
        done.set()
        counting.join()
        assert most == 1
        (folder,) = unpacked(place)
        (zygote,) = children(python)
        for pid in (python, zygote, *children(zygote)):
            libraries = set(re.findall(r"/\S*/(_MEI\w+)/", Path(f"/proc/{pid}/maps").read_text()))
            assert libraries == {folder}, "whoever unpacks for himself has libraries of his own"
        assert server.stop() == 0
    assert unpacked(place) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_leaves_nothing(program, place, tmp_path, number):
    with serving(program, tmp_path / "data", place) as server:
        assert len(unpacked(place)) == 1
        assert server.stop(number) == 0
    assert list(place.iterdir()) == []


def test_ctrl_c_at_a_terminal_is_one_signal(program, place, tmp_path):
    """It reaches both processes; the second one would end the server at once, in the middle of an upload."""
    command = [str(program), "run", "--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0"]
    with at_terminal(command, bare(place), tmp_path, stdout=True) as terminal:
        assert terminal.read_until(lambda text: "Ctrl+C" in text)
        terminal.write("\x03")
        code, _ = terminal.finish()
        assert code == 0
        assert "stopped" in terminal.text
    assert list(place.iterdir()) == []


def test_errors_leave_nothing(program, place, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        data = str(tmp_path / "data")
        busy = ask(program, "run", "--data", data, "--listen", address, env=bare(place))
    wrong = ask(program, "run", "--data", data, env=bare(place, IMGPRO_LOG_LEVEL="loud"))
    unknown = ask(program, "no-such-command", env=bare(place))
    assert [found.returncode for found in (busy, wrong, unknown)] == [74, 78, 2]
    assert all("Traceback" not in found.stderr for found in (busy, wrong, unknown))
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_while_it_unpacks_leaves_nothing(program, place, number):
    process = subprocess.Popen(
        [str(program), "version"], env=bare(place), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert comes_true(lambda: unpacked(place))
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode in (-number, 128 + number, 130, 1, 0)
    assert list(place.iterdir()) == []


def kill_python(loader, python):
    os.kill(python, signal.SIGKILL)


def kill_loader(loader, python):
    os.kill(loader, signal.SIGKILL)


def kill_both(loader, python):
    os.kill(loader, signal.SIGSTOP)  # so that it cannot clean up between the two
    os.kill(python, signal.SIGKILL)
    os.kill(loader, signal.SIGKILL)


@pytest.mark.parametrize("kill", [kill_python, kill_loader, kill_both])
def test_after_kill_9_nothing_is_lost_and_the_next_start_clears_up(program, place, tmp_path, kill):
    with serving(program, tmp_path / "data", place) as server:
        sources = [
            server.must_upload(encoded(make_image("RGB", (300 + n, 200)), "PNG"), "a.png")["src"] for n in range(3)
        ]
        (python,) = children(server.pid)
        family = [python, *children(python)]
        kill(server.pid, python)
        server.process.wait(30)
        assert comes_true(lambda: all(map(gone, family))), "nobody may live on alone"
        left = unpacked(place)
        if kill is not kill_both:
            assert left == []
        if kill is kill_loader:
            assert "stopped" in server.log(), "the server stops in order"
        server.start()
        assert len(unpacked(place)) == 1
        assert not set(left) & set(unpacked(place))
        for source in sources:
            assert server.get(f"/{source.split('/', 3)[3]}").status == 200
        assert server.stop() == 0
    assert list(place.iterdir()) == []


def test_an_upload_under_way_is_finished_when_the_loader_is_killed(program, place, tmp_path):
    with serving(program, tmp_path / "data", place) as server:
        (python,) = children(server.pid)
        content, kind = multipart([("file", "a.png", PNG)])
        with held_open(server, "POST", "/v1/upload", content, {"Content-Type": kind}) as rest:
            os.kill(server.pid, signal.SIGKILL)
            server.process.wait(10)
            time.sleep(0.3)
            answer = rest()
        assert answer.status == 201
        assert comes_true(lambda: gone(python))
        server.start()
        assert server.get(f"/t/{answer.json()['id']}.png").status == 200


def test_only_what_is_ours_and_unused_is_removed(program, place, tmp_path):
    def folder(name, marked=True):
        made = place / name
        (made / "inner").mkdir(parents=True)
        (made / "inner" / "file").write_text("x")
        if marked:
            (made / MARKER).write_text("")
        return made

    stale = folder("_MEI00000001aaaaaa")
    foreign = folder("_MEI00000002bbbbbb", marked=False)
    used = folder("_MEI00000003cccccc")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(stale, elsewhere)
    link = place / "_MEI00000004dddddd"
    link.symlink_to(elsewhere)
    (stale / "inner" / "out").symlink_to(elsewhere)
    others = folder("_MEI00000005eeeeee")
    if os.geteuid() == 0:
        os.chown(others, 65_534, 65_534)
    else:
        shutil.rmtree(others)
    lock = os.open(used, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert ask(program, "--version", env=bare(place)).returncode == 0
    finally:
        os.close(lock)
    assert not stale.exists()
    assert foreign.exists()
    assert used.exists()
    assert link.is_symlink()
    assert (elsewhere / "inner" / "file").read_text() == "x"
    assert others.exists() == (os.geteuid() == 0)
    # In the cache of our own service a folder needs no mark, unless it may only just be being made.
    assert ask(program, "--version", env=bare(place, CACHE_DIRECTORY=str(place))).returncode == 0
    assert foreign.exists()
    os.utime(foreign, (1, 1))
    assert ask(program, "--version", env=bare(place, CACHE_DIRECTORY=str(place))).returncode == 0
    assert not foreign.exists()
    assert not used.exists(), "the lock has gone"


@needs_root
def test_a_removal_that_was_cut_short_is_taken_up_again(program, place):
    stale = place / "_MEI00000001aaaaaa"
    (stale / "inner").mkdir(parents=True)
    for name in (MARKER, *"abcdefgh"):
        (stale / name).write_text("")
    stuck = mounted((str(stale / "inner"), "size=1m"))  # nobody can remove what is mounted
    env = {**bare(place), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
    assert ask(program, "--version", env=env, prefix=stuck).returncode == 0
    assert sorted(os.listdir(stale)) == [MARKER, "inner"]
    assert ask(program, "--version", env=bare(place)).returncode == 0
    assert list(place.iterdir()) == []


def test_two_at_once_do_not_touch_each_other(program, place, tmp_path):
    other = tmp_path / "imgpro-other"
    shutil.copy(program, other)
    with serving(program, tmp_path / "one", place) as one, serving(other, tmp_path / "two", place) as two:
        assert len(unpacked(place)) == 2
        assert one.stop() == 0
        assert ask(program, "version", env=bare(place)).returncode == 0
        assert len(unpacked(place)) == 1
        assert two.must_upload(PNG, "a.png")["format"] == "png"
        assert two.stop() == 0
    assert list(place.iterdir()) == []


def test_an_upgrade_in_its_place_does_not_disturb_a_running_server(program, place, tmp_path):
    mine = tmp_path / "imgpro"
    shutil.copy(program, mine)
    with serving(mine, tmp_path / "data", place) as server:
        fresh = tmp_path / "imgpro.new"
        fresh.write_bytes(b"#!/bin/false\n" + b"another version" * 1000)
        fresh.chmod(0o755)
        fresh.replace(mine)
        (python,) = children(server.pid)
        # Modules that are loaded later come from the file that it was started from.
        held = [os.readlink(path) for path in Path(f"/proc/{python}/fd").iterdir()]
        assert f"{mine} (deleted)" in held
        os.kill(children(python)[0], signal.SIGKILL)
        assert comes_true(lambda: server.upload(PNG, "a.png").status == 201), server.log()
        made = server.must_upload(PNG, "a.png")
        for path in (f"/t/{made['id']}.avif?size=s", "/api/examples", "/dashboard", "/metrics", f"/{made['id']}"):
            assert server.get(path).status < 500, path
        assert len(unpacked(place)) == 1
        assert server.stop() == 0
        assert "Traceback" not in server.log()
    assert list(place.iterdir()) == []


def test_programs_of_the_system_get_their_own_libraries(program, place, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    tool = tools / "xclip"
    tool.write_text(f"#!/bin/sh\n/usr/bin/env > {tmp_path}/seen\n")
    tool.chmod(0o755)
    (tmp_path / "a.png").write_bytes(PNG)
    with serving(program, tmp_path / "data", place) as server:
        for given in ({}, {"LD_LIBRARY_PATH": "/opt/mine"}):
            env = {**bare(place, DISPLAY=":0", **given), "PATH": str(tools)}
            sent = ask(program, "upload", "--copy", "--server", server.base, str(tmp_path / "a.png"), env=env)
            assert sent.returncode == 0, sent.stderr
            seen = dict(line.split("=", 1) for line in (tmp_path / "seen").read_text().splitlines())
            assert seen.get("LD_LIBRARY_PATH") == given.get("LD_LIBRARY_PATH")
            assert not [name for name in seen if name.startswith("_PYI")]
            assert seen["TMPDIR"] == str(place)


# Where it cannot unpack


def mounted(*mounts):
    """Return the words that run a command among mounts of its own: (folder, options of a tmpfs, or what to bind)."""
    script = "".join(f"mount -t tmpfs -o {options} none {folder} && " for folder, options in mounts)
    return ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", f'{script}exec "$0" "$@"']


@needs_root
@pytest.mark.parametrize("options", ["noexec", "size=4m", "nr_inodes=20", "ro"])
def test_a_place_that_does_not_do_is_passed_over(program, options, tmp_path):
    prefix = mounted(("/tmp", options), ("/var/tmp", "size=400m"))
    mine = tmp_path / "imgpro"
    shutil.copy(program, mine)
    inner = 'cp "$0" /var/tmp/imgpro; /var/tmp/imgpro doctor --json --data /var/tmp/data; ls -A /var/tmp /tmp >&2'
    # The executable lies below the folder that is hidden: it is handed in as an open file.
    with mine.open("rb") as file:
        told = subprocess.run(
            [*prefix, "/bin/sh", "-c", inner, f"/proc/self/fd/{file.fileno()}"],
            env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}, cwd="/", capture_output=True, text=True,
            pass_fds=(file.fileno(),), check=False,
        )  # fmt: skip
    found = {check["name"]: check["found"] for check in json.loads(told.stdout)}
    assert found["imgpro"].endswith("unpacked into /var/tmp"), told
    assert "_MEI" not in told.stderr


@needs_root
@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_a_place_where_others_could_exchange_it_is_passed_over(program, mode, tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    theirs.chmod(mode)
    if mode == 0o755:
        os.chown(theirs, 65_534, 65_534)
    told = ask(program, "doctor", "--json", "--data", str(tmp_path / "data"), env=bare(theirs))
    found = {check["name"]: check["found"] for check in json.loads(told.stdout)}
    assert " unpacked into /" in found["imgpro"]
    assert str(theirs) not in found["imgpro"]


@needs_root
@pytest.mark.parametrize(("options", "words"), [("noexec", "noexec"), ("size=4m", "MB left")])
def test_where_no_place_does_one_sentence_says_what_to_do(program, options, words, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    script = (
        f"mkdir -p /run/imgpro-test && mount -t tmpfs -o size=100m none /run/imgpro-test && cp {program} "
        "/run/imgpro-test/imgpro && mount -o remount,ro /run/imgpro-test && "
    )
    for folder in ("/tmp", "/var/tmp"):
        script += f"mount -t tmpfs -o {options} none {folder} && "
    script += "exec /run/imgpro-test/imgpro version"
    told = subprocess.run(
        ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", script],
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/nonexistent"}, cwd="/", capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert told.returncode == 74, told
    assert told.stdout == ""
    sentence, remedy = told.stderr.splitlines()
    assert sentence.startswith("imgpro: ")
    assert words in sentence
    assert "/tmp " in sentence
    assert "/var/tmp " in sentence
    assert "/run/imgpro-test is read-only" in sentence
    assert remedy.startswith("Try: TMPDIR=")
