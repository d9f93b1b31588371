"""Read settings from flags, environment and TOML, remembering where each value came from.

Order: flag, `IMGPRO_*` variable, `IMGPRO_*_FILE`, TOML file, default. All mistakes are reported together, each
with its place, value and the form it should have. Knows no click: flags arrive as a mapping.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import platformdirs

from imgpro import forms, toml_lines
from imgpro.errors import Action, ConfigError
from imgpro.forms import Field
from imgpro.sense import contradictions
from imgpro.settings import Settings

CONFIG_NAME = "config.toml"

Level = Literal["error", "unknown", "renamed", "unwise"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to say about the settings.

    An `error` keeps a server from starting. An `unknown` name does not: a file for a newer version must not keep an
    older one from running. What is `renamed` counts under its new name. `source` is a variable, "command line" or the
    file; `line` and `column` count from 1 and are None where they cannot be told for certain.
    """

    level: Level
    what: str
    setting: str = ""
    fix: str = ""
    source: str = ""
    line: int | None = None
    column: int | None = None

    @property
    def place(self) -> str:
        """Where to look, as compilers write it."""
        return ":".join(str(part) for part in (self.source, self.line, self.column) if part)

    @property
    def text(self) -> str:
        """All of it in one line."""
        said = f"{self.place}: {self.what}" if self.source else self.what
        return f"{said}: {self.fix}" if self.fix else said


class Loaded(msgspec.Struct, frozen=True):
    """Settings in force, the source of each by dotted name, and warnings for the operator."""

    settings: Settings
    sources: dict[str, str]
    warnings: tuple[str, ...]
    config_file: Path | None


class Gathered(msgspec.Struct, frozen=True):
    """Settings as far as they could be read, and everything there is to say about them."""

    loaded: Loaded
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What keeps a server from starting."""
        return tuple(found for found in self.findings if found.level == "error")


def load(flags: Mapping[str, Any], config: Path | None = None, environ: Mapping[str, str] | None = None) -> Loaded:
    """Gather the settings. `flags` maps dotted names to values given on the command line.

    Raises ConfigError that lists every problem found.
    """
    found = gather(flags, config, environ)
    if found.errors:
        raise ConfigError("The settings have mistakes:\n  " + "\n  ".join(error.text for error in found.errors))
    return found.loaded


def gather(flags: Mapping[str, Any], config: Path | None = None, environ: Mapping[str, str] | None = None) -> Gathered:
    """Read all settings and find all mistakes; a setting that has one is at its default. Raises nothing of its own."""
    env = os.environ if environ is None else environ
    reading = _Reading(flags, env)
    try:
        reading.open(_config_path(config, env))
    except ConfigError as problem:
        reading.say("error", problem.message.rstrip("."), fix=problem.action.label or "")
    values: dict[str, dict[str, Any]] = {}
    for field in forms.fields():
        found = reading.find(field)
        reading.sources[field.path] = "default"
        if found is None:
            continue
        raw, source = found
        try:
            values.setdefault(field.section, {})[field.name] = forms.parse_value(field, raw)
            reading.sources[field.path] = source
        except (ValueError, TypeError):
            reading.refuse(field, raw, source)
    settings = reading.convert(values)
    for setting, number, what in contradictions(settings):
        reading.say_of(setting, number, what)
        settings = _at_default(settings, setting)
    reading.look_for_unknown_variables()
    # What stands in a file is told from its top to its end.
    findings = sorted(reading.findings, key=lambda one: (one.source, one.line or 0))
    warnings = tuple(one.text for one in findings if one.level in ("unknown", "renamed"))
    return Gathered(Loaded(settings, reading.sources, warnings, reading.path), tuple(findings))


def default_data_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Return where data goes when nothing was said: systemd's state directory, else the user's."""
    env = os.environ if environ is None else environ
    state = env.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(state) if state else Path(platformdirs.user_data_dir("imgpro", appauthor=False))


def config_folders(env: Mapping[str, str]) -> list[Path]:
    """Return where a configuration file is looked for, the first place that counts first."""
    folders = [Path(platformdirs.user_config_dir("imgpro", appauthor=False)), Path("/etc/imgpro")]
    if env.get("CONFIGURATION_DIRECTORY"):
        folders.insert(0, Path(env["CONFIGURATION_DIRECTORY"].split(":")[0]))
    return folders


