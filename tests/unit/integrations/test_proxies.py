"""What each proxy is given: whole, true to the server's own settings, and nothing that a name could break."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from imgpro.integrations.lines import avahi
from imgpro.integrations.proxies import PROXIES, PROXY_BY_NAME, Front
from imgpro.integrations.target import Target
from imgpro.settings import Settings
from imgpro.sources import load
from tests.servers import ROOT

FRONTS = [
    Front("https://img.example.org", "127.0.0.1:8080"),
    Front("https://example.org/img", "127.0.0.1:8080"),
    Front("https://nas.lan:8443/a/b", "unix:/run/imgpro/http.sock", local=True),
    Front("http://nas.lan", "[::1]:9000", local=True),
    Front("https://[fd00::1]", "127.0.0.1:8080", local=True),
]
AVAHI_DTD = Path("/usr/share/avahi/avahi-service.dtd")


def text_of(name, front):
    return "\n".join(piece.content for piece in PROXY_BY_NAME[name].pieces(front))


@pytest.mark.parametrize("front", FRONTS, ids=lambda front: front.base)
@pytest.mark.parametrize("proxy", PROXIES, ids=lambda proxy: proxy.name)
def test_everything_is_there(proxy, front, tmp_path):
    pieces = proxy.pieces(front)
    assert len(proxy.steps_for(front)) == 3
    assert not any("{" in step for step in proxy.steps_for(front))
    for piece in pieces:
        assert piece.content
        assert not re.search("@[A-Z]+@", piece.content)
        assert re.fullmatch(r"[a-z][a-z.-]*", piece.name or "x")
    told = [piece.content for piece in pieces if "config.toml" in piece.label]
    assert told
    for lines in told:
        (tmp_path / "config.toml").write_text(lines)
        loaded = load({}, tmp_path / "config.toml", {})
        assert loaded.warnings == ()
        assert loaded.settings.server.base_url == front.base
        assert loaded.settings.server.trusted_proxies
        assert loaded.settings.server.listen != Settings().server.listen or "172.16" in lines


def test_what_is_waited_for_is_longer_than_what_we_wait_for():
    uploads, front = Settings().uploads, FRONTS[0]
    traefik = float(re.search(r"readTimeout=(\d+)s", text_of("traefik", front))[1])
    assert traefik > uploads.deadline_s
    for waited in re.findall(r"proxy_\w+_timeout (\d+)s", text_of("nginx", front)):
        settings = Settings()
        assert float(waited) > settings.uploads.patience_s + settings.imports.deadline_s + settings.imaging.deadline_s


def test_nginx_passes_nothing_on_that_a_visitor_claims():
    for front in FRONTS:
        text = text_of("nginx", front)
        for name in ("For", "Proto", "Host", "Prefix"):
            assert re.search(rf"proxy_set_header X-Forwarded-{name} (\$remote_addr|\$scheme|\"\");", text), name
        assert "$proxy_add_x_forwarded_for" not in text


def test_certificates_of_one_s_own_where_there_are_no_others():
    assert "tls internal" not in text_of("caddy", FRONTS[0])
    assert "tls internal" in text_of("caddy", Front("https://nas.lan", "127.0.0.1:8080", local=True))
    assert "tls internal" not in text_of("caddy", FRONTS[3])
    assert "certResolver" in text_of("traefik", FRONTS[0])
    assert "tls" not in text_of("traefik", FRONTS[3])


def test_a_unix_socket_is_for_proxies_that_know_it():
    for name, address in (("caddy", "unix//run/imgpro/http.sock"), ("nginx", "unix:/run/imgpro/http.sock;")):
        assert address in text_of(name, FRONTS[2])
        assert 'trusted_proxies = ["unix"]' in text_of(name, FRONTS[2])
        assert "usermod -a -G imgpro" in text_of(name, FRONTS[2])
        assert "usermod" not in text_of(name, FRONTS[0])
    for name in ("traefik", "tailscale"):
        assert "unix" not in text_of(name, FRONTS[2])
        assert 'listen = ["127.0.0.1:8080"]' in text_of(name, FRONTS[2])


def test_below_a_path_names_that_only_begin_like_it_are_not_ours():
    assert "path /img /img/*" in text_of("caddy", FRONTS[1])
    assert "location /img/ {" in text_of("nginx", FRONTS[1])
    assert "(Path(`/img`) || PathPrefix(`/img/`))" in text_of("traefik", FRONTS[1])
    assert "--set-path=/img " in text_of("tailscale", FRONTS[1])
    assert "--https=8443 --set-path=/a/b http://127.0.0.1:8080\n" in text_of("tailscale", FRONTS[2])


@pytest.mark.parametrize(
    ("base", "listen"),
    [
        ("https://x;}", "127.0.0.1:80"),
        ("https://x/{a}", "127.0.0.1:80"),
        ("https://x/$a", "127.0.0.1:80"),
        ("https://x", "unix:/a b"),
        ("https://x/`id`", "127.0.0.1:80"),
        ("https://x", "unix:/a;\n}"),
    ],
)
def test_what_would_mean_something_is_never_written(base, listen):
    with pytest.raises(ValueError, match="mean something"):
        Front(base, listen)


def test_the_document_says_the_same():
    document = (ROOT / "docs/reverse-proxy.md").read_text()
    blocks = dict(re.findall(r"## (\w+)\n+```\w*\n(.*?)```", document, re.DOTALL))
    assert blocks["Caddy"] in text_of("caddy", FRONTS[0])
    assert blocks["Tailscale"].strip() in text_of("tailscale", FRONTS[0])
    for words in (
        "proxy_request_buffering off",
        "proxy_buffering off",
        "client_max_body_size 0",
        "X-Forwarded-For $remote_addr",
    ):
        assert words in document
        assert words in text_of("nginx", FRONTS[0])
    for lines in re.findall(r"```toml\n(.*?)```", document, re.DOTALL):
        told = tomllib.loads(lines)["server"]
        ours = tomllib.loads(text_of("tailscale", FRONTS[".org/img" in lines]).partition("\n")[2])["server"]
        assert {name: ours[name] for name in told} == told


# On the command line


def imgpro(folder, *arguments, **env):
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "PYTHONPATH": os.getcwd(),
        **env,
    }
    command = [sys.executable, "-m", "imgpro", "integrations", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_the_server_s_own_settings_are_what_is_filled_in(tmp_path):
    settings = {"IMGPRO_BASE_URL": "https://pics.example.org", "IMGPRO_SERVER_LISTEN": ":9090"}
    done = imgpro(tmp_path, "show", "caddy", **settings)
    assert (done.returncode, done.stderr) == (0, "")
    assert "https://pics.example.org {" in done.stdout
    assert "reverse_proxy 127.0.0.1:9090 {" in done.stdout
    done = imgpro(tmp_path, "show", "caddy", "--server", "nas.lan/img", "--listen", "unix:/run/x.sock", **settings)
    assert "http://nas.lan/img" in done.stdout
    assert "unix//run/x.sock" in done.stdout
    done = imgpro(tmp_path, "show", "nginx")
    assert "server_name img.example.org;" in done.stdout
    assert "--server URL names your address" in done.stderr
    done = imgpro(tmp_path, "show", "nginx", "--server", "https://nas.lan/%20;x", **settings)
    assert done.returncode == 78
    done = imgpro(tmp_path, "show", "nginx", "--listen", "nonsense", **settings)
    assert done.returncode == 78
    done = imgpro(tmp_path, "show", "nginx", IMGPRO_SERVER_TLS_CERT="/c.pem", **settings)
    assert (done.returncode, "speaks TLS" in done.stderr) == (78, True)


def test_what_is_written_can_be_read_by_the_proxy_and_holds_no_key(tmp_path):
    done = imgpro(
        tmp_path, "write", "nginx", "--server", "https://example.org/img", "--to", "etc/", IMGPRO_KEY="img_live_k"
    )
    assert done.stdout == "etc/imgpro.conf\netc/imgpro-upstream.conf\n"
    assert done.stderr.startswith("1. ")
    for name in done.stdout.split():
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o644
        assert "img_live" not in (tmp_path / name).read_text()
    done = imgpro(tmp_path, "write", "caddy", "--server", "https://example.org", "--to", "-")
    assert done.stdout.endswith("}\n")
    done = imgpro(tmp_path, "write", "tailscale", "--server", "https://x.ts.net")
    assert done.returncode == 78
    assert "imgpro integrations show tailscale" in done.stderr


def port_announced(done):
    return ElementTree.fromstring(done.stdout).find("service/port").text


def test_avahi_announces_what_this_machine_answers_on(tmp_path):
    assert port_announced(imgpro(tmp_path, "show", "avahi")) == "8080"
    assert port_announced(imgpro(tmp_path, "show", "avahi", IMGPRO_SERVER_LISTEN=":9090")) == "9090"
    assert "_https._tcp" in imgpro(tmp_path, "show", "avahi", IMGPRO_SERVER_TLS_CERT="/c.pem").stdout
    behind = {"IMGPRO_SERVER_LISTEN": "127.0.0.1:8080", "IMGPRO_BASE_URL": "https://nas.lan/img"}
    done = imgpro(tmp_path, "show", "avahi", **behind)
    assert (port_announced(done), "path=/img/" in done.stdout) == ("443", True)
    assert port_announced(imgpro(tmp_path, "show", "avahi", "--server", "http://nas.local:81")) == "81"
    done = imgpro(tmp_path, "show", "avahi", IMGPRO_SERVER_LISTEN="127.0.0.1:8080")
    assert done.returncode == 78
    done = imgpro(tmp_path, "write", "avahi", "--to", "services/")
    assert (tmp_path / "services/imgpro.service").stat().st_mode & 0o777 == 0o644  # its daemon runs as `avahi`
    assert "YOUR_KEY" not in (tmp_path / "services/imgpro.service").read_text()


@pytest.mark.skipif(shutil.which("xmllint") is None or not AVAHI_DTD.exists(), reason="no xmllint or no Avahi here")
def test_the_service_file_is_valid(tmp_path):
    path = tmp_path / "imgpro.service"
    path.write_text(avahi(Target("http://nas.local:8080/img", "k", "Ann & Bob's <pictures>")).content)
    command = [
        "xmllint",
        "--nonet",
        "--noout",
        "--path",
        str(AVAHI_DTD.parent),
        "--dtdvalid",
        str(AVAHI_DTD),
        str(path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/usr/sbin/avahi-daemon").exists(), reason="no Avahi, or not root")
def test_avahi_takes_it(tmp_path):
    """Its daemon looks into one folder only; in a mount namespace of its own that folder is ours."""
    services = tmp_path / "services"
    services.mkdir()
    (services / "imgpro.service").write_text(avahi(Target("http://nas.local:8080", "k", "Ann & Bob")).content)
    name = f"imgpro{os.getpid()}"
    conf = f"[server]\nhost-name={name}\nuse-ipv6=no\nenable-dbus=no\nallow-interfaces={interface()}\n"
    (tmp_path / "avahi.conf").write_text(f"{conf}[publish]\npublish-workstation=no\n")
    daemon = f"avahi-daemon -f {tmp_path}/avahi.conf --no-chroot --no-drop-root --no-rlimits"
    script = f"mount --bind {services} /etc/avahi/services && mount -t tmpfs none /run && exec {daemon}"
    process = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", script], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if "Permission denied" in line or "Operation not permitted" in line:
                pytest.skip(line)
            if "successfully established" in line or "Failed" in line:
                break
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert f'Service "Ann & Bob on {name}"' in said[-1]
    assert "successfully established" in said[-1]


def interface():
    """Return the interface that leads out."""
    lines = json.loads(subprocess.run(["ip", "-j", "route"], capture_output=True, check=True).stdout)
    names = [line["dev"] for line in lines if line["dst"] == "default"] + [name for _, name in socket.if_nameindex()]
    return names[0]
