"""Read settings from flags, environment and TOML, remembering where each value came from.

Order: flag, `IMGPRO_*` variable, `IMGPRO_*_FILE`, TOML file, default. All mistakes are reported together, each
with its name, value and the form it should have. Knows no click: flags arrive as a mapping.
"""

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from imgpro import forms
from imgpro.errors import ConfigError
from imgpro.forms import Field
from imgpro.settings import Settings

_BASE_URL = re.compile(r"https?://[A-Za-z0-9.\-\[\]:_]+(/[A-Za-z0-9._~\-/]*)?")


class Loaded(msgspec.Struct, frozen=True):
    """Settings in force, the source of each by dotted name, and warnings for the operator."""

    settings: Settings
    sources: dict[str, str]
    warnings: tuple[str, ...]
    config_file: Path | None


def load(flags: Mapping[str, Any], config: Path | None = None, environ: Mapping[str, str] | None = None) -> Loaded:
    """Gather the settings. `flags` maps dotted names to values given on the command line.

    Raises ConfigError that lists every problem found.
    """
    env = os.environ if environ is None else environ
    path = _config_path(config, env)
    problems: list[str] = []
    document, warnings = _read_toml(path, problems)
    values: dict[str, dict[str, Any]] = {}
    sources: dict[str, str] = {}
    for field in forms.fields():
        found = _find(field, flags, env, document, path, problems)
        if found is None:
            sources[field.path] = "default"
            continue
        raw, source = found
        try:
            values.setdefault(field.section, {})[field.name] = forms.parse_value(field, raw)
            sources[field.path] = source
        except (ValueError, TypeError):
            shown = "(secret)" if field.secret else repr(raw)
            problems.append(f"{field.path} = {shown} ({source}): must be {forms.describe_form(field)}")
    settings = _convert(values, sources, problems)
    _check(settings, problems)
    if problems:
        raise ConfigError("The settings have mistakes:\n  " + "\n  ".join(problems))
    return Loaded(settings, sources, tuple(warnings + _unknown_variables(env)), path)