def _config_path(config: Path | None, env: Mapping[str, str]) -> Path | None:
    named = config or (Path(env["IMGPRO_CONFIG"]) if env.get("IMGPRO_CONFIG") else None)
    if named is not None:
        if not named.is_file():
            raise ConfigError(
                f"The configuration file {named} does not exist or is not a file.",
                Action("fix", label="name one that is there by --config or IMGPRO_CONFIG"),
            )
        return named
    for folder in config_folders(env):
        try:
            if (folder / CONFIG_NAME).is_file():
                return folder / CONFIG_NAME
        except OSError:
            continue
    return None


class _Reading:
    """What has been read so far, and what there is to say about it."""

    def __init__(self, flags: Mapping[str, Any], env: Mapping[str, str]) -> None:
        self.flags = flags
        self.env = env
        self.path: Path | None = None
        self.document: dict[str, dict[str, Any]] = {}
        self.lines: dict[toml_lines.Path, int] = {}
        self.sources: dict[str, str] = {}
        self.findings: list[Finding] = []
        self._fields = {field.path: field for field in forms.fields()}

    def say(self, level: Level, what: str, **more: Any) -> None:
        """Note something."""
        self.findings.append(Finding(level=level, what=what, **more))

    def say_of(self, setting: str, number: int | None, what: str) -> None:
        """Note that the value of a setting, or item `number` of it, cannot work."""
        source, line = self._split(self.sources[setting])
        if number is not None and line is not None:
            line = self.lines.get((*setting.split("."), number), line)
        # A default is not where the mistake is: what it goes together with is named in the words.
        place = {} if source == "default" else {"source": source, "line": line}
        self.say("error", what, setting=setting, **place)

    def refuse(self, field: Field, raw: Any, source: str, reason: str = "") -> None:
        """Note that a value has not the form it should have."""
        place, line = self._split(source)
        # What a library says of a number outside of its limits is said better here.
        form = f"{forms.describe_form(field)}{forms.describe_limits(field)}"
        fix = f"{reason}; must be {form}" if reason and not isinstance(raw, int | float) else f"must be {form}"
        what = f"{field.path} = {_shown(field, raw)}"
        self.say("error", what, setting=field.path, fix=fix, source=place, line=line)

    def open(self, path: Path | None) -> None:
        """Read the file, if there is one."""
        self.path = path
        if path is None:
            return
        document = self._parse(path)
        self._rename(document)
        sections = {name.partition(".")[0] for name in self._fields}
        for section, body in document.items():
            if section not in sections:
                self._unknown((section,), f"[{section}] is not a section", _suggest(section, sections))
            elif not isinstance(body, dict):
                what = f"{section} must be a table: [{section}]"
                self.say("error", what, setting=section, source=str(path), line=self.lines.get((section,)))
            else:
                self.document[section] = body
                for name in body:
                    full = f"{section}.{name}"
                    if full not in self._fields:
                        self._unknown((section, name), f"{full} is not a setting", _suggest(full, set(self._fields)))

    def _parse(self, path: Path) -> dict[str, Any]:
        place = {"source": str(path)}
        try:
            text = path.read_bytes().decode("utf-8")
            document = tomllib.loads(text)
        except OSError as error:
            self.say("error", f"cannot be read: {error.strerror}", **place)
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            self.say("error", "is not UTF-8", fix="save it as UTF-8", line=line, **place)
        except tomllib.TOMLDecodeError as error:
            at = re.search(r" \(at line (\d+), column (\d+)\)", str(error))
            what = f"is not TOML: {str(error)[: at.start()] if at else error}"
            fix = "save it without a byte order mark" if text.startswith("\ufeff") else ""
            where = {"line": int(at[1]), "column": int(at[2])} if at else {}
            self.say("error", what, fix=fix, **where, **place)
        else:
            self.lines = toml_lines.lines_of(text, document)
            return document
        return {}

    def _rename(self, document: dict[str, Any]) -> None:
        """Move what stands under a former name to the present one."""
        for old, new in forms.RENAMED.items():
            (was, old_name), (section, name) = old.split("."), new.split(".")
            if not isinstance(document.get(was), dict) or old_name not in document[was]:
                continue
            place = {"setting": new, "source": str(self.path), "line": self.lines.get((was, old_name))}
            value = document[was].pop(old_name)
            if not document[was] and was not in {path.partition(".")[0] for path in self._fields}:
                del document[was]
            body = document.setdefault(section, {})
            if isinstance(body, dict) and name in body:
                self.say("error", f"{old} is now {new}, and both are set", fix=f"keep {new}", **place)
            elif isinstance(body, dict):
                body[name] = value
                if (was, old_name) in self.lines:
                    self.lines[section, name] = self.lines[was, old_name]
                self.say("renamed", f"{old} is now {new}", fix="rename it", **place)

    def _unknown(self, key: tuple[str, ...], what: str, suggestion: str) -> None:
        place = {"source": str(self.path), "line": self.lines.get(key)}
        self.say("unknown", what + suggestion, setting=".".join(key), **place)

    def find(self, field: Field) -> tuple[Any, str] | None:
        """Return what was written for a setting and where; None if nothing was."""
        if self.flags.get(field.path) is not None:
            return self.flags[field.path], "command line"
        for name in variables_of(field):
            if name in self.env and f"{name}_FILE" in self.env:
                what = f"{name} and {name}_FILE are both set"
                self.say("error", what, setting=field.path, fix="keep one", source=name)
            if name in self.env:
                self._tell_former(field, name)
                return self.env[name], name
            if f"{name}_FILE" in self.env:
                self._tell_former(field, name)
                return self._read_secret(field, f"{name}_FILE")
        section = self.document.get(field.section, {})
        if field.name not in section:
            return None
        line = self.lines.get((field.section, field.name))
        return section[field.name], f"{self.path}:{line}" if line else str(self.path)

    def _read_secret(self, field: Field, name: str) -> tuple[Any, str] | None:
        try:
            return Path(self.env[name]).read_text(encoding="utf-8").strip(), name
        except OSError as error:
            what = f"{self.env[name]} cannot be read: {error.strerror}"
        except UnicodeDecodeError:
            what = f"{self.env[name]} is not UTF-8"
        self.say("error", what, setting=field.path, source=name)
        return None

    def _tell_former(self, field: Field, name: str) -> None:
        for old, new in forms.RENAMED.items():
            if new == field.path and name == forms.variable(old):
                what = f"{name} is now {field.variable}"
                self.say("renamed", what, setting=new, fix="rename it", source=name)

    def convert(self, values: dict[str, dict[str, Any]]) -> Settings:
        """Return the settings with what could be used; the rest is reported and has its default."""
        settings = Settings()
        for section in msgspec.structs.fields(Settings):
            body: dict[str, Any] = {}
            for name, value in values.get(section.name, {}).items():
                try:
                    msgspec.convert({name: value}, section.type)
                    body[name] = value
                except msgspec.ValidationError as error:
                    field = self._fields[f"{section.name}.{name}"]
                    self.refuse(field, value, self.sources[field.path], str(error).split(" - at ")[0])
            settings = msgspec.structs.replace(settings, **{section.name: msgspec.convert(body, section.type)})
        return settings

    def look_for_unknown_variables(self) -> None:
        """Note variables that look like ours and are not."""
        known = {name for field in self._fields.values() for name in variables_of(field)}
        known |= {f"{name}_FILE" for name in known} | {"IMGPRO_CONFIG", "IMGPRO_CRASH_AT", "IMGPRO_ENGINE"}
        known |= {"IMGPRO_SERVER", "IMGPRO_KEY"}  # of `imgpro upload`
        for name in sorted(self.env):
            if name.startswith("IMGPRO_") and name not in known:
                self.say("unknown", f"{name} is not a setting{_suggest(name, known)}", setting=name)

    def _split(self, source: str) -> tuple[str, int | None]:
        """Return the parts of `file:line`."""
        path, _, line = source.rpartition(":")
        return (path, int(line)) if path == str(self.path) and line.isdigit() else (source, None)


def _at_default(settings: Settings, setting: str) -> Settings:
    section, _, name = setting.partition(".")
    part = getattr(settings, section)
    default = getattr(getattr(Settings(), section), name)
    return msgspec.structs.replace(settings, **{section: msgspec.structs.replace(part, **{name: default})})


def _suggest(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _shown(field: Field, raw: Any) -> str:
    if field.secret:
        return "(secret)"
    try:
        return json.dumps(raw, ensure_ascii=False)
    except TypeError:
        return str(raw)


_SHORT_VARIABLES = {
    "storage.data": "IMGPRO_DATA",
    "server.listen": "IMGPRO_LISTEN",
    "server.base_url": "IMGPRO_BASE_URL",
}


def variables_of(field: Field) -> list[str]:
    """Return the environment variables of a setting; the first one that is set counts."""
    short = _SHORT_VARIABLES.get(field.path)
    former = [forms.variable(old) for old, name in forms.RENAMED.items() if name == field.path]
    return [*([short] if short else []), field.variable, *former]
