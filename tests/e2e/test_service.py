"""The one file on a fresh Debian: made a service by itself, used from the network, broken in every way, taken away.

All tests share one box, in the order in which they stand here; each leaves a service that runs.
"""

import json
import os
import re
import signal
import socket
import time

import pytest

from tests.box import booted
from tests.built import built_executable, built_folder
from tests.pictures import encoded, make_image
from tests.restarts import Load
from tests.servers import UNLIMITED, Server

DATA = "/srv/img"
FILE = "/opt/imgpro"
SOON_S = 60.0
DROP_IN = "etc/systemd/system/imgpro.service.d/test.conf"
CONFIG = "etc/imgpro/config.toml"
PICTURE = encoded(make_image("RGB", (600, 400)), "PNG")


class Lan:
    """The service in a box, seen from another machine in its network."""

    def __init__(self, box):
        self.box = box
        self.said = ""  # by the first installation
        self.server = Server(None)
        self.server.port = 8080
        self.server.host = box.address

    def show(self, name, unit="imgpro.service"):
        return self.box.run("systemctl", "show", "--value", "-p", name, unit).stdout.strip()

    def wait(self, what, meaning):
        """Wait for something that systemd does by itself."""
        deadline = time.monotonic() + SOON_S
        while not what():
            assert time.monotonic() < deadline, f"not {meaning}:\n{self.box.journal('imgpro.service')}"
            time.sleep(0.1)

    def is_active(self):
        return self.show("ActiveState") == "active"

    def processes(self):
        """The ids of the service's processes as this machine knows them, main first."""
        main = self.inner_main()
        names = {}
        for path in self.box.processes():
            words = path.joinpath("cmdline").read_bytes().split(b"\0")
            if words[0] == b"/usr/local/bin/imgpro":
                status = path.joinpath("status").read_text()
                names[int(re.search(r"NSpid:.*\t(\d+)\n", status)[1])] = (path, words[1].decode(), status)
        assert main in names, names
        return names

    def inner_main(self):
        return int(self.show("MainPID"))

    def configure(self, text):
        (self.box.root / DROP_IN).write_text(text)
        self.box.run("systemctl", "daemon-reload")

    def unpacked(self):
        return sorted(path.name for path in (self.box.root / "var/cache/imgpro").iterdir())

    def upload(self):
        return self.server.must_upload(PICTURE, "picture.png")

    def fetch(self, made):
        return self.server.get("/t/" + made["src"].rpartition("/t/")[2])


@pytest.fixture(scope="module")
def lan(tmp_path_factory):
    executable = built_executable()
    with booted(tmp_path_factory.mktemp("lan")) as box:
        box.put(executable, FILE)
        found = Lan(box)
        # As on a machine of which nothing can be relied on: no HOME, no PATH.
        found.said = box.run("env", "-i", FILE, "service", "install", "--data", DATA, timeout=300).stdout
        (box.root / "etc/imgpro/imgpro.env").write_text("".join(f"{k}={v}\n" for k, v in UNLIMITED.items()))
        box.run("systemctl", "restart", "imgpro.service")
        yield found
        found.server.close()


@pytest.fixture
def service(lan):
    """The service, running when a test begins, and again when it ends."""
    lan.wait(lan.is_active, "active")  # a reload, the last word of a test, may not be over
    yield lan
    drop_in = lan.box.root / DROP_IN
    if drop_in.exists():
        drop_in.unlink()
        lan.box.run("systemctl", "daemon-reload")


def test_it_runs_hardened_as_its_own_user(service):
    box = service.box
    assert f"open      http://{box.address}:8080\n" in service.said
    assert f"data      {DATA}\n" in service.said
    for path, words, status in service.processes().values():
        assert path.stat().st_uid == (box.root / DATA.lstrip("/")).stat().st_uid, words
        assert re.search(r"Uid:\t([1-9]\d*)\t\1\t\1\t\1\n", status)
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
    assert box.run("id", "-un", str((box.root / DATA.lstrip("/")).stat().st_uid)).stdout == "imgpro\n"
    score = re.search(r"exposure level.*: ([\d.]+)", box.run("systemd-analyze", "security", "imgpro.service").stdout)
    assert float(score[1]) <= 1.5
    verified = box.run("systemd-analyze", "verify", "imgpro.service", "imgpro.socket")
    assert verified.stdout + verified.stderr == ""
    assert service.show("UnitFileState") == "enabled"
    assert service.show("NRestarts") == "0"


def test_the_set_up_link_works_from_the_network(service):
    link = re.search(rf"set up    (http://{re.escape(service.box.address)}:8080/setup\?t=\S+)\n", service.said)
    assert link is not None, service.said
    assert service.server.get("/setup?" + link[1].partition("?")[2]).status == 200


