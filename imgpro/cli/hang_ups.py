"""SIGHUP, from the first moment on: until somebody listens it is kept, and it never ends the process by itself."""

import os
import signal
import sys
from collections.abc import Callable


class HangUps:
    """Takes the signal for the rest of the process's life. Make it in the main thread."""

    def __init__(self) -> None:
        self._came = False
        self._listener: Callable[[], None] | None = None
        self._at_terminal = sys.stderr.isatty()
        signal.signal(signal.SIGHUP, self._take)

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` for each signal, at once for one that came before; it has to be fit for that."""
        self._listener = listener
        if self._came:
            listener()

    @property
    def terminal_gone(self) -> bool:
        """Tell whether the terminal that the server was started at has been closed, which sends the same signal."""
        return self._at_terminal and not os.isatty(sys.stderr.fileno())

    def close(self) -> None:
        """Ignore it from now on: the interpreter's own end would let it be fatal again."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _take(self, *_: object) -> None:
        self._came = True
        if self._listener is not None:
            self._listener()
