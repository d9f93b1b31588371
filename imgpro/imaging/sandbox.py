"""How a worker confines itself before it sees a stranger's bytes, and how `doctor` finds out what holds.

In order: resource limits, no privileges, Landlock, seccomp. What a kernel lacks is left out and reported; the
limits and the deadline kill remain. Knows nothing of pictures.
"""

import ctypes
import mmap
import os
import resource
import signal
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from imgpro.imaging import landlock, seccomp
from imgpro.imaging.protocol import SandboxReport, WorkerSettings, receive, send

PR_SET_PDEATHSIG: Final = 1
PR_SET_NO_NEW_PRIVS: Final = 38
PR_SET_DUMPABLE: Final = 4
CAPABILITY_VERSION_3: Final = 0x2008_0522
NOBODY: Final = 65_534
MAX_OPEN_FILES: Final = 64
LIMITS: Final = {
    "address_space_bytes": resource.RLIMIT_AS,
    "file_bytes": resource.RLIMIT_FSIZE,
    "open_files": resource.RLIMIT_NOFILE,
    "core_bytes": resource.RLIMIT_CORE,
}
libc: Final = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent process ends; at once where it already has."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def close_files_except(keep: int) -> None:
    """Close every descriptor but the three standard ones, which then lead nowhere, and `keep`."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    os.closerange(3, keep)
    os.closerange(keep + 1, 65_536)


def enter(settings: WorkerSettings) -> SandboxReport:
    """Confine this process for the rest of its life and return what is in force."""
    os.chdir("/")  # Pillow asks where it is when it saves a picture it opened; that must not be a folder that went
    _step_back(settings.nice)
    _limit(settings)
    _drop_privileges()
    no_new_privs = libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    landlock_abi = landlock.restrict(libc) if no_new_privs else 0
    filtered = False
    if no_new_privs and seccomp.available():
        try:
            seccomp.install(libc)
            filtered = True
        except OSError:
            pass
    return SandboxReport(
        landlock_abi=landlock_abi,
        seccomp=filtered,
        no_new_privs=no_new_privs,
        limits={name: resource.getrlimit(kind)[0] for name, kind in LIMITS.items()},
    )


def allow_cpu(seconds: float) -> None:
    """Let this process use `seconds` more of CPU time, rounded up; then the kernel ends it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + seconds) + 1, hard))


def address_space_bytes() -> int:
    """Return how much address space this process has mapped."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[0]) * mmap.PAGESIZE


def _step_back(nice: int) -> None:
    """Let the server go first: a lower CPU priority, and the first to go when memory runs out."""
    with suppress(OSError):  # forbidden by a service manager, which then sets it itself
        os.nice(nice)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("800")


def _limit(settings: WorkerSettings) -> None:
    wanted = {
        resource.RLIMIT_AS: address_space_bytes() + settings.memory_bytes,
        resource.RLIMIT_FSIZE: settings.file_bytes,
        resource.RLIMIT_NOFILE: MAX_OPEN_FILES,
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in wanted.items():
        _, hard = resource.getrlimit(kind)
        ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (ceiling, ceiling))
    # Where a file would grow past its limit, write() shall fail instead of ending the process.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def _drop_privileges() -> None:
    """Where the server is root, become nobody; in any case keep no capability."""
    parent = os.getppid()
    if os.geteuid() == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        except OSError:
            pass  # a container may not know that user
        die_with_parent(parent)  # the kernel forgets it when the user changes
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    libc.capset(header, (ctypes.c_uint32 * 6)())
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def describe(settings: WorkerSettings | None = None) -> SandboxReport:
    """Confine a child process, let it try what it must not be able to do, and return what it found.

    Forks: for the command line, not for a process with threads.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        child = os.fork()
        if child == 0:
            try:
                report = enter(settings or WorkerSettings())
                denied, worked = attempt(report)
                send(theirs, msgspec.structs.replace(report, denied=denied, open=worked))
            finally:
                os._exit(0)
        theirs.close()
        data, _ = receive(ours)
        os.waitpid(child, 0)
    if not data:
        return SandboxReport(landlock_abi=0, seccomp=False, no_new_privs=False, limits={})
    return msgspec.msgpack.decode(data, type=SandboxReport)


def attempt(report: SandboxReport) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Try each forbidden thing; return the names of those that were refused and of those that worked."""
    denied: list[str] = []
    worked: list[str] = []
    for name, deed in FORBIDDEN.items():
        if name == "exec" and not (report.seccomp or report.landlock_abi):
            worked.append(name)  # trying it would be the end of this process
            continue
        try:
            deed()
        except OSError:
            denied.append(name)
        else:
            worked.append(name)
    return tuple(denied), tuple(worked)


def _fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


FORBIDDEN: Final[dict[str, Callable[[], object]]] = {
    "read_file": lambda: os.close(os.open("/etc/passwd", os.O_RDONLY)),
    "write_file": lambda: os.close(os.open(tempfile.gettempdir(), os.O_WRONLY | os.O_TMPFILE, 0o600)),
    "list_directory": lambda: os.listdir("/"),
    "socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close(),
    "unix_socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).close(),
    "fork": _fork,
    "signal_parent": lambda: os.kill(os.getppid(), 0),
    "exec": lambda: os.execv("/bin/false", ["false"]),  # noqa: S606 - it must fail
}
"""What each name stands for."""