def test_a_phone_in_the_network_uploads_and_gets_any_size(service):
    made = service.upload()
    assert service.fetch(made).body == PICTURE
    for query in ("width=100", "size=s"):
        for ending in ("avif", "webp"):
            found = service.server.get(f"/t/{made['id']}.{ending}?{query}")
            assert (found.status, found.headers["Content-Type"]) == (200, f"image/{ending}"), found


def test_the_workers_sandbox_holds_inside_the_unit(service):
    """The same report as outside, written from within everything that the unit forbids."""
    service.configure(
        '[Service]\nExecStartPre=-/bin/sh -c "/usr/local/bin/imgpro doctor --json > /run/imgpro/doctor.json"\n'
    )
    service.box.run("systemctl", "restart", "imgpro.service")
    inside = {line["name"]: line for line in json.loads(service.box.run("cat", "/run/imgpro/doctor.json").stdout)}
    outside = {line["name"]: line for line in json.loads(service.box.run("imgpro", "doctor", "--json").stdout)}
    assert inside["sandbox"] == outside["sandbox"]
    assert "NOT refused" not in inside["sandbox"]["found"]
    assert [line for line in inside.values() if line["state"] == "red"] == []
    niceness = [
        os.getpriority(os.PRIO_PROCESS, int(path.name))
        for path, words, _ in service.processes().values()
        if words == "__zygote__"
    ]
    assert max(niceness) > 0  # the workers stand back, which a filter on resources would not let them


def test_status_tells_what_a_person_asks(service):
    found = json.loads(service.box.run("imgpro", "service", "status", "--json").stdout)
    assert found["state"] == "active"
    assert found["ready"] is True
    assert found["user"] == "imgpro"
    assert found["data"] == DATA
    assert found["socket"] is True
    assert found["checks"]["database"] == "ok"
    assert re.match(r"state +active since ", service.box.run("imgpro", "service", "status").stdout)


def test_a_reload_reads_settings_and_keeps_the_process(service):
    before, config = service.inner_main(), service.box.root / CONFIG
    config.write_text(config.read_text().replace("[log]\n", '[log]\nlevel = "debug"\n', 1))
    service.box.run("systemctl", "reload", "imgpro.service")
    service.wait(lambda: "log.level" in service.box.journal("imgpro.service"), "reloaded")
    service.wait(service.is_active, "active again")
    assert service.inner_main() == before
    assert service.show("StatusText").startswith("Answering on ")


def test_restarts_and_an_upgrade_lose_no_request(service):
    box = service.box
    made = service.upload()
    newer = box.root / "opt/imgpro-newer"
    newer.write_bytes(built_executable().read_bytes() + b"\n")  # another file, and the same program
    newer.chmod(0o755)
    with Load(box.address, 8080, "/t/" + made["src"].rpartition("/t/")[2], PICTURE) as load:
        box.run("systemctl", "restart", "imgpro.service")
        box.run("/opt/imgpro-newer", "service", "install")
    assert load.failures == []
    assert load.answers > 100
    assert (box.root / "usr/local/bin/imgpro").read_bytes() == newer.read_bytes()
    assert service.fetch(made).body == PICTURE
    again = service.inner_main()
    box.run("/opt/imgpro-newer", "service", "install")  # nothing new: nothing happens
    assert service.inner_main() == again


@pytest.mark.parametrize("whom", ["loader", "server"])
def test_what_is_killed_comes_back_and_leaves_nothing(service, whom):
    service.configure("[Service]\nRestartSec=1s\n")
    made, main, restarts = service.upload(), service.inner_main(), int(service.show("NRestarts"))
    server = next(path for path, words, _ in service.processes().values() if words == "run" and not _is(path, main))
    os.kill(int(server.name) if whom == "server" else int(service.processes()[main][0].name), signal.SIGKILL)
    service.wait(lambda: int(service.show("NRestarts")) > restarts and service.is_active(), "started again")
    assert service.fetch(made).body == PICTURE
    assert len(service.unpacked()) == 1, service.unpacked()
    assert service.inner_main() != main


def _is(path, inner):
    return re.search(r"NSpid:.*\t(\d+)\n", path.joinpath("status").read_text())[1] == str(inner)


def test_what_hangs_is_restarted_by_the_watchdog(service):
    service.configure("[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\nRestartSec=1s\n")
    service.box.run("systemctl", "restart", "imgpro.service")
    made, main = service.upload(), service.inner_main()
    time.sleep(2.5)  # longer than the period: signs of life are given
    assert service.inner_main() == main
    for path, words, _ in service.processes().values():
        if words == "run" and not _is(path, main):
            os.kill(int(path.name), signal.SIGSTOP)
    service.wait(lambda: service.is_active() and service.inner_main() not in (0, main), "started again")
    assert "Watchdog timeout" in service.box.journal("imgpro.service")
    assert service.fetch(made).body == PICTURE
    assert len(service.unpacked()) == 1, service.unpacked()