def default_data_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Return where data goes when nothing was said: systemd's state directory, else the user's."""
    env = os.environ if environ is None else environ
    state = env.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(state) if state else Path(platformdirs.user_data_dir("imgpro", appauthor=False))


def _config_path(config: Path | None, env: Mapping[str, str]) -> Path | None:
    named = config or (Path(env["IMGPRO_CONFIG"]) if env.get("IMGPRO_CONFIG") else None)
    if named is not None:
        if not named.is_file():
            raise ConfigError(f"The configuration file {named} does not exist or is not a file.")
        return named
    candidates = [Path(platformdirs.user_config_dir("imgpro", appauthor=False)), Path("/etc/imgpro")]
    if env.get("CONFIGURATION_DIRECTORY"):
        candidates.insert(0, Path(env["CONFIGURATION_DIRECTORY"].split(":")[0]))
    for folder in candidates:
        try:
            if (folder / "config.toml").is_file():
                return folder / "config.toml"
        except OSError:
            continue
    return None


def _read_toml(path: Path | None, problems: list[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    if path is None:
        return {}, []
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        problems.append(f"{path}: {error}")
        return {}, []
    known = {field.path for field in forms.fields()}
    sections = {path_.partition(".")[0] for path_ in known}
    warnings: list[str] = []
    for section, body in document.items():
        if section not in sections:
            warnings.append(f"{path}: [{section}] is not a section{_suggest(section, sections)}")
        elif not isinstance(body, dict):
            problems.append(f"{path}: {section} must be a table: [{section}]")
        else:
            warnings += [
                f"{path}: {section}.{name} is not a setting{_suggest(f'{section}.{name}', known)}"
                for name in body
                if f"{section}.{name}" not in known
            ]
    return {key: body for key, body in document.items() if isinstance(body, dict)}, warnings


def _suggest(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _find(
    field: Field,
    flags: Mapping[str, Any],
    env: Mapping[str, str],
    document: dict[str, dict[str, Any]],
    path: Path | None,
    problems: list[str],
) -> tuple[Any, str] | None:
    if flags.get(field.path) is not None:
        return flags[field.path], "command line"
    for name in _variables(field):
        if name in env and f"{name}_FILE" in env:
            problems.append(f"{name} and {name}_FILE are both set: keep one")
        if name in env:
            return env[name], name
        if f"{name}_FILE" in env:
            try:
                return Path(env[f"{name}_FILE"]).read_text(encoding="utf-8").strip(), f"{name}_FILE"
            except (OSError, UnicodeDecodeError) as error:
                problems.append(f"{name}_FILE: {error}")
                return None
    section = document.get(field.section, {})
    return (section[field.name], str(path)) if field.name in section else None


_SHORT_VARIABLES = {
    "storage.data": "IMGPRO_DATA",
    "server.listen": "IMGPRO_LISTEN",
    "server.base_url": "IMGPRO_BASE_URL",
}


def _variables(field: Field) -> list[str]:
    short = _SHORT_VARIABLES.get(field.path)
    return [short, field.variable] if short else [field.variable]


def _unknown_variables(env: Mapping[str, str]) -> list[str]:
    known = {name for field in forms.fields() for name in _variables(field)}
    known |= {f"{name}_FILE" for name in known} | {"IMGPRO_CONFIG", "IMGPRO_CRASH_AT", "IMGPRO_ENGINE"}
    known |= {"IMGPRO_SERVER", "IMGPRO_KEY"}  # of `imgpro upload`
    return [
        f"{name} is not a setting{_suggest(name, known)}"
        for name in sorted(env)
        if name.startswith("IMGPRO_") and name not in known
    ]


def _convert(values: dict[str, dict[str, Any]], sources: dict[str, str], problems: list[str]) -> Settings:
    """Return the settings with what could be used; the rest is reported and has its default."""
    fields = {field.path: field for field in forms.fields()}
    settings = Settings()
    for section in msgspec.structs.fields(Settings):
        body: dict[str, Any] = {}
        for name, value in values.get(section.name, {}).items():
            try:
                msgspec.convert({name: value}, section.type)
                body[name] = value
            except msgspec.ValidationError as error:
                reason = str(error).split(" - at ")[0]
                path = f"{section.name}.{name}"
                shown = "(secret)" if fields[path].secret else repr(value)
                form = forms.describe_form(fields[path])
                problems.append(f"{path} = {shown} ({sources[path]}): {reason}; must be {form}")
        settings = msgspec.structs.replace(settings, **{section.name: msgspec.convert(body, section.type)})
    return settings


def _check(settings: Settings, problems: list[str]) -> None:
    """Report values that have the right type and still cannot work."""
    for name in ("base_url", "api_url", "src_url"):
        address = getattr(settings.server, name)
        if address and not _BASE_URL.fullmatch(address):
            problems.append(f"server.{name} = {address!r}: must look like https://img.example.org")
        elif address and not settings.server.base_url:
            problems.append(f"server.{name} = {address!r}: server.base_url is needed beside it")
    checks: list[tuple[str, tuple[str, ...], Callable[[str], Any]]] = [
        ("server.listen", settings.server.listen, parse_listen),
        ("server.trusted_proxies", tuple(p for p in settings.server.trusted_proxies if p != "unix"), _network),
        ("imports.private_networks", settings.imports.private_networks, _network),
        ("header_sign_in.proxies", tuple(p for p in settings.header_sign_in.proxies if p != "unix"), _network),
        ("metrics.networks", tuple(p for p in settings.metrics.networks if p != "unix"), _network),
        ("metrics.listen", (settings.metrics.listen,) if settings.metrics.listen else (), parse_listen),
    ]
    for name, items, check in checks:
        for item in items:
            try:
                check(item)
            except ValueError as error:
                problems.append(f"{name}: {item!r}: {error}")
    if settings.plans.upgrade == "checkout" and not settings.plans.checkout_url.startswith(("https://", "http://")):
        problems.append("plans.checkout_url: needed for plans.upgrade = checkout, e.g. https://pay.example.org/{plan}")
    if settings.plans.upgrade == "checkout" and len(settings.plans.checkout_secret) < 16:
        problems.append("plans.checkout_secret: at least 16 characters are needed for plans.upgrade = checkout")
    for name, kept_s in (
        ("anonymous.retention_s", settings.anonymous.retention_s),
        ("plans.unverified_retention_s", settings.plans.unverified_retention_s),
    ):
        if kept_s is not None and kept_s < 1:
            problems.append(f"{name} = {kept_s}: must be at least 1 second, or unlimited")
    if not settings.server.listen:
        problems.append("server.listen: at least one address is needed")


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text, strict=False)


class Listen(msgspec.Struct, frozen=True):
    """One address to listen on. `host` is empty for all interfaces; `port` 0 lets the system choose."""

    kind: str  # "tcp", "unix" or "fd"
    host: str = ""
    port: int = 0
    path: str = ""
    fd: int = -1
    tls: bool = False


def parse_listen(text: str) -> Listen:
    """Read one `listen` address. Raises ValueError with the form it should have."""
    if text.startswith("unix:") and len(text) > 5:
        return Listen("unix", path=text[5:])
    if text.startswith("fd:") and text[3:].isdigit():
        return Listen("fd", fd=int(text[3:]))
    tls = text.startswith("https://")
    host, colon, port = text.removeprefix("https://").removeprefix("http://").rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isdigit() or int(port) > 65535 or (":" in host and not bracketed):
        raise ValueError("must look like :8080, 127.0.0.1:8080, [::1]:8080, https://:8443, unix:/path or fd:3")
    return Listen("tcp", host=host[1:-1] if bracketed else host, port=int(port), tls=tls)
