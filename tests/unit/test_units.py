"""The texts of the units: what lies in the repository, what systemd thinks of them, what a machine adds to them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from imgpro import units

ROOT = Path(__file__).resolve().parents[2]
MOST_EXPOSED = 1.5
SHIPPED = {
    "imgpro.service": units.service(),
    "imgpro.socket": units.socket(),
    "imgpro.sysusers.conf": units.sysusers(),
}


def analyze(*words):
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run([tool, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_repository_holds_what_the_program_prints(name):
    assert (ROOT / "systemd" / name).read_text() == SHIPPED[name], "imgpro service print writes it anew"


@pytest.mark.parametrize("name", SHIPPED)
def test_lines_are_short_and_plain(name):
    assert all(len(line) <= 120 and line.isascii() and line == line.rstrip() for line in SHIPPED[name].splitlines())


def write_units(folder, command, drop_in=""):
    (folder / "imgpro.service").write_text(units.service(command))
    (folder / "imgpro.socket").write_text(units.socket())
    if drop_in:
        (folder / "imgpro.service.d").mkdir()
        (folder / "imgpro.service.d" / "data.conf").write_text(drop_in)
    return [str(folder / "imgpro.service"), str(folder / "imgpro.socket")]


def test_systemd_finds_no_fault(tmp_path):
    data = tmp_path / 'my "best" 50% pictures; $HOME'
    data.mkdir()
    done = analyze("verify", *write_units(tmp_path, [sys.executable, "-m", "imgpro"], units.service_drop_in(data)))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_would_find_a_fault(tmp_path):
    service, _ = write_units(tmp_path, [sys.executable])
    Path(service).write_text(Path(service).read_text().replace("OOMPolicy=continue", "OOMPolicy=maybe"))
    done = analyze("verify", service)
    assert "OOM policy" in done.stderr


def test_little_is_exposed(tmp_path):
    service, _ = write_units(tmp_path, ["/usr/bin/true"])
    done = analyze("security", "--offline=yes", f"--threshold={int(MOST_EXPOSED * 10)}", "--no-pager", service)
    score = re.search(r"Overall exposure level for imgpro.service: ([\d.]+)", done.stdout)
    assert score is not None, done.stdout + done.stderr
    assert float(score[1]) <= MOST_EXPOSED
    assert done.returncode == 0


def test_the_workers_sandbox_is_not_in_the_filters_way():
    allowed = re.search(r"^SystemCallFilter=(landlock.*)$", units.service(), re.MULTILINE)
    assert allowed is not None
    assert {"landlock_create_ruleset", "landlock_restrict_self"} <= set(allowed[1].split())


def test_a_machine_says_where_its_data_is():
    text = units.service_drop_in(PurePosixPath("/srv/img"))
    assert "RequiresMountsFor=/srv/img\n" in text
    assert "Environment=IMGPRO_DATA=/srv/img\n" in text
    assert "ReadWritePaths=-/srv/img\n" in text
    assert "ProtectHome" not in text


def test_a_database_on_another_disk_is_writable_too():
    text = units.service_drop_in(PurePosixPath("/mnt/nas/img"), PurePosixPath("/var/lib/imgpro-db"))
    assert "RequiresMountsFor=/mnt/nas/img /var/lib/imgpro-db\n" in text
    assert "ReadWritePaths=-/mnt/nas/img -/var/lib/imgpro-db\n" in text


def test_where_backups_go_is_writable_and_need_not_be_there():
    data, backups = PurePosixPath("/srv/img"), PurePosixPath("/mnt/nas/backups")
    text = units.service_drop_in(data, backups=backups)
    assert "RequiresMountsFor=/srv/img\n" in text
    assert "ReadWritePaths=-/srv/img -/mnt/nas/backups\n" in text
    assert units.service_drop_in(data, backups=data / "backups") == units.service_drop_in(data)
    text = units.service_drop_in(data, backups=PurePosixPath("/home/Ann/backups"))
    assert "ProtectHome=tmpfs\nBindPaths=-/home/Ann/backups\n" in text


def test_of_the_homes_only_the_data_is_seen():
    text = units.service_drop_in(PurePosixPath("/home/Ann/img"))
    assert "ProtectHome=tmpfs\nBindPaths=-/home/Ann/img\n" in text


def test_a_program_in_a_home_is_seen():
    text = units.service_drop_in(PurePosixPath("/home/Ann/img"), program=PurePosixPath("/home/Ann/imgpro/python"))
    assert "ProtectHome=read-only\nReadWritePaths=-/home/Ann/img\n" in text


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/srv/my pictures", '"-/srv/my pictures"'),
        ("/srv/50%", "-/srv/50%%"),
        ('/srv/"a"', '"-/srv/\\"a\\""'),
        ("/srv/a\\b", '"-/srv/a\\\\b"'),
    ],
)
def test_any_name_of_a_directory_can_be_said(path, word):
    assert f"ReadWritePaths={word}\n" in units.service_drop_in(PurePosixPath(path))


def test_addresses_of_a_machine_replace_the_port():
    text = units.socket_drop_in(["80", "[fe80::1%eth0]:80", "/run/imgpro/http.sock"], tls=False)
    assert text.splitlines()[2:6] == [
        "ListenStream=",
        "ListenStream=80",
        "ListenStream=[fe80::1%%eth0]:80",
        "ListenStream=/run/imgpro/http.sock",
    ]
    assert "SocketGroup=imgpro" in text
    assert "FileDescriptorName=https" in units.socket_drop_in(["443"], tls=True)


def test_a_command_from_a_strange_place_is_started_as_it_is(tmp_path):
    command = ["/opt/my $tools/50%/python", "-m", "imgpro"]
    assert 'ExecStart="/opt/my $$tools/50%%/python" -m imgpro run\n' in units.service(command)


def test_the_command_prints_the_same(tmp_path):
    def printed(*words):
        done = subprocess.run(
            [sys.executable, "-m", "imgpro", "service", "print", *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    assert printed("socket") == units.socket()
    assert printed("sysusers") == units.sysusers()
    everything = printed("--data", str(tmp_path), "--listen", ":80")
    assert f"Environment=IMGPRO_DATA={tmp_path}\n" in everything
    assert "ListenStream=80\n" in everything
    assert f"ExecStart={json.dumps(sys.executable)[1:-1]} -m imgpro run\n" in everything
