"""The built executable: what is in it, under which licences, and that it is the same wherever it is built."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.built import ask, bare, built_folder
from tests.servers import ROOT


def test_every_part_has_its_licence_and_none_binds_the_whole(program, place):
    parts = json.loads(ask(program, "licenses", "--json", env=bare(place)).stdout)
    assert {"imgpro", "python", "aiohttp", "pillow-simd", "libheif", "pyinstaller", "swagger-ui", "zlib", "obstore"} - {
        part["name"] for part in parts
    } <= {"pillow-simd"}
    for part in parts:
        assert part["version"], part
        assert not re.search(r"(?<!L)GPL(?!.* WITH )", part["licence"]), part
    texts = ask(program, "licenses", "--all", env=bare(place)).stdout
    assert all(f"==== {part['name']} {part['version']}: " in texts for part in parts)
    for words in ("Bootloader Exception", "GNU LESSER GENERAL PUBLIC LICENSE", "PYTHON SOFTWARE FOUNDATION LICENSE"):
        assert words in texts
    one = ask(program, "licenses", "aiohttp", env=bare(place))
    assert "Apache License" in one.stdout
    assert "PYTHON SOFTWARE" not in one.stdout
    # A wheel without texts of its own: they are put together from the list of what it was compiled from.
    crates = ask(program, "licenses", "obstore", env=bare(place)).stdout
    for words in ("rustls 0.", "Apache License", "Permission is hereby granted, free of charge", "UNICODE LICENSE V3"):
        assert words in crates
    wrong = ask(program, "licenses", "aiohtp", env=bare(place))
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "did you mean aiohttp?" in wrong.stderr
    # From source only what is installed there is known, by the same names.
    here = [sys.executable, "-m", "imgpro", "licenses", "--json"]
    known = {
        part["name"] for part in json.loads(subprocess.run(here, cwd=ROOT, capture_output=True, check=True).stdout)
    }
    assert known <= {part["name"] for part in parts}


def test_nothing_is_in_it_that_has_no_business_there(program):
    tool = [sys.executable, "-m", "PyInstaller.utils.cliutils.archive_viewer", "--recursive", "--brief", str(program)]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "build" / "packer")}
    names = subprocess.run(tool, env=env, capture_output=True, text=True, check=True).stdout.lower()
    assert "imgpro/templates/gallery.html" in names
    assert "imgpro.store.db" in names
    assert "botocore" not in names
    for word in ("imagequant", "readline", "numpy", "tkinter", "gdbm", "ncurses", "x265", "pytest", "hypothesis"):
        assert word not in names, word


def test_no_path_of_this_machine_is_in_it(program):
    folder = built_folder().parent
    paths = [str(ROOT), "/pip-install-", str(Path(sys.prefix)), "/site-packages/pillow"]
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for word in paths:
                assert word.encode() not in content, (path.name, word)
            # The interpreter's own place is compiled into it, and into nothing else.
            if not path.name.startswith("libpython") and sys.base_prefix not in ("/usr", "/usr/local"):
                assert f"{sys.base_prefix}/".encode() not in content, path.name
    assert b"GLIBC_" in program.read_bytes()


def test_it_has_the_versions_of_the_environment_it_was_made_in(program, place):
    packed = json.loads(ask(program, "version", "--json", env=bare(place)).stdout)
    folder = json.loads(ask(built_folder(), "version", "--json", env=bare(place)).stdout)
    source = json.loads(
        subprocess.run([sys.executable, "-m", "imgpro", "version", "--json"], cwd=ROOT, capture_output=True).stdout
    )
    assert [found.pop("program") for found in (packed, folder, source)] == ["file", "folder", "source"]
    assert packed == folder == source
    assert all(packed["codecs"].values()), packed


def test_a_second_build_elsewhere_is_the_same_file(program, tmp_path):
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    for name in ("imgpro", "packaging", "requirements"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("imgpro.spec", "LICENSE", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    (copy / "build").mkdir()
    for name in ("packer", "packer.stamp"):
        (copy / "build" / name).symlink_to(ROOT / "build" / name)
    moment = subprocess.run(
        ["git", "-c", "safe.directory=*", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    env = {**os.environ, "TZ": "Asia/Tokyo", "LANG": "C", **({"SOURCE_DATE_EPOCH": moment} if moment else {})}
    done = subprocess.run(
        [sys.executable, "packaging/build.py"], cwd=copy, env=env, umask=0o077, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    sums = (program.parent / "SHA256SUMS").read_text().splitlines()
    assert set(done.stdout.splitlines()) <= set(sums)
    assert len(done.stdout.splitlines()) == 2
