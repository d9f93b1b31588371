"""Checks what no linter knows: lengths of functions and files, and words that must not stand in this repository.

Prints one line per fault and exits 1 if there are any. Looks only at files that git tracks or would track.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
MAX_FUNCTION_LINES: Final = 60
MAX_FILE_LINES: Final = 400
MAX_TEST_FILE_LINES: Final = 600  # a test reads from top to bottom once
LONGER_FILES: Final = {f"imgpro/store/{name}.py": 700 for name in ("queries", "queries_accounts", "queries_browse")}
FORBIDDEN_NAMES: Final = {"utils", "helpers", "common", "base", "manager", "core"}

# Written in pieces, so that this file passes its own check.
FORBIDDEN_WORDS: Final = {
    "names a package registry": re.compile(
        "|".join(("py" + r"pi\.org", "python" + r"hosted\.org", "npm" + r"js\.(org|com)", "registry\\." + "yarn"))
    ),
    "is a path of one machine": re.compile("(?<![\\w.])(/ro" + "ot/|/wo" + "rk/|/ho" + "me/[a-z])"),
    "leaves work for another day": re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b"),
}


def files() -> list[Path]:
    """Return all files of the repository, those not yet added among them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    names = sorted(set(listed.stdout.decode().split("\0")) - {""})
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def length_faults(path: Path, text: str) -> Iterator[str]:
    """Yield what is too long in a Python file."""
    name = path.relative_to(ROOT).as_posix()
    lines = text.count("\n")
    limit = MAX_TEST_FILE_LINES if name.startswith("tests/") else MAX_FILE_LINES
    if lines > LONGER_FILES.get(name, limit):
        yield f"{name}: {lines} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield f"{name}:{node.lineno}: {node.name} has {length} lines"


def word_faults(path: Path, text: str) -> Iterator[str]:
    """Yield every line with a word that must not stand here."""
    for number, line in enumerate(text.splitlines(), 1):
        for reason, pattern in FORBIDDEN_WORDS.items():
            if found := pattern.search(line):
                yield f"{path.relative_to(ROOT)}:{number}: {found[0]!r} {reason}"


def faults() -> Iterator[str]:
    """Yield every fault of the repository, one line each."""
    for path in files():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        yield from word_faults(path, text)
        if path.suffix == ".py":
            yield from length_faults(path, text)
            if path.stem in FORBIDDEN_NAMES:
                yield f"{path.relative_to(ROOT)}: a name that says nothing"


if __name__ == "__main__":
    found = list(faults())
    print("\n".join(found) or "house rules: kept")
    sys.exit(bool(found))
