"""What all commands have in common."""

import subprocess
import sys

from tests.servers import ROOT


def test_no_command_waits_for_what_only_others_need():
    """Each starts by defining all of them; what the server and the database need is loaded by those that use it."""
    heavy = {"asyncio", "sqlite3", "aiohttp", "jinja2", "PIL", "uvloop", "obstore", "blake3"}
    code = f"import sys, imgpro.cli.commands; sys.exit(', '.join(sorted({heavy} & set(sys.modules))) or 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
