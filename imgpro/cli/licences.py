"""`imgpro licenses`: under which terms the parts of this program come. The executable brings all texts along."""

import importlib.resources
import json
import re
import sys
import sysconfig
from collections.abc import Iterator
from difflib import get_close_matches
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

import click
import msgspec

from imgpro.frozen import is_frozen

INDEX: Final = "index.json"
_TEXTS: Final = re.compile(r"licen[cs]e|copying|notice|authors", re.IGNORECASE)
_CODE: Final = (".py", ".pyc", ".pyi")
_WHOLE: Final = "imgpro"


class Part(msgspec.Struct, frozen=True):
    """One part of the program: its licence by name, and the texts that go with it as (file name, text)."""

    name: str
    version: str
    licence: str
    texts: tuple[tuple[str, str], ...]


def parts() -> list[Distribution]:
    """Return the installed packages that imgpro consists of, itself among them, by name."""
    found: dict[str, Distribution] = {}
    wanted = [_WHOLE]
    while wanted:
        name = plain(wanted.pop())
        if name in found:
            continue
        try:
            part = distribution(name)
        except PackageNotFoundError:
            continue  # not needed on this machine, or by this Python
        found[name] = part
        wanted += [
            re.split(r"[^\w.-]", need)[0]
            for need in part.requires or ()
            if "extra ==" not in need or name == _WHOLE  # its own extras are parts where they are installed
        ]
    return [found[name] for name in sorted(found)]


def plain(name: str) -> str:
    """Return the name of a package in the form that compares."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed() -> Iterator[Part]:
    """Yield the parts that are known wherever imgpro runs: Python, its packages, and what the pages bring along."""
    for package in parts():
        files = [file for file in package.files or () if _TEXTS.search(file.name) and file.suffix not in _CODE]
        texts = tuple((file.name, file.read_text("utf-8")) for file in files)
        yield Part(plain(package.metadata["Name"]), package.version, _licence(package), texts)
    yield Part("python", sys.version.split()[0], "PSF-2.0", tuple(_python_texts()))
    static = importlib.resources.files("imgpro") / "static"
    names = sorted(entry.name for entry in static.iterdir() if re.match(r"swagger-ui.*(LICENSE|NOTICE)", entry.name))
    version = re.search(r"version ([\d.]+\d)", (static / "VENDORED.md").read_text("utf-8"))
    assert version is not None
    texts = tuple((name, (static / name).read_text("utf-8")) for name in names)
    yield Part("swagger-ui", version[1], "Apache-2.0", texts)


def _licence(package: Distribution) -> str:
    noted = package.metadata
    for field in ("License-Expression", "License"):
        if field in noted and "\n" not in noted[field]:
            return noted[field]
    lines = noted.get_all("Classifier") or ()
    return " AND ".join(line.rpartition(" :: ")[2] for line in lines if "License ::" in line) or "see its text"


def _python_texts() -> Iterator[tuple[str, str]]:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for path in (Path(sysconfig.get_path("stdlib"), "LICENSE.txt"), Path(f"/usr/share/doc/python{version}/copyright")):
        if path.is_file():
            yield path.name, path.read_text("utf-8")
            return


def bundled() -> list[Part]:
    """Return the parts that the executable was made of; outside it those that are installed here."""
    if not is_frozen():
        return list(installed())
    folder = importlib.resources.files("imgpro") / "licences"
    return msgspec.json.decode((folder / INDEX).read_bytes(), type=list[Part])


@click.command("licenses")
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Print the texts of all parts.")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def licenses(name: str | None, everything: bool, as_json: bool) -> None:
    """Print under which licences the parts of this program come; with a NAME, that part's texts.

    Example: imgpro licenses python
    """
    found = bundled()
    if as_json:
        rows = [{"name": part.name, "version": part.version, "licence": part.licence} for part in found]
        click.echo(json.dumps(rows, indent=2))
        return
    if name is None and not everything:
        width = max(len(f"{part.name} {part.version}") for part in found)
        for part in found:
            click.echo(f"{f'{part.name} {part.version}':<{width}}  {part.licence}")
        return
    chosen = [part for part in found if everything or part.name == name]
    if not chosen:
        near = get_close_matches(str(name), [part.name for part in found], 1)
        hint = f"did you mean {near[0]}?" if near else "`imgpro licenses` lists them"
        raise click.UsageError(f"no part is called {name}: {hint}")
    for part in chosen:
        for file, text in part.texts:
            click.echo(f"==== {part.name} {part.version}: {file} ====\n\n{text.rstrip()}\n")
