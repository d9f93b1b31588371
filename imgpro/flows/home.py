"""Where this server is, for links that no request gives an address for: those in mail and on the terminal."""


class Home:
    """The configured address, else the one that the server found itself to listen on."""

    def __init__(self, base_url: str) -> None:
        self.configured = bool(base_url)
        self._base = base_url.rstrip("/") or "http://localhost:8080"

    @property
    def base(self) -> str:
        """What links start with, without a slash at the end."""
        return self._base

    def found_at(self, address: str) -> None:
        """Note where the server listens, if that is an address to open; a configured one stays."""
        if address and not self.configured:
            self._base = address.rstrip("/")
