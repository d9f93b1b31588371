"""A Debian box with a systemd of its own, for what only a whole machine shows: services, packages, restarts, reboots.

It is a container of systemd-nspawn on an overlay, with its own network cable to this machine. Needs root; skips with
the reason where a box cannot be had. The tree below the overlays is made once (40 s) and kept in the user's cache.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest

TOOLS = {"systemd-nspawn": "systemd-container", "debootstrap": "debootstrap", "ip": "iproute2", "nsenter": "util-linux"}
PACKAGES = "systemd,systemd-sysv,dbus,curl"
SUITE = "bookworm"
# What systemd-nspawn keeps from its boxes, and a machine has.
MORE_CALLS = "landlock_create_ruleset landlock_add_rule landlock_restrict_self"
BOOT_S = 60.0
REBOOT_STATUS = 133  # what systemd-nspawn exits with when the box wants to be started again
CGROUPS = ("", "unified", "systemd")  # below /sys/fs/cgroup: version 2, or the two that systemd uses beside version 1
PLAIN = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
PLAIN |= {"SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}


class Box:
    """A machine that has booted. `root` is its file system seen from here, `address` where it is on the network."""

    def __init__(self, folder: Path, root: Path, number: int) -> None:
        self.root = root
        self.name = f"imgbox{number}"
        self.address = f"10.213.{number}.2"
        self.peer = f"10.213.{number}.1"  # this machine's address on the same cable
        self._console = folder / "console"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._init = 0

    def boot(self) -> None:
        """Start the box and wait until its systemd has nothing more to do."""
        command = ["systemd-nspawn", "--quiet", "-D", str(self.root), "--boot", "--register=no", "--keep-unit"]
        command += ["--network-veth", f"--machine={self.name}", "--resolv-conf=off", "--timezone=off"]
        command.append(f"--system-call-filter={MORE_CALLS}")
        with self._console.open("ab") as console:
            self._nspawn = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, preexec_fn=self._enter_cgroup
            )
        deadline = time.monotonic() + BOOT_S
        while not self._connect():
            if self._nspawn.poll() is not None:
                pytest.skip(f"a container cannot be started here: {self.console()[-500:]}")
            assert time.monotonic() < deadline, f"the box did not come up:\n{self.console()}"
            time.sleep(0.05)
        while (state := self.run("systemctl", "is-system-running", "--wait", check=False).stdout.strip()) != "running":
            failed = state in ("degraded", "maintenance") and self.run("systemctl", "--failed", "--no-legend").stdout
            assert not failed, f"{state}: {failed}\n{self.console()}"
            assert time.monotonic() < deadline, f"{state}\n{self.console()}"
            time.sleep(0.05)

    def run(
        self,
        *command: str,
        check: bool = True,
        stdin: str = "",
        env: dict[str, str] | None = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the box as its root, with none of this machine's environment."""
        words = ["nsenter", "-t", str(self._init), "-a", *command]
        done = subprocess.run(
            words,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            env={**PLAIN, **(env or {})},
        )
        assert done.returncode == 0 or not check, (
            f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    def put(self, source: Path, target: str, mode: int = 0o755) -> None:
        """Copy a file to an absolute path in the box. Not below /tmp or /run, which are its own."""
        path = self.root / target.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)
        path.chmod(mode)

    def put_folder(self, source: Path, target: str) -> None:
        """Copy a folder to an absolute path in the box that does not exist yet."""
        shutil.copytree(source, self.root / target.lstrip("/"), symlinks=True)

    def processes(self) -> list[Path]:
        """Return the directories in this machine's /proc of what runs in the box."""
        own = os.readlink(f"/proc/{self._init}/ns/pid")
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(path / "ns/pid") == own:
                    found.append(path)
        return found

    def reboot(self) -> None:
        """Restart the whole machine; what lies on its disk stays."""
        self.run("systemctl", "reboot", check=False)
        assert self._nspawn is not None
        assert self._nspawn.wait(BOOT_S) == REBOOT_STATUS, self.console()
        self.boot()

    def journal(self, unit: str) -> str:
        """Return what a unit has written, without the journal's own columns."""
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit).stdout

    def console(self) -> str:
        """Return what was written on the screen."""
        return self._console.read_text(errors="replace")

    def close(self) -> None:
        """Pull the plug."""
        if self._nspawn is not None and self._nspawn.poll() is None:
            self._nspawn.terminate()  # it ends what runs in the box
            try:
                self._nspawn.wait(10)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait()
        for folder in self._cgroups():
            for inner in sorted(folder.rglob("*/"), reverse=True):
                with contextlib.suppress(OSError):
                    inner.rmdir()
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _cgroups(self) -> list[Path]:
        places = [Path("/sys/fs/cgroup") / name for name in CGROUPS]
        return [place / self.name for place in places if (place / "cgroup.procs").exists()]

    def _enter_cgroup(self) -> None:
        """Move the new process to a group of its own: two boxes in one would take each other's services for theirs."""
        for folder in self._cgroups():
            folder.mkdir(exist_ok=True)
            (folder / "cgroup.procs").write_text(str(os.getpid()))

    def _connect(self) -> bool:
        """Plug the cable in; False while the box is not that far."""
        assert self._nspawn is not None
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")
        try:
            self._init = int(children.read_text().split()[0])
            started = "systemd" in Path(f"/proc/{self._init}/comm").read_text()
        except (OSError, IndexError):
            return False
        if not started:
            return False
        inside = ["nsenter", "-t", str(self._init), "-n", "ip"]
        for words in (
            ["ip", "address", "replace", f"{self.peer}/30", "dev", f"ve-{self.name}"],
            ["ip", "link", "set", f"ve-{self.name}", "up"],
            [*inside, "address", "replace", f"{self.address}/30", "dev", "host0"],
            [*inside, "link", "set", "host0", "up"],
            [*inside, "route", "replace", "default", "via", self.peer],
        ):
            if subprocess.run(words, capture_output=True, check=False).returncode != 0:
                return False
        return True


