"""Make what the contract's document has from elsewhere anew: its schemas from the structs, and its JSON form.

    python docs/make_openapi.py           write both
    python docs/make_openapi.py --check   write nothing; exit 1 if something is out of date

Everything in `openapi.yaml` before the marker is kept by hand and left as it is. The server never reads YAML.
"""
# ruff: noqa: INP001 - a script, no part of a package

import json
import sys
from pathlib import Path
from typing import Any, Final

import yaml

from imgpro.web.contract import schemas

DOCUMENTS: Final = Path(__file__).resolve().parent.parent / "imgpro" / "documents"
MARKER: Final = "  # Made from imgpro/web/contract.py by docs/make_openapi.py"


class _Plain(yaml.SafeDumper):
    """Writes the same value twice rather than as anchor and alias."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the library asks about each value
        """Say that nothing is to become an alias."""
        return True


def with_schemas(text: str) -> str:
    """Return the YAML text with everything after the marker's line made anew."""
    hand, marker, rest = text.partition(MARKER)
    if not marker:
        raise ValueError(f"openapi.yaml has lost its marker: {MARKER!r}")
    made = yaml.dump({"schemas": schemas()}, Dumper=_Plain, sort_keys=False, width=116, allow_unicode=True)
    indented = "".join(f"  {line}\n" if line else "\n" for line in made.splitlines())
    return f"{hand}{marker}{rest.partition(chr(10))[0]}\n{indented}"


def as_json(text: str) -> str:
    """Return the document as JSON text."""
    return json.dumps(yaml.safe_load(text), indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write both files, or with `--check` say whether they are up to date."""
    source = DOCUMENTS / "openapi.yaml"
    text = with_schemas(source.read_text("utf-8"))
    stale = []
    for path, wanted in ((source, text), (source.with_suffix(".json"), as_json(text))):
        if path.is_file() and path.read_text("utf-8") == wanted:
            continue
        stale.append(path.name)
        if "--check" not in arguments:
            path.write_text(wanted, "utf-8")
    if stale:
        sys.stdout.write(f"{'out of date' if '--check' in arguments else 'written'}: {', '.join(stale)}\n")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
