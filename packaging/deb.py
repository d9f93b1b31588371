"""Makes imgpro's Debian package of the folder with the executable. `./run build --deb` calls it.

What goes in is written by the executable itself (manual page, completion, licences) or by modules of this checkout
(units, settings). The same input gives the same bytes: every time in it is SOURCE_DATE_EPOCH.
"""

import argparse
import email.utils
import gzip
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent
DEBIAN: Final = HERE / "debian"

sys.path.insert(0, str(ROOT))

import needs  # noqa: E402

from imgpro import units  # noqa: E402
from imgpro.cli.example import example  # noqa: E402

SCRIPTS: Final = ("postinst", "prerm", "postrm")
PROGRAM: Final = "/usr/bin/imgpro"
MANUAL: Final = "Documentation=man:imgpro(1)"  # which only the package brings along
DESCRIPTION: Final = """\
self-hosted image host: upload a picture, get a link
 Takes pictures from browsers, screenshot tools, editors and scripts, and
 answers with links that resize and convert by what they say. Speaks the
 img.pro v1 API.
 .
 One program with everything in it, run as a confined service of systemd."""
CONTROL: Final = """\
Package: imgpro
Version: {version}
Architecture: {architecture}
Maintainer: {maintainer}
Installed-Size: {kib}
Depends: {depends}
Recommends: ca-certificates
Suggests: avahi-daemon, caddy | nginx
Section: web
Priority: optional
Description: {description}
"""
CHANGELOG: Final = """\
imgpro ({version}) unstable; urgency=medium

  * See changelog.gz for what is new.

 -- {maintainer}  {date}
"""


