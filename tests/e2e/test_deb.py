"""The Debian package: what is in it, and its life on a real Debian - installed, upgraded, removed, installed, purged."""

import gzip
import hashlib
import http.client
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from imgpro import __version__
from tests.box import booted
from tests.built import built_folder
from tests.pictures import encoded, make_image
from tests.servers import ROOT

PORT = 8080
CONFIG = "/etc/imgpro/config.toml"
NEXT = "999.0-1"


def build(folder: Path, dist: Path, version: str | None = None, **environment: str) -> Path:
    """Make the package, quickly."""
    words = [sys.executable, str(ROOT / "packaging" / "deb.py"), "--folder", str(folder), "--dist", str(dist)]
    words += ["--compression", "none", *(["--version", version] if version else [])]
    env = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000", **environment}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=env)
    if "is not here" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def folder():
    return built_folder().parent


@pytest.fixture(scope="module")
def package(folder, tmp_path_factory):
    return build(folder, tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def unpacked(package, tmp_path_factory):
    """The package's files, its control files in `DEBIAN`."""
    target = tmp_path_factory.mktemp("unpacked") / "tree"
    subprocess.run(["dpkg-deb", "-R", str(package), str(target)], check=True)
    return target


def test_the_same_input_gives_the_same_package(folder, package, tmp_path):
    """Wherever and by whomever it is built."""
    copy = tmp_path / "another place" / "folder"
    shutil.copytree(folder, copy, symlinks=True)  # with other times
    before = os.umask(0o077)
    try:
        again = build(copy, tmp_path, TZ="Asia/Tokyo", LC_ALL="C")
    finally:
        os.umask(before)
    assert again.name == package.name == f"imgpro_{__version__}-1_{package.stem.rpartition('_')[2]}.deb"
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(package.read_bytes()).digest()


def test_it_asks_for_what_the_program_needs(package):
    control = subprocess.run(["dpkg-deb", "-f", str(package)], capture_output=True, text=True, check=True).stdout
    needs = re.search(r"^Depends: (.*)$", control, re.MULTILINE)[1]
    assert re.search(r"libc6 \(>= 2\.\d\d\)", needs), needs
    assert "systemd-sysusers" in needs
    assert re.search(r"^Installed-Size: [1-9]\d{4,5}$", control, re.MULTILINE), control


def test_what_is_in_it(unpacked):
    program = unpacked / "usr/bin/imgpro"
    assert os.readlink(program) == "../lib/imgpro/imgpro"
    version = subprocess.run([program, "version"], capture_output=True, text=True, check=True).stdout
    assert version == f"imgpro {__version__}\n"
    assert (unpacked / "DEBIAN/conffiles").read_text() == f"{CONFIG}\n"
    settings = tomllib.loads((unpacked / CONFIG[1:]).read_text())
    assert settings == {"storage": {"data": "/var/lib/imgpro"}}
    service = (unpacked / "lib/systemd/system/imgpro.service").read_text()
    assert "\nExecStart=/usr/bin/imgpro run\n" in service
    assert "\nDocumentation=man:imgpro(1)\n" in service
    assert "[Socket]" in (unpacked / "lib/systemd/system/imgpro.socket").read_text()
    assert "\nu imgpro " in (unpacked / "usr/lib/sysusers.d/imgpro.conf").read_text()
    assert b".SH COMMANDS" in gzip.decompress((unpacked / "usr/share/man/man1/imgpro.1.gz").read_bytes())
    doc = unpacked / "usr/share/doc/imgpro"
    terms = (doc / "copyright").read_text()
    assert (ROOT / "LICENSE").read_text() in terms
    assert "aiohttp" in terms
    assert tomllib.loads((doc / "examples/config.toml").read_text()).keys() >= {"server", "storage"}
    for name in ("bash-completion/completions/imgpro", "zsh/vendor-completions/_imgpro"):
        assert "imgpro" in (unpacked / "usr/share" / name).read_text()
    assert (unpacked / "usr/share/fish/vendor_completions.d/imgpro.fish").is_file()


@pytest.mark.slow
def test_lintian_has_no_objection(package):
    if shutil.which("lintian") is None:
        pytest.skip("lintian is not installed")
    words = ["lintian", "--allow-root", "--fail-on", "error,warning", "--suppress-tags"]
    words += ["uses-no-compression-for-control-tarball,uses-no-compression-for-data-tarball", str(package)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_scripts_are_clean_shell():
    checker = shutil.which("shellcheck") or str(Path(sys.executable).parent / "shellcheck")
    scripts = [str(ROOT / "packaging/debian" / name) for name in ("postinst", "prerm", "postrm")]
    done = subprocess.run([checker, *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# --- on a Debian of its own ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def box(package, folder, tmp_path_factory):
    with booted(tmp_path_factory.mktemp("deb")) as found:
        found.put(package, "/var/debs/first.deb", 0o644)
        found.put(build(folder, tmp_path_factory.mktemp("next"), NEXT), "/var/debs/next.deb", 0o644)
        yield found


def install(box, name):
    """As a person does it; nobody answers questions."""
    done = box.run("apt-get", "install", "-y", "-q", "--no-install-recommends", f"/var/debs/{name}.deb")
    return done.stdout + done.stderr


def ask(address, method, path, body=None):
    """Send one request; return status and body."""
    connection = http.client.HTTPConnection(address, PORT, timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": "image/png"} if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def upload(box, size):
    """Send a picture from outside; return the path that shows it."""
    code, body = ask(box.address, "POST", "/v1/upload", encoded(make_image("RGB", size), "PNG"))
    assert code == 201, body
    return urlsplit(json.loads(body)["src"]).path


class Visitors:
    """People who go on asking while something happens, and what they were told."""

    def __init__(self, address, path):
        self.told = Counter()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(address, path)) for _ in range(4)]

    def _ask(self, address, path):
        while not self._over.is_set():
            try:
                self.told[ask(address, "GET", path)[0]] += 1
            except (OSError, http.client.HTTPException) as problem:
                self.told[repr(problem)] += 1
            time.sleep(0.02)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()


def is_active(box, unit="imgpro.service"):
    return box.run("systemctl", "is-active", unit, check=False).stdout.strip() == "active"


def started(box):
    """When the service was started, to tell two runs of it apart."""
    return box.run("systemctl", "show", "imgpro.service", "-P", "ExecMainStartTimestampMonotonic").stdout.strip()


def traces(box):
    """What of the package is on the disk."""
    words = ["find", "/etc", "/usr", "/lib", "/var", "-xdev", "-name", "*imgpro*", "-not", "-path", "/var/log/*"]
    return sorted(box.run(*words).stdout.split())


def test_its_life(box):
    told = install(box, "first")
    assert "did not start" not in told
    assert is_active(box)
    assert is_active(box, "imgpro.socket")
    assert box.run("stat", "-c", "%a %U:%G", CONFIG).stdout == "640 root:imgpro\n"  # a password may come to stand in it
    assert box.run("stat", "-c", "%a %U:%G", "/var/lib/imgpro").stdout == "750 imgpro:imgpro\n"
    picture = upload(box, (64, 48))
    # The operator needs no option to be understood.
    assert "/setup?t=" in box.run("imgpro", "setup-link").stdout
    box.run("imgpro", "config", "check")
    box.run("imgpro", "health", "--ready")

    # Upgraded while people look: the settings that were changed stay, and nobody is refused.
    box.run("sh", "-c", f"printf '[pages]\\nsite_name = \"Ours\"\\n' >>{CONFIG}")
    box.run("apt-get", "check")
    first = started(box)
    with Visitors(box.address, picture) as visitors:
        install(box, "next")
    assert set(visitors.told) == {200}, visitors.told
    assert is_active(box)
    assert started(box) != first, "the old program still runs"
    assert NEXT in box.run("dpkg-query", "-W", "imgpro").stdout
    assert 'site_name = "Ours"' in box.run("cat", CONFIG).stdout
    assert b"Ours" in ask(box.address, "GET", "/")[1]
    assert box.run("stat", "-c", "%a %U:%G", CONFIG).stdout == "640 root:imgpro\n"

    # Installed once more, with the scripts' work done already.
    box.run("dpkg-reconfigure", "-fnoninteractive", "imgpro")
    assert is_active(box)

    # Removed: it no longer runs, what is the operator's stays.
    box.run("apt-get", "remove", "-y", "-q", "imgpro")
    assert not is_active(box)
    assert not is_active(box, "imgpro.socket")
    assert not (box.root / "usr/lib/imgpro").exists()
    assert (box.root / "var/lib/imgpro/imgpro.db").exists()
    assert 'site_name = "Ours"' in box.run("cat", CONFIG).stdout

    # Installed again, it finds all of it.
    install(box, "next")
    assert is_active(box)
    assert ask(box.address, "GET", picture)[0] == 200

    # A service that cannot start is told about, and keeps nobody's package manager from its work.
    box.run("sh", "-c", f"echo nonsense >>{CONFIG}")
    done = box.run("dpkg-reconfigure", "-fnoninteractive", "imgpro")
    assert "journalctl -u imgpro.service" in done.stderr
    assert not is_active(box)

    # Purged: gone, but for what lies where the package has put nothing.
    box.run("sh", "-c", "mkdir -p /srv/img /etc/imgpro/tls && touch /srv/img/kept /etc/imgpro/tls/key.pem")
    box.run("sh", "-c", "echo IMGPRO_LOG_LEVEL=info >/etc/imgpro/imgpro.env; ln -s /srv/img /var/lib/imgpro/elsewhere")
    box.run("apt-get", "purge", "-y", "-q", "imgpro")
    assert traces(box) == ["/etc/imgpro"]
    assert box.run("find", "/etc/imgpro", "-type", "f").stdout == "/etc/imgpro/tls/key.pem\n"
    assert box.run("find", "/srv/img", "-type", "f").stdout == "/srv/img/kept\n"
    assert not box.run("systemctl", "--failed", "--no-legend").stdout
    box.run("rm", "-r", "/etc/imgpro")


def without_systemd(box, *words):
    """Run a command in the box where it sees no running systemd, as in a tree that becomes a disk."""
    quoted = shlex.join(words)
    hidden = "mount -t tmpfs tmpfs /run/systemd && exec "
    return box.run("unshare", "--mount", "sh", "-c", hidden + quoted)


def test_where_no_systemd_runs(box):
    """In a chroot the service is made ready for the first start, and everything comes and goes as well."""
    without_systemd(box, "dpkg", "-i", "/var/debs/first.deb")
    assert not is_active(box)
    wants = box.root / "etc/systemd/system/multi-user.target.wants/imgpro.service"
    assert wants.is_symlink()
    assert box.run("id", "-un", "imgpro").stdout == "imgpro\n"
    without_systemd(box, "dpkg", "-i", "/var/debs/next.deb")
    without_systemd(box, "dpkg", "--remove", "imgpro")
    without_systemd(box, "dpkg", "--purge", "imgpro")
    assert not wants.is_symlink()
    assert traces(box) == []


def test_what_the_operator_switched_off_stays_off(box):
    install(box, "first")
    box.run("systemctl", "disable", "--now", "imgpro.socket", "imgpro.service")
    install(box, "next")
    assert not is_active(box)
    assert not is_active(box, "imgpro.socket")
    box.run("systemctl", "enable", "--now", "imgpro.service")  # without the socket, at server.listen
    assert ask(box.address, "GET", "/healthz")[0] == 200
    box.run("apt-get", "purge", "-y", "-q", "imgpro")
    assert traces(box) == []


def test_data_that_lies_elsewhere(box):
    """One command moves the service there, and neither an upgrade nor a purge touches what is in it."""
    install(box, "first")
    box.run("imgpro", "service", "install", "--data", "/srv/pictures")
    assert tomllib.loads((box.root / CONFIG[1:]).read_text())["storage"]["data"] == "/srv/pictures"
    assert box.run("stat", "-c", "%a %U:%G", CONFIG).stdout == "640 root:imgpro\n"
    picture = upload(box, (80, 60))
    assert "/setup?t=" in box.run("imgpro", "setup-link").stdout
    install(box, "next")
    assert ask(box.address, "GET", picture)[0] == 200
    box.run("apt-get", "purge", "-y", "-q", "imgpro")
    assert traces(box) == []
    assert len(list((box.root / "srv/pictures/blobs").rglob("*/*/*"))) == 1
