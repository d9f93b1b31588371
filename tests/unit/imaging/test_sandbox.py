"""A confined process can do nothing but compute: tried from inside, by the code that workers run."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from imgpro.imaging import landlock, sandbox, seccomp
from imgpro.imaging.protocol import SandboxReport, WorkerSettings

INSIDE = """
import ctypes, json, mmap, os, socket, sys, threading
import tempfile; tempfile.gettempdir()
from imgpro.imaging import sandbox
from imgpro.imaging.protocol import WorkerSettings
held = os.open(sys.argv[1], os.O_RDONLY)
os.chmod(sys.argv[1], 0o644)
libc = sandbox.libc
parent = os.getppid()
report = sandbox.enter(WorkerSettings(memory_bytes=256 << 20))
def outcome(deed):
    try:
        deed()
    except OSError as error:
        return type(error).__name__
    except MemoryError:
        return "MemoryError"
    return "worked"
def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")
def thread():
    done = []
    one = threading.Thread(target=lambda: done.append(1)); one.start(); one.join()
    assert done
deeds = {
    "open database": lambda: os.open(sys.argv[1], os.O_RDONLY),
    "unlink": lambda: os.unlink(sys.argv[1]),
    "stat": lambda: os.stat(sys.argv[1]),
    "ptrace parent": lambda: call({"x86_64": 101, "aarch64": 117}[os.uname_machine], 16, parent, 0, 0),
    "read parent memory": lambda: call({"x86_64": 310, "aarch64": 270}[os.uname_machine], parent, None, 0, None, 0, 0),
    "kill parent": lambda: os.kill(parent, 15),
    "processors of parent": lambda: os.sched_setaffinity(parent, {0}),
    "limit of parent": lambda: __import__("resource").prlimit(parent, 7, (1, 1)),
    "bind": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
    "pair": lambda: socket.socketpair(),
    "executable memory": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
    "io_uring": lambda: call(425, 1, None),
    "memory": lambda: bytearray(400 << 20),
    "pipe": lambda: os.pipe(),
}
seen = {name: outcome(deed) for name, deed in deeds.items()}
seen |= dict.fromkeys(sandbox.attempt(report)[0], "PermissionError")
seen["read held file"] = os.pread(held, 6, 0).decode()
seen["thread"] = outcome(thread)
os.write(1, json.dumps(seen).encode())
"""

needs_kernel = pytest.mark.skipif(
    not seccomp.available() or landlock.abi(sandbox.libc) == 0, reason="this kernel has no seccomp or no Landlock"
)


@needs_kernel
def test_nothing_but_computing_works_inside(tmp_path: Path) -> None:
    database = tmp_path / "imgpro.db"
    database.write_bytes(b"secret")
    code = INSIDE.replace("os.uname_machine", "os.uname().machine")
    done = subprocess.run([sys.executable, "-c", code, database], capture_output=True, timeout=60, check=True)
    seen = msgspec.json.decode(done.stdout)
    assert seen.pop("read held file") == "secret"
    assert seen.pop("thread") == "worked"
    assert seen.pop("memory") == "MemoryError"
    assert set(seen.values()) <= {"PermissionError"}, seen
    assert set(sandbox.FORBIDDEN) <= set(seen)
    assert database.read_bytes() == b"secret"


@needs_kernel
def test_describe_tries_it_for_real() -> None:
    report = sandbox.describe()
    assert report.seccomp
    assert report.no_new_privs
    assert report.landlock_abi >= 1
    assert set(report.denied) == set(sandbox.FORBIDDEN)
    assert report.open == ()
    assert report.limits["core_bytes"] == 0


def test_a_kernel_without_help_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "abi", lambda libc: 0)
    monkeypatch.setattr(seccomp, "available", lambda: False)
    report = sandbox.describe()
    assert (report.landlock_abi, report.seccomp) == (0, False)
    assert "socket" in report.open
    assert "exec" in report.open
    assert report.limits["open_files"] == sandbox.MAX_OPEN_FILES


@pytest.mark.parametrize("machine", list(seccomp.ARCHITECTURES))
def test_the_filter_is_well_formed(machine: str) -> None:
    code = seccomp.program(machine, 4711)
    count = len(code) // 8
    assert len(code) % 8 == 0
    assert count < 4096
    for index in range(count):
        operation, when_true, when_false = (
            int.from_bytes(code[index * 8 : index * 8 + 2], "little"),
            *code[index * 8 + 2 : index * 8 + 4],
        )
        assert index + 1 + max(when_true, when_false) < count or operation == seccomp.RETURN


def test_cpu_is_granted_job_by_job() -> None:
    code = "import resource; from imgpro.imaging import sandbox\nsandbox.allow_cpu(0.2)\nwhile True: pass"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert done.returncode < 0


def test_only_the_kept_file_stays_open() -> None:
    child = os.fork()
    if child == 0:
        ours, _theirs = socket.socketpair()
        sandbox.close_files_except(ours.fileno())
        still = [fd for fd in range(3, 200) if _is_open(fd)]
        os._exit(0 if still == [ours.fileno()] else 1)
    assert os.waitpid(child, 0)[1] == 0


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_a_report_survives_the_wire() -> None:
    report = SandboxReport(landlock_abi=3, seccomp=True, no_new_privs=True, limits={"core_bytes": 0})
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(report), type=SandboxReport) == report
    assert WorkerSettings().jobs > 0
