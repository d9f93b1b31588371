"""The words that the server, the zygote and the workers exchange, and how they are packed.

One message is one SOCK_SEQPACKET datagram of MessagePack; open files travel beside it as SCM_RIGHTS. Knows
nothing of Pillow, so that the server can import it.
"""

import array
import socket
from typing import Final

import msgspec

from imgpro.model import Ingested, Limits, Rendered, RenderJob

MAX_MESSAGE_BYTES: Final = 64 * 1024
MAX_FILES: Final = 3
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(MAX_FILES * array.array("i").itemsize)


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True, tag="worker"):
    """What a worker is allowed. Also the zygote's order to fork one; the worker's socket comes with it."""

    memory_bytes: int = 2 << 30  # address space on top of what the program itself takes
    deadline_s: float = 12.0  # of CPU time a job
    file_bytes: int = 1 << 30  # the longest output file
    jobs: int = 256  # then the worker is replaced
    resident_bytes: int = 256 << 20  # a worker that keeps more than this after a job is replaced
    nice: int = 10
    limits: Limits = Limits()


class SandboxReport(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """What confines a worker on this machine, as it found when it tried."""

    landlock_abi: int  # 0: the kernel has none
    seccomp: bool
    no_new_privs: bool
    limits: dict[str, int]  # resource limits in force, by name
    denied: tuple[str, ...] = ()  # what was tried after closing the sandbox and refused
    open: tuple[str, ...] = ()  # what was tried and, against all intentions, worked


class IngestTask(msgspec.Struct, frozen=True, tag="ingest"):
    """Files: source (read), cleaned picture (write), warm derivatives (write)."""

    warm_s: float  # no derivative is begun later than this after the start
    aside: bool = False  # whether half of the processors are to be left to others


class RenderTask(msgspec.Struct, frozen=True, tag="render"):
    """Files: source (read), derivative (write)."""

    job: RenderJob


class Done(msgspec.Struct, frozen=True, tag="done"):
    """A job's result. `leaving`: the worker ends itself after this answer."""

    ingested: Ingested | None = None
    rendered: Rendered | None = None
    leaving: bool = False


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """A job that ended in an ImgproError, by its code."""

    code: str
    message: str
    leaving: bool = False


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    """The zygote's answer to WorkerSettings. `pid` is 0 where the system refused."""

    pid: int


class Kill(msgspec.Struct, frozen=True, tag="kill"):
    """The order to end a worker at once. Only its parent can do that without hitting a stranger with its old pid."""

    pid: int


Task = IngestTask | RenderTask
Answer = SandboxReport | Done | Failed
Order = WorkerSettings | Kill

encode: Final = msgspec.msgpack.Encoder().encode
decode_task: Final = msgspec.msgpack.Decoder(Task).decode
decode_answer: Final = msgspec.msgpack.Decoder(Answer).decode
decode_order: Final = msgspec.msgpack.Decoder(Order).decode
decode_forked: Final = msgspec.msgpack.Decoder(Forked).decode


def send(sock: socket.socket, message: msgspec.Struct, files: tuple[int, ...] = ()) -> None:
    """Send one message with open files. Raises OSError; BlockingIOError where the other side does not read."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
    sock.sendmsg([encode(message)], rights, socket.MSG_NOSIGNAL)


def receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """Return one message, b"" when the other side is gone, and the files that came with it, not inheritable."""
    data, ancillary, _, _ = sock.recvmsg(MAX_MESSAGE_BYTES, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
    files = array.array("i")
    for level, kind, rights in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            files.frombytes(rights[: len(rights) - len(rights) % files.itemsize])
    return data, list(files)
