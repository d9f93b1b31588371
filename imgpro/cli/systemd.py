"""What is asked of the systemd of this machine, by its own programs. Knows nothing of what the units are for."""

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

from imgpro import frozen
from imgpro.errors import Action, OperatorError

_PLACES: Final = "/usr/bin:/bin:/usr/sbin:/sbin"
_PATIENCE_S: Final = 300.0  # a start may migrate a database first
_RUNS: Final = Path("/run/systemd/system")  # sd_booted(3)


def require(command: str) -> None:
    """Raise OperatorError unless this is root and systemd runs here. `command` is what to try as root."""
    if not _RUNS.is_dir():
        raise OperatorError(
            "systemd does not run here (a container, or another init), so there is nothing to add a service to.",
            Action("fix", label="`imgpro run --data DIR`, started by what starts programs here"),
        )
    if os.geteuid() != 0:
        raise OperatorError("This needs root.", Action("fix", label=f"sudo {command}"))


def systemctl(*words: str, check: bool = True) -> str:
    """Run systemctl and return what it prints. Raises OperatorError with its words unless `check` is off."""
    done = run("systemctl", *words)
    if check and done.returncode != 0:
        said = done.stderr.strip().partition("\n")[0]
        raise OperatorError(f"systemctl {' '.join(words)} failed: {said}", Action("fix", label="systemctl status"))
    return done.stdout


def show(unit: str, *names: str) -> dict[str, str]:
    """Return properties of a unit by name; all are empty where systemd cannot be asked."""
    text = systemctl("show", unit, "--property", ",".join(names), check=False)
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {name: found.get(name, "") for name in names}


def is_active(unit: str) -> bool:
    """Tell whether a unit runs."""
    return show(unit, "ActiveState")["ActiveState"] in ("active", "reloading")


def last_words(unit: str, since: float) -> list[str]:
    """Return what a unit's processes have written since a moment of the wall clock, the last lines only."""
    run("journalctl", "--sync")
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
    text = run("journalctl", "-u", unit, "--since", when, "-o", "cat", "-n", "12", "--no-pager", "-q").stdout
    return [line for line in text.splitlines() if line.strip()]


def run(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the system and return how it went. Raises OperatorError where it is missing or hangs."""
    environment = frozen.system_environment()
    # The system's places first: root may have been given somebody's PATH.
    environment["PATH"] = ":".join(filter(None, (_PLACES, environment.get("PATH"))))
    path = shutil.which(program, path=environment["PATH"])
    if path is None:
        raise OperatorError(f"{program} is not installed.", Action("fix", label="install the package of systemd"))
    environment |= {"LC_ALL": "C.UTF-8", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}
    try:
        return subprocess.run(  # noqa: S603 - by its absolute path, with words of our own
            [path, *words],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env=environment,
            timeout=_PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        raise OperatorError(
            f"{program} has not answered for {_PATIENCE_S:.0f} s.", Action("fix", label="systemctl status, journalctl")
        ) from None
