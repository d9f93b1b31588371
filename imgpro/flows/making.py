"""Which pictures are being transformed right now, so that nothing that was made of a deleted one is kept."""

import contextlib
from collections.abc import Iterator


class Ticket:
    """Permission to keep what is being made of one picture, until the picture goes."""

    __slots__ = ("forbidden",)

    def __init__(self) -> None:
        self.forbidden = False


class Making:
    """Tickets by digest. Take one first and only then make sure that the picture is still there.

    A deletion takes the row away before it calls `forbid`. So either the look at the row comes too late and finds
    nothing, or the ticket was there already and is forbidden.
    """

    def __init__(self) -> None:
        self._tickets: dict[str, list[Ticket]] = {}

    def __len__(self) -> int:
        return len(self._tickets)

    @contextlib.contextmanager
    def of(self, digest: str) -> Iterator[Ticket]:
        """Hold a ticket while something is made of the picture with this digest."""
        ticket = Ticket()
        tickets = self._tickets.setdefault(digest, [])
        tickets.append(ticket)
        try:
            yield ticket
        finally:
            tickets.remove(ticket)
            if not tickets:
                del self._tickets[digest]

    def forbid(self, digest: str) -> None:
        """Say that nothing of what is being made of this picture may be kept."""
        for ticket in self._tickets.get(digest, ()):
            ticket.forbidden = True
