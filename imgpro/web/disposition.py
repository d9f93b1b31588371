"""What a part of a form says of itself: the name of its field, and of its file. Any name is read, none is refused.

Browsers write a quotation mark and line breaks as %22, %0D and %0A, and everything else, backslashes and semicolons
among it, as it is (multipart/form-data in HTML); older programs put backslashes before quotation marks; mail programs
cut long names into pieces (RFC 2231). Knows no other header, and not what names are good for.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

_KEY: Final = re.compile(r"\s*([^\s=;\"]+)\s*=\s*")
# Up to the quotation mark that ends it: the first that no backslash stands before.
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?=;|$)', re.DOTALL)
_NEXT: Final = re.compile(r";\s*[\w*-]+\s*=")
_ESCAPED: Final = re.compile(r'\\(["\\])')
_WINDOWS_PATH: Final = re.compile(r"[A-Za-z]:\\|\\\\\w")
_LINE_BREAK: Final = re.compile("%0D%0A|%0D|%0A")
_CHARSET: Final = re.compile(r"utf-?8|us-ascii|iso-8859-\d{1,2}|windows-12\d\d|koi8-[ru]|gb\w+|big5|shift_jis|euc-\w\w")
_PIECES: Final = 100


def names(header: str) -> tuple[str | None, str | None]:
    """Return the names of the field and of the file; None for one that is not there."""
    _, _, rest = header.partition(";")
    said: dict[str, str] = {}
    for key, value in _parameters(rest):
        said.setdefault(key, value)
    return _value(said, "name"), _file_name(said)


def _file_name(said: Mapping[str, str]) -> str | None:
    if (found := _extended(said, "filename")) is not None:
        return found
    plain = said.get("filename")
    return None if plain is None else _LINE_BREAK.sub(" ", plain.replace("%22", '"'))


def _value(said: Mapping[str, str], name: str) -> str | None:
    found = _extended(said, name)
    return found if found is not None else said.get(name)


def _parameters(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        key = _KEY.match(text, at)
        if key is None:
            at = (text.find(";", at) + 1) or len(text)
            continue
        at = key.end()
        if (quoted := _QUOTED.match(text, at)) is not None:
            value, at = _unescaped(quoted[1]), quoted.end()
        elif text.startswith('"', at):
            begins, at = at + 1, _end(text, at)
            value = text[begins:at].rstrip("; \t").removesuffix('"')
        else:
            begins, at = at, (text.find(";", at) + 1 or len(text) + 1) - 1
            value = text[begins:at].strip()
        yield key[1].lower(), value
        at += 1


def _end(text: str, at: int) -> int:
    """Return where a name ends that no proper quotation mark ends: it ends in a backslash, or has bare marks in it.

    None of their senders knows of escapes.
    """
    while (at := text.find(";", at)) >= 0:
        if _NEXT.match(text, at):
            return at
        at += 1
    return len(text)


def _unescaped(text: str) -> str:
    # Editors on Windows send whole paths, whose backslashes are no escapes, whatever the standard says.
    return text if _WINDOWS_PATH.match(text) else _ESCAPED.sub(r"\1", text)


def _extended(said: Mapping[str, str], name: str) -> str | None:
    """Return what `name*` says, or its pieces `name*0`, `name*1*` together; None if that cannot be read."""
    if (whole := said.get(f"{name}*")) is not None:
        charset, _, rest = whole.partition("'")
        _, mark, escaped = rest.partition("'")
        return _decoded(_bytes(escaped), charset) if mark else None
    charset, content = "", bytearray()
    for number in range(_PIECES):
        encoded, plain = said.get(f"{name}*{number}*"), said.get(f"{name}*{number}")
        if encoded is not None and number == 0:
            charset, _, rest = encoded.partition("'")
            content += _bytes(rest.partition("'")[2])
        elif encoded is not None:
            content += _bytes(encoded)
        elif plain is not None:
            content += plain.encode("utf-8", "surrogateescape")
        else:
            break
    return _decoded(bytes(content), charset) if content else None


def _bytes(escaped: str) -> bytes:
    return unquote_to_bytes(escaped.encode("utf-8", "surrogateescape"))  # it may hold bytes that are no text


def _decoded(content: bytes, charset: str) -> str | None:
    charset = charset.lower() or "utf-8"
    if _CHARSET.fullmatch(charset) is None:  # Python knows stranger ones
        return None
    try:
        return content.decode(charset)
    except (LookupError, ValueError):
        return None
