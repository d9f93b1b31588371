"""Looking for what must not be there any more: in every byte of every file under a directory."""

import random
from collections.abc import Iterable
from pathlib import Path

from blake3 import blake3

LETTERS = "bcdfghjklmnpqrstvwxz"  # no vowels: no word of ours is made of them


def word(dice: random.Random) -> str:
    """Return a word that stands nowhere else."""
    return "".join(dice.choices(LETTERS, k=16))


def of_text(text: str) -> list[bytes]:
    """Return what to look for of a word: also its halves, because an index of words may keep them apart."""
    half = len(text) // 2
    return [part.encode() for part in (text, text[:half], text[half:])]


def of_picture(content: bytes) -> list[bytes]:
    """Return what to look for of a file: pieces of it, and its digest as bytes and in hex."""
    digest = blake3(content)
    places = (len(content) // 4, len(content) // 2, len(content) - 60)
    return [*(content[at : at + 40] for at in places), digest.digest(), digest.hexdigest().encode()]


def found(root: Path, needles: Iterable[bytes]) -> dict[bytes, list[str]]:
    """Return the needles that are in a file under `root`, or in its name, with the files they are in."""
    wanted, hits = list(needles), {}
    for path in sorted(root.rglob("*")):
        content = _read(path)
        for needle in wanted:
            if needle in content or needle in path.name.encode():
                hits.setdefault(needle, []).append(str(path.relative_to(root)))
    return hits


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.is_file() else b""
    except FileNotFoundError:  # gone meanwhile, which is what this is about
        return b""