class Builder:
    """One package on its way: `tree` is what dpkg-deb packs."""

    def __init__(self, folder: Path, tree: Path, stamp: int) -> None:
        self.folder = folder
        self.tree = tree
        self.stamp = stamp

    def ask(self, *words: str) -> str:
        """Return what the folderd program prints."""
        env = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": str(self.stamp), "HOME": "/nonexistent"}
        command = [str(self.folder / "imgpro"), *words]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env).stdout  # noqa: S603

    def put(self, target: str, text: str, mode: int = 0o644, *, packed: bool = False) -> None:
        """Write one file of the package; `packed` ones as gzip that names neither time nor file."""
        path = self.tree / target
        path.parent.mkdir(parents=True, exist_ok=True)
        content = text.encode()
        path.write_bytes(gzip.compress(content, 9, mtime=0) if packed else content)
        path.chmod(mode)

    def fill(self, version: str, maintainer: str) -> None:
        """Lay everything out but the control files."""
        lib = self.tree / "usr/lib/imgpro"
        shutil.copytree(self.folder, lib, symlinks=True)
        (lib / "LICENSE").unlink(missing_ok=True)  # it is in `copyright`
        (self.tree / "usr/bin").mkdir(parents=True)
        (self.tree / "usr/bin/imgpro").symlink_to("../lib/imgpro/imgpro")
        self.put("etc/imgpro/config.toml", (DEBIAN / "config.toml").read_text())
        for name, text in unit_files().items():
            self.put(name, text)
        self.put("usr/share/man/man1/imgpro.1.gz", self.ask("man"), packed=True)
        self.put("usr/share/bash-completion/completions/imgpro", self.ask("completion", "bash"))
        self.put("usr/share/zsh/vendor-completions/_imgpro", self.ask("completion", "zsh"))
        self.put("usr/share/fish/vendor_completions.d/imgpro.fish", self.ask("completion", "fish"))
        doc = "usr/share/doc/imgpro"
        date = email.utils.formatdate(self.stamp)
        self.put(f"{doc}/examples/config.toml", example())
        terms = [(ROOT / "LICENSE").read_text(), self.ask("licenses"), self.ask("licenses", "--all")]
        self.put(f"{doc}/copyright", "\n".join(terms))
        self.put(f"{doc}/changelog.gz", (ROOT / "CHANGELOG.md").read_text(), packed=True)
        entry = CHANGELOG.format(version=version, maintainer=maintainer, date=date)
        self.put(f"{doc}/changelog.Debian.gz", entry, packed=True)
        self.put("usr/share/lintian/overrides/imgpro", (DEBIAN / "lintian-overrides").read_text())

    def control(self, version: str, maintainer: str) -> str:
        """Write the control files; return the package's architecture."""
        files = sorted(path for path in self.tree.rglob("*") if path.is_file() and not path.is_symlink())
        program = self.folder / "imgpro"
        depends = needs.dependencies(self.folder, program)
        depends.append("systemd | systemd-standalone-sysusers | systemd-sysusers")
        architecture = needs.architecture(program)
        sums = "".join(f"{_md5(path)}  {self.inside(path)}\n" for path in files)
        self.put(
            "DEBIAN/control",
            CONTROL.format(
                version=version,
                architecture=architecture,
                maintainer=maintainer,
                kib=sum(-(-path.stat().st_size // 1024) for path in files),
                depends=", ".join(depends),
                description=DESCRIPTION,
            ),
        )
        self.put("DEBIAN/md5sums", sums)
        self.put("DEBIAN/conffiles", "/etc/imgpro/config.toml\n")
        for name in SCRIPTS:
            self.put(f"DEBIAN/{name}", (DEBIAN / name).read_text(), 0o755)
        return architecture

    def inside(self, path: Path) -> str:
        """Return a file's path in the package."""
        return path.relative_to(self.tree).as_posix()

    def settle(self) -> None:
        """Give everything the modes and times of a package, whatever the umask and the clock said."""
        for path in [self.tree, *self.tree.rglob("*")]:
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
            elif not path.is_symlink():
                # Libraries are mapped, not run.
                runs = path.stat().st_mode & stat.S_IXUSR and ".so" not in path.name
                path.chmod(0o755 if runs else 0o644)
            os.utime(path, (self.stamp, self.stamp), follow_symlinks=False)


def _md5(path: Path) -> str:
    """Return what `dpkg --verify` compares with: against a bad disk, not against an enemy."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def unit_files() -> dict[str, str]:
    """Return the files that make the package a service, by their path in it."""
    return {
        "lib/systemd/system/imgpro.service": units.service((PROGRAM,)).replace("[Unit]\n", f"[Unit]\n{MANUAL}\n", 1),
        "lib/systemd/system/imgpro.socket": units.socket(),
        "usr/lib/sysusers.d/imgpro.conf": units.sysusers(),
    }


def build(folder: Path, dist: Path, version: str | None = None, compression: str = "xz") -> Path:
    """Write the package of `folder` into the folder `dist` and return its path.

    Raises ValueError, OSError, CalledProcessError.
    """
    stamp = int(os.environ.get("SOURCE_DATE_EPOCH", "315532800"))
    name, address = os.environ.get("DEBFULLNAME", "imgpro contributors"), os.environ.get("DEBEMAIL", "imgpro@localhost")
    maintainer = f"{name} <{address}>"
    with tempfile.TemporaryDirectory() as place:
        builder = Builder(folder, Path(place) / "imgpro", stamp)
        builder.tree.mkdir()
        version = version or f"{builder.ask('version').split()[1]}-1"
        builder.fill(version, maintainer)
        architecture = builder.control(version, maintainer)
        builder.settle()
        package = dist / f"imgpro_{version}_{architecture}.deb"
        fresh = dist / f".{package.name}.new"
        dist.mkdir(parents=True, exist_ok=True)
        # One thread: with more, xz cuts its input into pieces, and the bytes would depend on the machine.
        words = ["dpkg-deb", "--root-owner-group", f"-Z{compression}", "--threads-max=1", "--build"]
        env = {**os.environ, "SOURCE_DATE_EPOCH": str(stamp)}
        command = [*words, str(builder.tree), str(fresh)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=env)  # noqa: S603
    fresh.replace(package)
    return package


def main() -> None:
    """Read the command line, build, print where the package is."""
    parser = argparse.ArgumentParser(prog="deb.py", description="Make imgpro's Debian package.")
    parser.add_argument("--folder", type=Path, required=True, help="folder with the executable and its parts")
    parser.add_argument("--dist", type=Path, required=True, help="folder to write to")
    parser.add_argument("--version", help="the package's version; absent: the program's, and -1")
    parser.add_argument("--compression", default="xz", choices=["xz", "none"], help="none: quick, for tests")
    asked = parser.parse_args()
    for tool in ("dpkg-deb", "objdump"):
        if shutil.which(tool) is None:
            sys.exit(f"deb: {tool} is not here. Try: apt-get install dpkg binutils")
    if not os.access(asked.folder / "imgpro", os.X_OK):
        sys.exit(f"deb: {asked.folder} holds no imgpro")
    try:
        print(build(asked.folder, asked.dist, asked.version, asked.compression))
    except (ValueError, OSError, subprocess.CalledProcessError) as problem:
        sys.exit(f"deb: {problem}")


if __name__ == "__main__":
    main()
