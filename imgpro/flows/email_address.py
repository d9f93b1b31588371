"""What counts as a mail address here: one plain address, of the internet or of a home network, in one canonical form.

Stricter than RFC 5322, which allows comments, quoted names and more that only attackers use; laxer than most checks in
that `root@localhost` and `ann@nas.local` pass. Whether anybody reads mail there is for a mailed link to find out.
"""

import re
from typing import Final

MAX_CHARS: Final = 254
MAX_LOCAL_CHARS: Final = 64

# Not all that RFC 5322 calls an atom: `%` and `!` route mail onwards, `|`, `/` and a leading `-` were commands, files
# and options to mail programs, `=?` begins an encoded word in a header, and none of them is in a person's address.
_ATOM: Final = r"[a-z0-9_+&'~#=-]+"
_LOCAL: Final = re.compile(rf"(?!-){_ATOM}(?:\.{_ATOM})*")
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN: Final = re.compile(rf"(?:{_LABEL}\.)*(?![0-9]+\Z){_LABEL}")
_OUTSIDE: Final = re.compile(r"[^!-~]")


def parse_email(raw: str) -> str:
    """Return the address in canonical form, which is lower case: at most 254 characters from `!` to `~`.

    Raises ValueError with a sentence for the person who typed it; it repeats nothing of the input. A name beside the
    address, a list, an IP address as domain and letters beyond ASCII are refused; such a domain passes as punycode.
    """
    if not raw:
        raise ValueError("An e-mail address is needed.")
    if len(raw) > MAX_CHARS:
        raise ValueError(f"An e-mail address has at most {MAX_CHARS} characters.")
    if _OUTSIDE.search(raw):
        raise ValueError(
            "An e-mail address has no spaces and no letters beyond ASCII; write an international domain as xn--..."
        )
    address = raw.lower()
    local, at, domain = address.partition("@")
    if not at or "@" in domain:
        raise ValueError("An e-mail address has exactly one @, like ann@example.org.")
    if len(local) > MAX_LOCAL_CHARS or _LOCAL.fullmatch(local) is None:
        raise ValueError("The part before the @ is not a name that mail is accepted for here.")
    if _DOMAIN.fullmatch(domain) is None:
        raise ValueError("The part after the @ is not the name of a domain or of a machine.")
    return address
