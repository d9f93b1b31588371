"""The child process that decodes: one job at a time, inside the sandbox, until its socket closes.

Runs in a fork of the zygote, with Pillow loaded. Knows the server only as the other end of one socket, and files
only as descriptors that come with a job.
"""

import errno
import mmap
import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import IO, Final, NoReturn, cast

from PIL import _imaging

from imgpro.errors import ImageBroken, ImageTooLarge, ImgproError, StorageFull
from imgpro.imaging import engine, sandbox
from imgpro.imaging.examine import examine
from imgpro.imaging.ingest import Upload, ingest
from imgpro.imaging.protocol import (
    Done,
    Failed,
    IngestTask,
    RenderTask,
    Task,
    WorkerSettings,
    decode_task,
    receive,
    send,
)
from imgpro.imaging.render import render
from imgpro.model import Ingested, Limits, Rendered
from imgpro.processors import at_half

IDLE_MS: Final = 1_000
# Pixel memory kept between jobs: giving it back and faulting it in again costs a tenth of a decode.
KEPT_BLOCKS: Final = 8  # of 16 MB, enough for a 24-megapixel picture
# Larger pieces go back to the system when freed. Left alone, the C library begins to keep pieces of up to 32 MB,
# and after a few jobs the address space is full of holes too small for a large picture.
M_MMAP_THRESHOLD: Final = -3
MMAP_THRESHOLD_BYTES: Final = 4 << 20


def main(sock: socket.socket, settings: WorkerSettings, parent: int) -> NoReturn:
    """Confine this process and serve jobs from `sock` until it closes. Never returns."""
    sandbox.die_with_parent(parent)
    sandbox.close_files_except(sock.fileno())
    engine.apply_limits(settings.limits)
    _imaging.set_blocks_max(KEPT_BLOCKS)
    sandbox.libc.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
    try:
        worker = Worker(sock, settings)
        send(sock, sandbox.enter(settings))
        worker.serve()
    except OSError:
        pass  # the server is gone
    os._exit(0)


class Worker:
    """Serves jobs one by one. Ends itself after its share of them, or when it cannot give memory back."""

    def __init__(self, sock: socket.socket, settings: WorkerSettings) -> None:
        self._sock = sock
        self._settings = settings
        self._jobs_left = settings.jobs
        self._readable = select.poll()
        self._readable.register(sock, select.POLLIN)
        self._statm = os.open("/proc/self/statm", os.O_RDONLY)  # nothing can be opened later

    def serve(self) -> None:
        """Take jobs until the server closes the socket or this worker is due for replacement."""
        while self._jobs_left > 0:
            data, files = self._next()
            if not data:
                return
            try:
                answer = self._answer(decode_task(data), files)
            finally:
                for file in files:
                    os.close(file)
            send(self._sock, answer)
            if answer.leaving:
                return

    def _next(self) -> tuple[bytes, list[int]]:
        """Wait for a job. After a second of nothing to do, give back the memory kept for the next one."""
        if not self._readable.poll(IDLE_MS):
            release_memory()
        return receive(self._sock)

    def _answer(self, task: Task, files: list[int]) -> Done | Failed:
        """Do one job; every failure of it becomes an answer."""
        self._jobs_left -= 1
        sandbox.allow_cpu(self._settings.deadline_s)
        try:
            if isinstance(task, IngestTask):
                with at_half() if task.aside else nullcontext():
                    done = Done(ingested=self._ingest(task, *files))
            else:
                done = Done(rendered=self._render(task, *files))
        except MemoryError:
            return Failed(ImageTooLarge.code, ImageTooLarge.message, leaving=True)
        except ImgproError as error:
            return Failed(error.code, error.message, leaving=self._is_due())
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return Failed(StorageFull.code, StorageFull.message, leaving=self._is_due())
            if error.errno == errno.EIO:
                return Failed(ImgproError.code, ImgproError.message, leaving=self._is_due())
            # The descriptors are sound, so what failed is a limit: the output outgrew what a job may write.
            return Failed(ImageTooLarge.code, ImageTooLarge.message, leaving=True)
        except Exception:  # noqa: BLE001 - see below
            # Nothing but the picture can have caused it; it has shown a fault in our code or a decoder's.
            return Failed(ImageBroken.code, ImageBroken.message, leaving=True)
        return Done(ingested=done.ingested, rendered=done.rendered, leaving=self._is_due())

    def _is_due(self) -> bool:
        """Tell whether this worker should be replaced: it has done its share, or holds on to memory."""
        if self._jobs_left <= 0:
            return True
        if self._resident_bytes() <= self._settings.resident_bytes:
            return False
        release_memory()
        return self._resident_bytes() > self._settings.resident_bytes

    def _resident_bytes(self) -> int:
        """Return how much memory this process holds."""
        return int(os.pread(self._statm, 256, 0).split()[1]) * mmap.PAGESIZE

    def _render(self, task: RenderTask, source: int, output: int) -> Rendered:
        with mapped(source) as file:
            data, width, height = render(opened(file), task.job)
        write_at(output, data, 0)
        return Rendered(length=len(data), width=width, height=height)

    def _ingest(self, task: IngestTask, source: int, cleaned: int, output: int) -> Ingested:
        until = time.monotonic() + task.warm_s
        limits = self._settings.limits
        with mapped(source) as file:
            upload = write_cleaned(file, limits, cleaned)
        end = 0

        def write(data: bytes) -> tuple[int, int]:
            nonlocal end
            offset, end = end, end + len(data)
            return offset, write_at(output, data, offset)

        with mapped(source if upload.cleaned_bytes is None else cleaned) as file:
            return ingest(opened(file), upload, limits, write, lambda: time.monotonic() < until)


def write_cleaned(file: mmap.mmap | None, limits: Limits, cleaned: int) -> Upload:
    """Examine the upload and write its cleaned form, where it needs one, to the descriptor `cleaned`."""
    examined = examine(memoryview(b"" if file is None else file), limits)
    if examined.parts is None:
        return Upload(examined.probe, examined.removed, None)
    os.ftruncate(cleaned, 0)
    length = 0
    for part in examined.parts:
        length += write_at(cleaned, part, length)
    return Upload(examined.probe, examined.removed, length)


@contextmanager
def mapped(file: int) -> Iterator[mmap.mmap | None]:
    """Map an open file for reading; None where it is empty. Its own position is not touched."""
    length = os.fstat(file).st_size
    if length == 0:
        yield None
        return
    view = mmap.mmap(file, length, access=mmap.ACCESS_READ)
    try:
        yield view
    finally:
        with suppress(BufferError):  # an exception on its way may still refer to a piece; the map goes when that does
            view.close()


def opened(file: mmap.mmap | None) -> IO[bytes]:
    """Return the map as the file object that decoders want."""
    if file is None:
        raise ImageBroken
    return cast(IO[bytes], file)


def write_at(file: int, data: bytes | memoryview, offset: int) -> int:
    """Write all of `data` at `offset` and return its length in bytes."""
    view = memoryview(data)
    written = 0
    while written < len(view):
        written += os.pwrite(file, view[written:], offset + written)
    return written


def release_memory() -> None:
    """Give freed memory back to the system."""
    _imaging.clear_cache()
    sandbox.libc.malloc_trim(0)