@contextlib.contextmanager
def booted(folder: Path) -> Iterator[Box]:
    """Boot a fresh box and pull its plug in the end; its changes lie below `folder`."""
    below = _tree()
    with contextlib.ExitStack() as parts:
        box = Box(folder, folder / "box", parts.enter_context(_number()))
        box.root.mkdir()
        _mount(below, folder, box.root, parts)
        parts.callback(box.close)
        box.boot()
        yield box


def _unmount(path: Path) -> None:
    subprocess.run(["umount", "-l", str(path)], check=False, capture_output=True)


def _mount(below: Path, folder: Path, root: Path, parts: contextlib.ExitStack) -> None:
    """Lay an overlay over the tree; its upper half lies in memory where the disk is an overlay already."""
    upper, work = folder / "upper", folder / "work"
    for attempt in range(2):
        upper.mkdir(exist_ok=True)
        work.mkdir(exist_ok=True)
        options = f"lowerdir={below},upperdir={upper},workdir={work}"
        words = ["mount", "-t", "overlay", "overlay", "-o", options, str(root)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            parts.callback(_unmount, root)
            return
        if attempt == 0:
            memory = folder / "memory"
            memory.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(memory)], capture_output=True, check=False)
            parts.callback(_unmount, memory)
            upper, work = memory / "upper", memory / "work"
    pytest.skip(f"no overlay can be mounted here: {done.stderr.strip()}")


@contextlib.contextmanager
def _number() -> Iterator[int]:
    """Reserve a number that no other box of this machine has."""
    folder = _cache()
    for number in range(1, 200):
        with (folder / f"number-{number}").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield number
            return
    raise AssertionError("two hundred boxes run already")


def _tree() -> Path:
    """Return the tree of a fresh Debian, made now if there is none. Skips where that cannot be."""
    if os.geteuid() != 0:
        pytest.skip("a box with its own systemd needs root")
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool, path=path) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    tree = _cache() / f"{SUITE}-{PACKAGES.replace(',', '-')}"
    with (_cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tree.is_dir():
            _make_tree(tree)
    return tree


def _make_tree(tree: Path) -> None:
    new = tree.with_name(f"{tree.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    words = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(new)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a Debian tree could not be made: {(done.stdout + done.stderr)[-500:]}")
    (new / "etc/hostname").write_text("box\n")
    for unit in ("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer"):
        with contextlib.suppress(FileNotFoundError):
            (new / f"etc/systemd/system/timers.target.wants/{unit}").unlink()  # nothing that starts by itself
    new.rename(tree)


def _cache() -> Path:
    folder = Path(platformdirs.user_cache_dir("imgpro-tests", appauthor=False)) / "boxes"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
