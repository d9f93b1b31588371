"""The short ids in addresses of Chevereto: numbers in base 62, with digits shuffled by the site's salt."""

import hashlib
from typing import Final

_DIGITS: Final = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class CheveretoIds:
    """`salt` and `padding` are the settings `crypt_salt` and `id_padding` of the site."""

    def __init__(self, salt: str, padding: int = 0) -> None:
        mixed = hashlib.sha256(salt.encode("utf-8")).hexdigest()[: len(_DIGITS)]
        # Digits by the hash's letter beside them, the greatest first, among equals in the order of ASCII.
        pairs = sorted(zip(mixed, _DIGITS, strict=True), key=lambda pair: (-ord(pair[0]), pair[1]))
        self._digits = "".join(digit for _, digit in pairs)
        self._padding = max(padding, 0)

    def encode(self, number: int) -> str:
        """Return how the site writes the id of a picture or an album."""
        left = number * (self._padding or 1)
        found = ""
        while left or not found:
            left, digit = divmod(left, len(self._digits))
            found = self._digits[digit] + found
        return found
