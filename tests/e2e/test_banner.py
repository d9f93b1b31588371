"""What `imgpro run` shows at a terminal: the addresses, and a code of the best one that a phone can read."""

import re
import signal

import pytest
import segno

from imgpro.cli.banner import lan_addresses
from tests.terminals import IMGPRO, Person, at_terminal

BLOCKS = {"█": (0, 0), "▀": (0, 1), "▄": (1, 0), " ": (1, 1)}


def shown(tmp_path, *args, rows=40, **env):
    """Return what a start shows, without the colours, once the banner is whole."""
    person = Person(tmp_path)
    command = [*IMGPRO, "run", "--data", str(tmp_path / "data"), *args]
    with at_terminal(command, {**person.env, **env}, tmp_path, rows=rows, stdout=True) as terminal:
        assert terminal.read_until(lambda text: "Ctrl+C" in text), terminal.text
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.process.wait(30) == 0
        return terminal.text.partition("Ctrl+C")[0]


def modules(text):
    """Return the code in a text as rows of 0 and 1, without its margin."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line)[2:] for line in text.splitlines() if re.search("[█▀▄]", line)]
    rows = []
    for line in lines:
        pairs = [BLOCKS[char] for char in line]
        rows += [[pair[0] for pair in pairs], [pair[1] for pair in pairs]]
    return [row[1:-1] for row in rows[1 : len(rows[0]) - 1]]


def code_of(address):
    return [list(row) for row in segno.make(address, error="l", micro=False, boost_error=False).matrix]


def test_a_code_of_the_address_that_phones_reach(tmp_path):
    if not lan_addresses():
        pytest.skip("this machine is on no network")
    text = shown(tmp_path, "--listen", ":0")
    first = re.search(r"open +(http://\S+)", text)[1]
    assert first.startswith(f"http://{lan_addresses()[0]}:")
    assert modules(text) == code_of(first)
    lines = [line for line in text.splitlines() if not re.search("[█▀▄]", line)]
    assert len(lines) < 15
    assert lines[0].startswith("imgpro 0."), "nothing stands between the code and the words"
    assert "set up" in text
    assert all(f"http://{address}:" in text for address in lan_addresses()[:6])


def test_the_address_of_the_settings_is_the_best(tmp_path):
    text = shown(tmp_path, "--listen", "127.0.0.1:0", "--base-url", "https://img.example.org")
    assert modules(text) == code_of("https://img.example.org")


@pytest.mark.parametrize(
    ("args", "rows", "env"),
    [
        (["--listen", "127.0.0.1:0"], 40, {}),
        (["--listen", ":0"], 19, {}),
        (["--listen", ":0"], 40, {"TERM": "dumb"}),
        (["--listen", ":0"], 40, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}),
    ],
)
def test_no_code_where_it_is_of_no_use(tmp_path, args, rows, env):
    text = shown(tmp_path, *args, rows=rows, **env)
    assert not re.search("[█▀▄]", text)
    assert "open" in text
    assert "Traceback" not in text