def test_bad_settings_end_the_service_once_and_with_a_sentence(service):
    box, config = service.box, service.box.root / CONFIG
    good = config.read_text()
    service.configure("[Service]\nRestartSec=1s\n")
    config.write_text(good.replace("[server]\n", '[server]\nmax_connections = "many"\n', 1))
    assert box.run("systemctl", "restart", "imgpro.service", check=False).returncode != 0
    status = box.run("imgpro", "service", "status", check=False)
    assert status.returncode == 69
    assert "exit code 78" in status.stdout
    assert service.show("NRestarts") == "0"
    starts = box.journal("imgpro.service").count("server.max_connections")
    time.sleep(2)  # longer than RestartSec=
    assert box.journal("imgpro.service").count("server.max_connections") == starts
    assert service.show("ActiveState") == "failed"
    with socket.create_connection((box.address, 8080)):  # whoever knocks has it tried again, five times and no more
        service.wait(lambda: service.show("ActiveState", "imgpro.socket") == "failed", "given up")
    assert box.journal("imgpro.service").count("server.max_connections") <= starts + 5
    config.write_text(good)
    box.run("systemctl", "restart", "imgpro.service")
    assert service.is_active()
    assert service.show("ActiveState", "imgpro.socket") == "active"


def test_a_directory_that_is_somebody_elses_is_refused(service):
    box = service.box
    box.run(
        "sh", "-c", "mkdir -p /srv/photos /srv/roots && touch /srv/photos/cat.jpg && cp /srv/img/FORMAT /srv/roots/"
    )
    foreign = box.run("imgpro", "service", "install", "--data", "/srv/photos", check=False)
    assert (foreign.returncode, foreign.stdout) == (10, "")
    roots = box.run("imgpro", "service", "install", "--data", "/srv/roots", check=False)
    assert roots.returncode == 1
    assert "Try: sudo chown -R imgpro: /srv/roots" in roots.stderr
    assert "belongs to the system" in box.run("imgpro", "service", "install", "--data", "/tmp/x", check=False).stderr
    assert service.show("StatusText").endswith(DATA)
    assert service.is_active()


def test_only_root_may_install(service):
    done = service.box.run("runuser", "-u", "nobody", "--", "imgpro", "service", "install", "--data", DATA, check=False)
    assert done.returncode == 1
    assert "Try: sudo /usr/local/bin/imgpro service install --data /srv/img" in done.stderr


def test_the_journal_has_no_times_of_ours_and_no_secrets(service):
    secret = service.server.new_key("ann@example.org", verified=False)
    assert service.server.upload(PICTURE, key=secret).status == 201
    text = service.box.journal("imgpro.service")
    assert "POST /v1/upload 201" in text
    assert secret not in text
    assert "/setup?t=" not in text
    assert re.search(r"^\S*\d\d:\d\d:\d\d", text, re.MULTILINE) is None


def test_after_a_reboot_it_runs_with_the_same_pictures(service):
    made = service.upload()
    service.box.reboot()
    service.wait(service.is_active, "started with the machine")
    assert service.fetch(made).body == PICTURE
    assert len(service.unpacked()) == 1


def test_a_port_that_is_taken_is_told(service):
    box = service.box
    box.run("systemd-run", "--unit=squatter", "systemd-socket-activate", "-l", "9090", "/bin/cat")
    done = box.run("imgpro", "service", "install", "--listen", ":9090", check=False)
    assert done.returncode != 0
    assert "Address already in use" in done.stderr
    assert "--listen" in done.stderr
    assert service.server.get("/healthz").status == 200  # it went on as it was
    box.run("systemctl", "stop", "squatter")
    box.run("imgpro", "service", "install", "--listen", ":80")
    service.server.port = 80
    assert service.server.get("/healthz").status == 200
    # Its own port on fewer addresses, as for a proxy on the same machine, and back.
    box.run("imgpro", "service", "install", "--listen", "127.0.0.1:80")
    with pytest.raises(ConnectionRefusedError):
        service.server.get("/healthz")
    box.run("imgpro", "service", "install", "--listen", ":80")
    assert service.server.get("/healthz").status == 200


