"""The servers that are measured: how each is started, and how each is asked for a size and a format."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from bench import cost, load
from bench.pictures import free_port, width_px

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PEERS = HERE / ".peers"
# For all alike; imgpro's own defaults.
JPEG_QUALITY, WEBP_QUALITY = 82, 80
NGINX_MODULE = Path("/usr/lib/nginx/modules/ngx_http_image_filter_module.so")

THUMBOR_SETTINGS = f"""
LOADER = "thumbor.loaders.file_loader"
FILE_LOADER_ROOT_PATH = {{folder!r}}
STORAGE = "thumbor.storages.no_storage"
RESULT_STORAGE = None
QUALITY = {JPEG_QUALITY}
WEBP_QUALITY = {WEBP_QUALITY}
ALLOW_UNSAFE_URL = True
MAX_PIXELS = 100_000_000
"""

NGINX_SETTINGS = """
{module}
worker_processes auto;
daemon off;
error_log {work}/error.log;
pid {work}/pid;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  types {{ image/jpeg jpg; image/png png; image/webp webp; }}
  client_body_temp_path {work}; proxy_temp_path {work}; fastcgi_temp_path {work};
  uwsgi_temp_path {work}; scgi_temp_path {work};
  server {{
    listen 127.0.0.1:{port};
    root {folder};
    location ~ ^/(?<size>[0-9]+)/(?<name>.+)$ {{ {resize} }}
  }}
}}
"""


def _source(name: str) -> str:
    return name.partition("-")[0]


class Server:
    """One server process and the folder it may use."""

    name = ""

    def __init__(self, folder: Path, work: Path) -> None:
        self.folder = folder
        self.work = work / self.name.replace(" ", "-")
        self.work.mkdir(parents=True)
        self.port = free_port()
        self.start_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def missing(cls) -> str | None:
        """Say what has to be installed for this server, or None."""
        return None

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return {}

    def ready_path(self) -> str:
        return "/"

    def picture_path(self, name: str, size: str, fmt: str) -> str | None:
        """Return the path of a picture, or None for what this server cannot do."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def start(self) -> None:
        log = (self.work / "log").open("wb")
        begun = time.perf_counter()
        self._process = subprocess.Popen(
            self.command(),
            cwd=self.work,
            env={**os.environ, **self.environment()},
            stdout=log,
            stderr=log,
            process_group=0,  # in one session with who asks: Linux shares processors out among sessions
        )
        log.close()
        while True:
            try:
                asyncio.run(load.ask_once(self.port, self.ready_path()))
                break
            except (OSError, asyncio.IncompleteReadError):
                if self._process.poll() is not None or time.perf_counter() - begun > 30:
                    words = (self.work / "log").read_text(errors="replace")[-2000:]
                    self.stop()
                    raise RuntimeError(f"{self.name} did not start:\n{words}") from None
                time.sleep(0.005)
        self.start_s = time.perf_counter() - begun

    def stop(self) -> None:
        if self._process is None:
            return
        members = cost.tree(self._process.pid)
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process = None


class Imgpro(Server):
    """imgpro with its defaults, without a limit on uploads."""

    name = "imgpro"
    settings: Mapping[str, str] = {}

    def __init__(self, folder: Path, work: Path) -> None:
        super().__init__(folder, work)
        self.ids: dict[str, str] = {}
        self.answers: dict[str, dict[str, object]] = {}

    def command(self) -> list[str]:
        program = str(ROOT / ".venv/bin/imgpro")
        return [program, "run", "--data", str(self.work / "data"), "--listen", f"127.0.0.1:{self.port}"]

    def environment(self) -> Mapping[str, str]:
        unlimited = ("UPLOADS_PER_HOUR", "UPLOADS_PER_DAY", "ATTEMPTS_PER_MINUTE", "STORAGE_BYTES")
        return {**{f"IMGPRO_ANONYMOUS_{name}": "unlimited" for name in unlimited}, **self.settings}

    def ready_path(self) -> str:
        return "/healthz"

    async def upload(self, connection: load.Connection, name: str, body: bytes) -> str:
        """Upload one picture; return its id."""
        headers, parts = load.multipart(name, body)
        answer = await connection.ask("/v1/upload", method="POST", headers=headers, body=parts)
        if answer.status != 201:
            raise RuntimeError(f"upload of {name}: {answer.status} {answer.body[:300]!r}")
        self.answers[name] = json.loads(answer.body)
        self.ids[name] = str(self.answers[name]["id"])
        return self.ids[name]

    async def upload_all(self, names: list[str]) -> None:
        connection = load.Connection(self.port)
        for name in names:
            await self.upload(connection, name, (self.folder / name).read_bytes())
        connection.close()

    def picture_path(self, name: str, size: str, fmt: str) -> str | None:
        return f"/t/{self.ids[name]}.{fmt}?size={size}"


class ImgproCold(Imgpro):
    """imgpro that keeps no derivative, so that every request is a transform."""

    name = "imgpro cold"
    settings: Mapping[str, str] = {"IMGPRO_CACHE_MAX_BYTES": "0", "IMGPRO_CACHE_MEMORY_BYTES": "0"}


