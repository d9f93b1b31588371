"""One HMAC format for every signed link: delete, private pictures, and whatever follows.

A token is `<version><expiry in hexadecimal>.<base64url of the first 18 bytes of HMAC-SHA256>`. The signed text is
version, purpose, subject and expiry, joined by line breaks that none of them may contain. Knows no HTTP.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Final, Literal

Purpose = Literal["delete", "view", "cursor", "verify", "upgrade", "csrf", "voucher"]

VERSION: Final = "1"
NEVER: Final = 0
_MAC_BYTES: Final = 18  # 144 bits: no padding in base64, far beyond guessing


class Signer:
    """Makes and checks tokens with one secret of at least 32 bytes."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 32:
            raise ValueError("a signing secret needs at least 32 bytes")
        self._secret = secret

    def sign(self, purpose: Purpose, subject: str, expires_s: int = NEVER) -> str:
        """Return a token for `subject`, valid until `expires_s` (Unix seconds; 0 = without an end)."""
        return f"{VERSION}{expires_s:x}.{self._mac(purpose, subject, expires_s)}"

    def verify(self, token: str, purpose: Purpose, subject: str, now_s: float) -> bool:
        """Tell whether `token` was made for this purpose and subject and has not ended."""
        head, dot, mac = token.partition(".")
        if not dot or len(token) > 64 or not head.startswith(VERSION) or not token.isascii():
            return False
        try:
            expires_s = int(head[1:], 16)
        except ValueError:
            return False
        if f"{VERSION}{expires_s:x}" != head:
            return False
        good = hmac.compare_digest(mac, self._mac(purpose, subject, expires_s))
        return good and (expires_s == NEVER or now_s < expires_s)

    def query(self, purpose: Purpose, shown: str, expires_s: int, *bound: object) -> str:
        """Return the query of a link that ends: `t` is `shown`, and the signature covers it and all of `bound`."""
        return f"t={shown}&exp={expires_s}&sig={self._mac(purpose, _joined(shown, bound), expires_s)}"

    def verify_query(self, query: Mapping[str, str], purpose: Purpose, now_s: float, *bound: object) -> bool:
        """Tell whether `t`, `exp` and `sig` are those that `query` made for this purpose, and have not ended."""
        expires = query.get("exp", "")
        if not expires.isascii() or not expires.isdigit() or len(expires) > 15:
            return False
        mac = self._mac(purpose, _joined(query.get("t", ""), bound), int(expires))
        good = hmac.compare_digest(query.get("sig", "").encode("utf-8", "replace"), mac.encode())
        return good and now_s < int(expires)

    def _mac(self, purpose: str, subject: str, expires_s: int) -> str:
        if "\n" in subject:
            raise ValueError("a signed subject must be one line")
        text = f"imgpro\n{VERSION}\n{purpose}\n{subject}\n{expires_s}".encode()
        mac = hmac.digest(self._secret, text, hashlib.sha256)[:_MAC_BYTES]
        return base64.urlsafe_b64encode(mac).decode("ascii")


def _joined(shown: str, bound: tuple[object, ...]) -> str:
    # The length comes first: no two ways to cut the same text.
    return " ".join((str(len(shown)), repr(shown), *map(str, bound)))
