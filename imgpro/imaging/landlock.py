"""Landlock without a single rule: from here on no file can be opened, no port used, no other process signalled.

Files that are already open stay usable.
"""

import ctypes
import os
import struct
from typing import Final

CREATE_RULESET: Final = 444
RESTRICT_SELF: Final = 446
VERSION_FLAG: Final = 1
# Access rights known to each ABI version: so many of the lowest bits.
FS_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
NET_SINCE: Final = 4
SCOPE_SINCE: Final = 6
NET_RIGHTS: Final = 0b11  # bind, connect
SCOPES: Final = 0b11  # abstract sockets, signals


def abi(libc: ctypes.CDLL) -> int:
    """Return the version the kernel offers, 0 where it has none or it is switched off."""
    return max(0, int(libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION_FLAG)))


def restrict(libc: ctypes.CDLL) -> int:
    """Deny everything the kernel's version can deny and return that version. Needs no_new_privs."""
    version = abi(libc)
    if version == 0:
        return 0
    rights = (1 << FS_RIGHTS[min(version, max(FS_RIGHTS))]) - 1
    net = NET_RIGHTS if version >= NET_SINCE else 0
    scopes = SCOPES if version >= SCOPE_SINCE else 0
    attributes = struct.pack("QQQ", rights, net, scopes)
    length = 24 if scopes else 16 if net else 8
    ruleset = libc.syscall(CREATE_RULESET, ctypes.c_char_p(attributes), ctypes.c_size_t(length), 0)
    if ruleset < 0:
        return 0
    try:
        return version if libc.syscall(RESTRICT_SELF, ruleset, 0) == 0 else 0
    finally:
        os.close(ruleset)
