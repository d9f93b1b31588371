"""What goes into the bundle, and what does not: the answers that imgpro.spec asks for."""

import gzip
import re
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Final

from imgpro.cli.licences import parts, plain
from imgpro.frozen import FOLDED, OBJECT_STORES

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGE: Final = ROOT / "imgpro"

# Parts of Python that imgpro has no use for. readline and gdbm are under the GPL; the rest only costs room.
UNUSED: Final = (
    "readline", "_gdbm", "_dbm", "dbm", "tkinter", "_tkinter", "curses", "_curses", "_curses_panel", "idlelib",
    "lib2to3", "distutils", "ensurepip", "venv", "turtle", "test", "_testcapi", "_testinternalcapi", "_testbuffer",
    "pydoc", "pydoc_data", "pdb", "doctest", "unittest", "xmlrpc", "ftplib", "nis", "_crypt", "crypt", "ossaudiodev",
    "spwd", "multiprocessing", "concurrent.futures.process", "imaplib", "poplib", "nntplib", "telnetlib", "cgi",
    "cgitb", "pip", "setuptools", "_sysconfigdata", "multidict._testcapi", "aiohttp.test_utils",
    "aiohttp.pytest_plugin", "click.testing", "prometheus_client.twisted", "prometheus_client.bridge",
    "prometheus_client.django",
)  # fmt: skip
# Pillow's readers and writers are those that the engine registers.
PILLOW_PLUGINS: Final = frozenset(
    f"{name}ImagePlugin" for name in ("Avif", "Bmp", "Gif", "Ico", "Jpeg", "Mpo", "Png", "Tiff", "WebP")
)
PILLOW_UNUSED: Final = frozenset(
    ("ImageQt", "ImageTk", "_tkinter_finder", "ImageShow", "ImageGrab", "_imagingtk", "_imagingft", "ImageFont")
)


def data_files() -> list[tuple[str, str]]:
    """Return imgpro's files that are no code, and the versions of the parts, as (file, folder in the bundle)."""
    found = [
        (str(path), str(path.parent.relative_to(ROOT)))
        for path in sorted(PACKAGE.rglob("*"))
        if path.is_file() and path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts
    ]
    notes = [(part, file) for part in parts() for file in part.files or () if file.name == "METADATA"]
    # Not RECORD, which holds hashes of what was compiled here, nor direct_url.json, a path of this machine.
    return found + [(str(part.locate_file(file)), file.parent.name) for part, file in notes if len(file.parts) == 2]


def modules() -> list[str]:
    """Return imgpro's modules: some are only imported when they are needed."""
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        words = path.relative_to(ROOT).with_suffix("").parts
        names.append(".".join(words[:-1] if words[-1] == "__init__" else words))
    return [name for name in names if name != "imgpro.__main__"] + _extensions()


def _extensions() -> list[str]:
    """Return the compiled modules of the parts: what one of them imports from another cannot be seen from outside."""
    unused = {*UNUSED, *_pillow_unused()}
    files = [file for part in parts() for file in part.files or () if file.suffix == ".so"]
    modules = [file for file in files if not file.parent.name.endswith(".libs")]
    names = [".".join((*file.parts[:-1], file.name.split(".")[0])) for file in modules]
    return [name for name in names if name not in unused]


def check_environment() -> None:
    """Stop the build where the environment is older than the requirements: what is missing would be left out unseen."""
    locked = re.findall(
        r"^([\w.-]+)==[^;\n]*(?:;.*)?\\$", (ROOT / "requirements" / "runtime.txt").read_text(), re.MULTILINE
    )
    lacking = (
        {plain(name) for name in locked} - {plain(part.metadata["Name"]) for part in parts()} - {"typing-extensions"}
    )
    if lacking:
        sys.exit(f"build: the environment lacks {', '.join(sorted(lacking))}. Try: ./run setup")


def excluded() -> list[str]:
    """Return the modules to leave out: what only tests and builds use is no part of the program."""
    ours = {plain(part.metadata["Name"]) for part in parts()}
    tools = {
        name for found in distributions() if plain(found.metadata["Name"]) not in ours for name in _top_levels(found)
    }
    kept = {name for part in parts() for name in _top_levels(part)}
    return sorted({*UNUSED, *_pillow_unused(), *(tools - kept)})


def _pillow_unused() -> set[str]:
    """Return what Pillow has installed here and the engine never loads."""
    files = [file for part in parts() for file in part.files or () if file.parts[0] == "PIL"]
    names = {file.name.split(".")[0] for file in files if file.suffix in (".py", ".so")}
    plugins = {name for name in names if name.endswith("ImagePlugin")} - PILLOW_PLUGINS
    return {f"PIL.{name}" for name in plugins | (PILLOW_UNUSED & names)}


def _top_levels(part: Distribution) -> set[str]:
    names = {file.parts[0].split(".")[0] for file in part.files or () if file.suffix in (".py", ".so")}
    return {name for name in names if name.isidentifier()}


def is_rare(dest: str) -> bool:
    """Tell whether a library is one that `imgpro.frozen.unfold` puts into place when it is needed."""
    return dest == OBJECT_STORES


def folded(entry: tuple[str, str, str], folder: Path) -> tuple[str, str, str]:
    """Return a library packed, as a file that is no library yet; the same bytes whenever it is done."""
    dest, source, _ = entry
    packed = folder / f"{dest}{FOLDED}"
    packed.parent.mkdir(parents=True, exist_ok=True)
    packed.write_bytes(gzip.compress(Path(source).read_bytes(), 9, mtime=0))
    return f"{dest}{FOLDED}", str(packed), "DATA"


def is_unwanted(dest: str) -> bool:
    """Tell whether a file that came along with something else is to be left out.

    Of what pip noted about a package only METADATA stays: the rest holds hashes and paths of this machine.
    """
    if ".dist-info/" in dest:
        return not dest.endswith("/METADATA")
    return any(word in dest for word in ("readline", "libtinfo", "libncurses", "_testcapi", "_tkinter"))