class Ipx(Server):
    name = "ipx"
    script = "ipx.mjs"

    @classmethod
    def missing(cls) -> str | None:
        return None if (PEERS / "node_modules").is_dir() else "node and npm"

    def command(self) -> list[str]:
        return ["node", str(PEERS / self.script), str(self.folder), str(self.port)]

    def environment(self) -> Mapping[str, str]:
        return {"NODE_ENV": "production"}

    def picture_path(self, name: str, size: str, fmt: str) -> str | None:
        quality = {"jpeg": f",q_{JPEG_QUALITY}", "webp": f",q_{WEBP_QUALITY}", "png": ""}[fmt]
        return f"/f_{fmt},w_{width_px(_source(name), size)}{quality}/{name}"


class Sharp(Ipx):
    name = "sharp"
    script = "sharp.mjs"

    def picture_path(self, name: str, size: str, fmt: str) -> str | None:
        return f"/{width_px(_source(name), size)}/{fmt}/{name}"


class Thumbor(Server):
    """thumbor with a process per core (two), no storage of any kind."""

    name = "thumbor"

    @classmethod
    def missing(cls) -> str | None:
        return None if (PEERS / "thumbor/bin/thumbor").is_file() else "thumbor (needs the network once)"

    def command(self) -> list[str]:
        settings = self.work / "thumbor.conf"
        settings.write_text(THUMBOR_SETTINGS.format(folder=str(self.folder)))
        program = str(PEERS / "thumbor/bin/thumbor")
        return [
            program,
            "-p",
            str(self.port),
            "-i",
            "127.0.0.1",
            "-c",
            str(settings),
            "-l",
            "error",
            "--processes",
            "2",
        ]

    def ready_path(self) -> str:
        return "/healthcheck"

    def picture_path(self, name: str, size: str, fmt: str) -> str | None:
        return f"/unsafe/{width_px(_source(name), size)}x0/filters:format({fmt})/{name}"


class Nginx(Server):
    """nginx: files as they are, and image_filter under /WIDTH/NAME."""

    name = "nginx"

    @classmethod
    def missing(cls) -> str | None:
        return None if shutil.which("nginx") else "nginx-light"

    def command(self) -> list[str]:
        filters = NGINX_MODULE.is_file()
        resize = f"image_filter resize $size -; image_filter_jpeg_quality {JPEG_QUALITY}; image_filter_buffer 64M;"
        text = NGINX_SETTINGS.format(
            module=f"load_module {NGINX_MODULE};" if filters else "",
            resize=resize + " try_files /$name =404;" if filters else "return 404;",
            work=self.work,
            folder=self.folder,
            port=self.port,
        )
        if os.getuid() == 0:
            text = "user root;\n" + text
        (self.work / "nginx.conf").write_text(text)
        return ["nginx", "-p", str(self.work), "-c", str(self.work / "nginx.conf"), "-e", str(self.work / "error.log")]

    def picture_path(self, name: str, size: str, fmt: str) -> str | None:
        if fmt != "jpeg" or not NGINX_MODULE.is_file():
            return None
        return f"/{width_px(_source(name), size)}/{name}"


class Bare(Server):
    """A bare aiohttp server of one file: `mode` is memory (uvloop) or disk (asyncio's sendfile)."""

    mode = "memory"
    name = "bare aiohttp"

    def __init__(self, file: Path, work: Path) -> None:
        self.file = file
        super().__init__(file.parent, work)

    def command(self) -> list[str]:
        return [sys.executable, str(HERE / "peers/bare.py"), self.mode, str(self.file), str(self.port)]

    def picture_path(self, name: str, size: str, fmt: str) -> str | None:
        return "/"


class BareDisk(Bare):
    mode = "disk"
    name = "aiohttp sendfile"


def install_peers() -> list[str]:
    """Install what npm and pip can bring into `.peers`; return a sentence for each failure."""
    PEERS.mkdir(exist_ok=True)
    failures = []
    for script in ("ipx.mjs", "sharp.mjs"):
        shutil.copy(HERE / "peers" / script, PEERS)
    wanted = (HERE / "package.json").read_bytes()
    stamp = PEERS / "package.json"
    if not (PEERS / "node_modules").is_dir() or not stamp.exists() or stamp.read_bytes() != wanted:
        stamp.write_bytes(wanted)
        npm = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
        failures += _try("ipx and sharp", [npm], PEERS)
        if failures:
            stamp.unlink()
    environment = PEERS / "thumbor"
    if not (environment / ".ready").exists():
        pip = [str(environment / "bin/python"), "-m", "pip", "install", "-q", "--no-deps", "--require-hashes"]
        steps = [[sys.executable, "-m", "venv", "--clear", str(environment)], [*pip, "-r", str(HERE / "thumbor.txt")]]
        failed = _try("thumbor", steps, PEERS)
        failures += failed
        if not failed:
            (environment / ".ready").touch()
    return failures


def _try(what: str, steps: list[list[str]], folder: Path) -> list[str]:
    print(f"installing {what}", file=sys.stderr)
    for step in steps:
        try:
            done = subprocess.run(step, cwd=folder, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return [f"{what}: {step[0]} is not installed"]
        if done.returncode:
            return [f"{what}: {done.stderr.strip()[-300:]}"]
    return []
