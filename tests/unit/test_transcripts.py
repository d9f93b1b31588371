"""The tests' own record of what a process writes."""

import subprocess
import sys

from tests.transcripts import Transcript

WRITER = "import os\nfor number in range(20_000): os.write(1, b'%d\\n' % number)\nos.write(1, b'end\\n')"


def test_reading_it_disturbs_nobody_who_writes():
    transcript = Transcript()
    with subprocess.Popen([sys.executable, "-c", WRITER], stdout=transcript):
        while not (text := transcript.text()).endswith("end\n"):
            pass
    transcript.close()
    assert text.split() == [*map(str, range(20_000)), "end"]
