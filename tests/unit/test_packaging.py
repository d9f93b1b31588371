"""The installed environment and the files that describe it: engine, codecs, pins, package data."""

import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements"
ENGINES = {"pillow": "engine-pillow", "pillow-simd": "engine-simd"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(stem: str) -> dict[str, set[str]]:
    """Names and versions of one requirements file; a name may have two versions behind markers."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(
        r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)", (REQUIREMENTS / f"{stem}.txt").read_text(), re.MULTILINE
    ):
        found.setdefault(normal(name), set()).add(version)
    return found


def engine() -> str:
    """The one distribution that owns `PIL/`."""
    owners = {normal(name) for name in metadata.packages_distributions()["PIL"]}
    assert len(owners) == 1, f"several distributions own PIL/: {owners}"
    return owners.pop()


def test_exactly_one_pinned_engine_owns_pillow() -> None:
    from PIL import Image

    name = engine()
    assert name in ENGINES
    assert metadata.version(name) in pins(ENGINES[name])[name]
    assert Image.__version__ == metadata.version(name)
    if expected := os.environ.get("IMGPRO_ENGINE"):
        assert name == expected


def test_the_engine_on_other_machines_is_stock_pillow() -> None:
    if platform.machine() != "x86_64":
        assert engine() == "pillow"


@pytest.mark.parametrize("feature", ["jpg", "webp", "zlib", "littlecms2"])
def test_codecs_are_really_there(feature: str) -> None:
    from PIL import features

    assert features.check(feature)


def test_avif_comes_from_the_engine_or_the_plugin() -> None:
    from PIL import features

    if not features.check("avif"):
        import pillow_avif

        assert pillow_avif.AvifImagePlugin.SUPPORTED


def test_nothing_under_the_gpl_is_in_the_engine() -> None:
    from PIL import features

    if engine() == "pillow-simd":
        assert not features.check("libimagequant")
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("pillow-heif")


@pytest.mark.parametrize("stem", ["build", "runtime"])
def test_installed_versions_are_the_pinned_ones(stem: str) -> None:
    wrong = {name: metadata.version(name) for name, versions in pins(stem).items() if not_installed(name, versions)}
    assert not wrong


def not_installed(name: str, versions: set[str]) -> bool:
    try:
        return metadata.version(name) not in versions
    except metadata.PackageNotFoundError:
        # typing-extensions and the like: pinned for other Pythons only.
        return not re.search(rf"^{name}==\S+ ; ", (REQUIREMENTS / "runtime.txt").read_text(), re.MULTILINE)


def test_every_pin_has_hashes_and_none_drags_in_an_engine() -> None:
    for path in REQUIREMENTS.glob("*.txt"):
        for block in re.split(r"\n(?=\S)", path.read_text().strip()):
            assert re.match(r"[a-z0-9.-]+==\S+", block), block
            assert "--hash=sha256:" in block, block
    for stem in ("build", "runtime", "dev"):
        assert not {"pillow", "pillow-simd"} & set(pins(stem))


def test_every_dependency_of_the_project_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(line for lines in project["optional-dependencies"].values() for line in lines)]
    declared = {normal(re.match(r"[A-Za-z0-9_-]+", line)[0]) for line in asked}  # type: ignore[index]
    assert declared <= set(pins("runtime")) | set(ENGINES)
    assert declared >= set(ENGINES), "the engine is chosen by an environment marker"


def test_the_closure_is_complete() -> None:
    """Everything that an installed runtime package asks for (Pillow aside) is pinned: --no-deps installs no more."""
    known = set(pins("runtime"))
    for name in known:
        try:
            asked = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for line in asked:
            if "extra ==" in line or "python_version <" in line or "sys_platform ==" in line:
                continue
            needed = normal(re.match(r"[A-Za-z0-9._-]+", line)[0])  # type: ignore[index]
            assert needed in known | set(ENGINES) or "platform" in line, f"{name} needs {line}"


def test_templates_static_files_and_migrations_are_in_the_wheel(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "LICENSE", "README.md", "imgpro"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tree)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        "out",
        ".",
    ]
    subprocess.run(pip, cwd=tree, check=True, capture_output=True, timeout=120)
    with zipfile.ZipFile(next((tree / "out").glob("imgpro-*.whl"))) as wheel:
        packed = set(wheel.namelist())
    present = {path.relative_to(tree).as_posix() for path in (tree / "imgpro").rglob("*") if path.is_file()}
    assert present <= packed
    assert not [name for name in packed if name.startswith(("tests/", "bench/"))]


def test_one_version_everywhere() -> None:
    import imgpro

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == imgpro.__version__ == metadata.version("imgpro")


def run_script(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(ROOT / "run"), *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment},
    )


def test_run_explains_itself_and_refuses_what_it_does_not_know() -> None:
    told = run_script("help")
    assert told.returncode == 0
    for command in ("setup", "imgpro", "test", "test-pillow", "lint", "bench"):
        assert f"./run {command}" in told.stdout
    unknown = run_script("frobnicate")
    assert unknown.returncode == 64
    assert "./run setup" in unknown.stderr


def test_run_refuses_an_engine_it_does_not_know() -> None:
    refused = run_script("setup", IMGPRO_ENGINE="imagemagick")
    assert refused.returncode == 1
    assert "pillow-simd or pillow" in refused.stderr


def test_the_repository_keeps_its_own_rules() -> None:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    checked = subprocess.run(
        [sys.executable, ".ci/house_rules.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
