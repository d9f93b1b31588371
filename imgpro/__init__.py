"""imgpro: a self-hosted image host in one executable."""

from typing import Final

__version__: Final = "0.1.0"