def test_backups_go_where_the_service_was_let(service):
    """systemd lets the service write to few places; another one for backups is opened by installing again."""
    box, config = service.box, service.box.root / CONFIG
    service.upload()
    box.run("mkdir", "/mnt/backups")
    before = config.read_text()
    assert "\n#to = " in before
    config.write_text(re.sub(r"^#to = .*$", 'to = "/mnt/backups/imgpro"', before, count=1, flags=re.MULTILINE))
    box.run("systemctl", "reload", "imgpro.service")
    refused = box.run("imgpro", "backup", "create", check=False)
    assert refused.returncode == 74, refused.stderr
    assert "Read-only file system" in refused.stderr
    assert "Try: sudo imgpro service install" in refused.stderr
    assert re.search(
        r"NO  backups +the service may not write to /mnt/backups", box.run("imgpro", "doctor", check=False).stdout
    )
    installed = box.run("imgpro", "service", "install")
    assert "backups" not in installed.stderr
    name = box.run("imgpro", "backup", "create").stdout.strip()
    assert (box.root / f"mnt/backups/imgpro/backups/{name}/manifest.json").exists()
    assert (box.root / "mnt/backups/imgpro").stat().st_uid == (box.root / DATA.lstrip("/")).stat().st_uid
    assert re.search(r"ok  backups +the service may write to", box.run("imgpro", "doctor", check=False).stdout)
    config.write_text(before)
    box.run("systemctl", "reload", "imgpro.service")


def test_a_data_directory_that_is_missing_is_told_by_imgpro(service):
    box = service.box
    box.run("systemctl", "stop", "imgpro.socket", "imgpro.service")
    box.run("mv", "/srv/img", "/srv/away")
    assert box.run("systemctl", "start", "imgpro.service", check=False).returncode != 0
    assert service.show("ExecMainStatus") == "10"
    assert not (box.root / "srv/img").exists()
    box.run("mv", "/srv/away", "/srv/img")
    service.wait(service.is_active, "active since the directory is back")
    box.run("systemctl", "start", "imgpro.socket")
    done = box.run("imgpro", "service", "install", "--data", "/srv/img")
    assert "until now it served" not in done.stderr


def test_uninstalling_leaves_the_pictures(service):
    box = service.box
    kept = sorted(path.name for path in (box.root / "srv/img/blobs").rglob("*"))
    box.run("imgpro", "service", "uninstall")
    units = [path for path in (box.root / "etc/systemd/system").rglob("*") if "imgpro" in path.name]
    assert units == []
    for path in ("usr/local/bin/imgpro", "usr/local/lib/imgpro", "var/cache/imgpro", "etc/sysusers.d/imgpro.conf"):
        assert not os.path.lexists(box.root / path), path
    assert (box.root / CONFIG).exists()
    assert sorted(path.name for path in (box.root / "srv/img/blobs").rglob("*")) == kept
    assert box.run("systemctl", "list-units", "--all", "--no-legend", "imgpro*").stdout == ""
    with pytest.raises(ConnectionRefusedError):
        service.server.get("/healthz")


def test_the_folder_installs_likewise(lan):
    box = lan.box
    box.run("sh", "-c", "mkdir -p /disk /mnt/nas && mount --bind /disk /mnt/nas")
    box.put_folder(built_folder().parent, "/opt/imgpro-folder")
    box.run("/opt/imgpro-folder/imgpro", "service", "install", "--data", "/mnt/nas")
    lan.server.port = 8080
    assert (box.root / "usr/local/bin/imgpro").is_symlink()
    assert lan.fetch(lan.upload()).body == PICTURE
    assert lan.unpacked() == []


def test_a_disk_that_is_not_there_is_not_begun_anew(service):
    box = service.box
    service.configure("[Service]\nRestartSec=1s\n")
    made = service.upload()
    box.run("systemctl", "stop", "imgpro.socket", "imgpro.service")
    box.run("umount", "/mnt/nas")
    assert box.run("systemctl", "start", "imgpro.service", check=False).returncode != 0
    assert service.show("ExecMainStatus") == "10"
    assert list((box.root / "mnt/nas").iterdir()) == []
    box.run("mount", "--bind", "/disk", "/mnt/nas")
    service.wait(service.is_active, "active since its disk is back")
    assert service.fetch(made).body == PICTURE


def test_purging_takes_everything_that_is_imgpros(lan):
    box = lan.box
    box.run("touch", "/mnt/nas/holiday.txt")
    refused = box.run("imgpro", "service", "uninstall", "--purge", stdin="/srv/other\n", check=False)
    assert refused.returncode == 1
    assert lan.is_active()
    done = box.run("imgpro", "service", "uninstall", "--purge", stdin="/mnt/nas\n")
    assert "/mnt/nas/holiday.txt is not imgpro's and was left" in done.stderr
    assert [path.name for path in (box.root / "disk").iterdir()] == ["holiday.txt"]
    assert (box.root / "srv/img/blobs").is_dir()  # another service's once, which nobody named
    assert not (box.root / "etc/imgpro").exists()
    assert box.run("id", "imgpro", check=False).returncode != 0
