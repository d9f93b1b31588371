"""What processes of the tests write, kept where reading it disturbs nobody."""

import os
import tempfile
from pathlib import Path


class Transcript:
    """A file without a name that processes are given to write to (`stdout=`, `stderr=`).

    They share one position in it with whoever reads by `seek` and `read`: a line written in between would land in the
    middle of older ones. So all of it is appended (which `tempfile.TemporaryFile("a+b")` does not see to, since it
    opens without O_APPEND), and read by place.
    """

    def __init__(self) -> None:
        descriptor, name = tempfile.mkstemp()
        os.close(descriptor)
        self._descriptor = os.open(name, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        Path(name).unlink()

    def fileno(self) -> int:
        return self._descriptor

    def text(self) -> str:
        """All that was written so far."""
        size = os.fstat(self._descriptor).st_size
        return os.pread(self._descriptor, size, 0).decode(errors="replace")

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
