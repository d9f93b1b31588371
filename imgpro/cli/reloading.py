"""SIGHUP: settings are read again, and what can change while the server runs changes."""

import logging
from collections.abc import Callable

from imgpro.appliance import Appliance
from imgpro.cli.supervisor import Supervisor
from imgpro.sources import Loaded

log = logging.getLogger(__name__)


class Reloading:
    """Reads the settings again when asked. Invalid ones change nothing."""

    def __init__(
        self, loaded: Loaded, load_again: Callable[[], Loaded], appliance: Appliance, supervisor: Supervisor
    ) -> None:
        self._loaded = loaded
        self._load_again = load_again
        self._appliance = appliance
        self._supervisor = supervisor

    def ask(self) -> None:
        """Begin a reload; comes from the signal."""

    async def close(self) -> None:
        """End a reload that is under way."""
