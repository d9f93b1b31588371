"""`config.example.toml` is the settings tree in words: nothing missing, nothing stale, every default true."""

import re
import tomllib

from imgpro import forms
from imgpro.cli.example import example
from imgpro.settings import Settings
from imgpro.sources import load
from tests.servers import ROOT

FILE = ROOT / "config.example.toml"


def uncommented() -> str:
    """Return the example with every setting switched on."""
    return re.sub(r"(?m)^#(?=[a-z_0-9]+ = )", "", FILE.read_text())


def test_the_file_is_what_the_settings_say():
    assert FILE.read_text() == example(), (
        "make it again: python -c 'from imgpro.cli.example import example; print(example(), end=str())' > config.example.toml"
    )


def test_every_setting_is_there_with_words():
    document = tomllib.loads(uncommented())
    there = {f"{section}.{name}" for section, values in document.items() for name in values}
    assert there == {field.path for field in forms.fields()}
    assert len(there) > 30
    for field in forms.fields():
        assert len(field.description) > 10, field.path
        assert field.description.endswith("."), field.path
        assert f"# {field.description} (" in FILE.read_text()


def test_as_it_is_it_changes_nothing_and_switched_on_it_says_the_defaults(tmp_path):
    assert load({}, FILE, {}).settings == Settings()
    path = tmp_path / "imgpro.toml"
    path.write_text(uncommented())
    loaded = load({}, path, {})
    assert loaded.settings == Settings()
    assert loaded.warnings == ()
    assert {source.partition(":")[0] for source in loaded.sources.values()} != {"default"}


def test_each_setting_has_its_variable(tmp_path):
    environ = {
        field.variable: re.sub(r'["\[\]]', "", forms.show_value(field, field.default)) for field in forms.fields()
    }
    environ = {name: value for name, value in environ.items() if value}
    loaded = load({}, None, {**environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)})
    assert loaded.settings == Settings()
    assert loaded.warnings == ()


def test_a_setting_of_another_name_is_not_passed_over(tmp_path):
    path = tmp_path / "imgpro.toml"
    path.write_text(uncommented().replace("site_name = ", "sitename = "))
    (warning,) = load({}, path, {}).warnings
    assert "pages.sitename is not a setting; did you mean pages.site_name?" in warning
