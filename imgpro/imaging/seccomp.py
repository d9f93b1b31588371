"""The system calls a worker may make, as a kernel filter. Everything else fails with EPERM.

An allow-list, measured with every decoder and encoder: reading and writing files that are already open, memory,
threads, time. Nothing that opens, connects, starts or touches another process. x86-64 and aarch64.
"""

import ctypes
import errno
import os
import platform
import struct
from typing import Final

PR_SET_SECCOMP: Final = 22
PR_SET_NAME: Final = 15
SECCOMP_MODE_FILTER: Final = 2
KILL_PROCESS: Final = 0x8000_0000
ERRNO: Final = 0x0005_0000
ALLOW: Final = 0x7FFF_0000
CLONE_THREAD: Final = 0x0001_0000
PROT_EXEC: Final = 4
X32_BIT: Final = 0x4000_0000
# Offsets into struct seccomp_data; the low half of an argument on these little-endian machines.
NR, ARCH, ARG0, ARG2 = 0, 4, 16, 32
LOAD, JUMP_EQ, JUMP_SET, JUMP_GE, RETURN = 0x20, 0x15, 0x45, 0x35, 0x06

# name: (x86-64, aarch64); None where the machine does not have the call
CALLS: Final[dict[str, tuple[int | None, int | None]]] = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "fstat": (5, 80), "lseek": (8, 62),
    "munmap": (11, 215), "poll": (7, None), "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139), "pread64": (17, 67), "pwrite64": (18, 68), "readv": (19, 65), "writev": (20, 66),
    "sched_yield": (24, 124), "mremap": (25, 216), "madvise": (28, 233), "nanosleep": (35, 101),
    "getpid": (39, 172), "sendmsg": (46, 211), "recvmsg": (47, 212), "exit": (60, 93), "fcntl": (72, 25),
    "getcwd": (79, 17),  # Pillow asks when it saves a picture it opened; a worker's is "/"
    "ftruncate": (77, 46), "gettimeofday": (96, 169), "getrusage": (98, 165), "sysinfo": (99, 179),
    "sigaltstack": (131, 132), "gettid": (186, 178), "time": (201, None), "futex": (202, 98),
    "sched_getaffinity": (204, 123), "restart_syscall": (219, 128), "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115), "exit_group": (231, 94), "newfstatat": (262, 79), "ppoll": (271, 73),
    "set_robust_list": (273, 99), "getrandom": (318, 278), "membarrier": (324, 283), "rseq": (334, 293),
}  # fmt: skip
# Calls that are allowed with some arguments only.
MMAP, MPROTECT, CLONE, CLONE3, PRCTL, PRLIMIT, TGKILL, SCHED_SETAFFINITY = (
    (9, 222), (10, 226), (56, 220), (435, 435), (157, 167), (302, 261), (234, 131), (203, 122),
)  # fmt: skip
ARCHITECTURES: Final = {"x86_64": (0, 0xC000_003E), "aarch64": (1, 0xC000_00B7)}


def available() -> bool:
    """Tell whether this machine is one whose call numbers are known."""
    return platform.machine() in ARCHITECTURES


def program(machine: str, pid: int) -> bytes:
    """Return the filter for `machine`, as an array of struct sock_filter, for the process `pid`."""
    column, audit_arch = ARCHITECTURES[machine]
    code = [_op(LOAD, ARCH), _op(JUMP_EQ, audit_arch, 1, 0), _op(RETURN, KILL_PROCESS), _op(LOAD, NR)]
    if machine == "x86_64":
        code += [_op(JUMP_GE, X32_BIT, 0, 1), _op(RETURN, KILL_PROCESS)]
    for numbers in CALLS.values():
        number = numbers[column]
        if number is not None:
            code += [_op(JUMP_EQ, number, 0, 1), _op(RETURN, ALLOW)]
    denied, missing = ERRNO | errno.EPERM, ERRNO | errno.ENOSYS
    # The C library falls back to clone, whose flags a filter can read, when clone3 is not there.
    code += [_op(JUMP_EQ, CLONE3[column], 0, 1), _op(RETURN, missing)]
    code += _when(CLONE[column], ARG0, JUMP_SET, CLONE_THREAD, ALLOW, denied)
    code += _when(MMAP[column], ARG2, JUMP_SET, PROT_EXEC, denied, ALLOW)
    code += _when(MPROTECT[column], ARG2, JUMP_SET, PROT_EXEC, denied, ALLOW)
    code += _when(PRCTL[column], ARG0, JUMP_EQ, PR_SET_NAME, ALLOW, denied)
    code += _when(PRLIMIT[column], ARG0, JUMP_EQ, 0, ALLOW, denied)
    code += _when(SCHED_SETAFFINITY[column], ARG0, JUMP_EQ, 0, ALLOW, denied)  # of ourselves
    code += _when(TGKILL[column], ARG0, JUMP_EQ, pid, ALLOW, denied)  # abort() must be able to end us
    code.append(_op(RETURN, denied))
    return b"".join(code)


def install(libc: ctypes.CDLL) -> None:
    """Put the filter on this thread and all it will start. Needs no_new_privs; raises OSError where refused."""
    code = program(platform.machine(), os.getpid())
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(header), 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _op(code: int, value: int, when_true: int = 0, when_false: int = 0) -> bytes:
    """Return one instruction; the jumps count instructions to skip."""
    return struct.pack("HBBI", code, when_true, when_false, value)


def _when(number: int, argument: int, test: int, value: int, if_true: int, if_false: int) -> list[bytes]:
    """Return the instructions that decide the call `number` by one of its arguments."""
    return [
        _op(JUMP_EQ, number, 0, 4),
        _op(LOAD, argument),
        _op(test, value, 0, 1),
        _op(RETURN, if_true),
        _op(RETURN, if_false),
    ]
