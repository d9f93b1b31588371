"""One line of what `imgpro doctor` says."""

from typing import Literal

import msgspec

State = Literal["green", "yellow", "red"]


class Check(msgspec.Struct, frozen=True):
    """One line of the report. Red means that something imgpro needs does not work."""

    name: str
    state: State
    found: str

    def as_dict(self) -> dict[str, str]:
        """Return the line for `--json`."""
        return {"name": self.name, "state": self.state, "found": self.found}
