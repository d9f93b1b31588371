"""What is written and printed of settings: the schema for editors, values as people write them, unwise ones."""

import re
import tomllib

import jsonschema
import pytest

from imgpro import forms
from imgpro.cli.advice import unwise
from imgpro.cli.config_schema import schema
from imgpro.cli.configuring import shown_as_toml
from imgpro.cli.example import example
from imgpro.settings import Settings
from imgpro.sources import gather

SWITCHED_ON = re.sub(r"(?m)^#(?=[a-z_0-9]+ = )", "", example())


@pytest.fixture(scope="module")
def validator():
    found = schema()
    jsonschema.Draft7Validator.check_schema(found)
    return jsonschema.Draft7Validator(found)


def test_the_example_is_valid_as_it_is_and_switched_on(validator):
    assert list(validator.iter_errors(tomllib.loads(example()))) == []
    assert list(validator.iter_errors(tomllib.loads(SWITCHED_ON))) == []


# What editors should mark and take: in each case imgpro itself says the same.
WRONG = [
    "[server]\nlisten = 8080", "[server]\nlistn = []", "[servr]", "[server]\nmax_connections = 7", "server = 1",
    "[uploads]\nmax_bytes = 'huge'", "[uploads]\nmax_bytes = '5 PB'", "[uploads]\nmax_bytes = -1", "[uploads]\nmax_bytes = 1",
    "[uploads]\nmax_bytes = 'unlimited'", "[uploads]\ndeadline_s = 0", "[uploads]\ndeadline_s = 'soon'",
    "[anonymous]\nnetworks = 'some'", "[anonymous]\nuploads_per_hour = 'none'", "[log]\nlevel = 'loud'",
    "[log]\naccess = 'perhaps'", "[mail]\nport = 70000", "[imports]\nports = ['x']", "[pages]\nsite_name = 5",
]  # fmt: skip
RIGHT = [
    "[server]\nlisten = ':8080, :8081'", "[server]\nlisten = []\n", "[uploads]\nmax_bytes = 5000",
    "[uploads]\nmax_bytes = '1.5 GiB'", "[uploads]\nmax_bytes = '20 mb'", "[uploads]\ndeadline_s = 1.5",
    "[uploads]\ndeadline_s = '2H'", "[uploads]\ndeadline_s = ' 10 ms '", "[anonymous]\nretention_s = 'unlimited'",
    "[anonymous]\nuploads_per_hour = 0", "[imports]\nports = [80, 8080]", "[log]\naccess = false",
]  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_mistakes_are_marked(validator, tmp_path, text):
    assert list(validator.iter_errors(tomllib.loads(text))) != []
    (tmp_path / "c.toml").write_text(text)
    assert gather({}, tmp_path / "c.toml", {}).findings != ()


@pytest.mark.parametrize("text", RIGHT)
def test_what_is_right_is_not_marked(validator, tmp_path, text):
    assert list(validator.iter_errors(tomllib.loads(text))) == []
    (tmp_path / "c.toml").write_text(text)
    said = [one.text for one in gather({}, tmp_path / "c.toml", {}).findings]
    assert said == [] or "listen = []" in text


def test_a_former_name_is_marked_as_such(monkeypatch):
    monkeypatch.setattr(forms, "RENAMED", {"uploads.limit_bytes": "uploads.max_bytes", "gone.title": "pages.site_name"})
    found = schema()["properties"]
    assert found["uploads"]["properties"]["limit_bytes"]["deprecated"] is True
    assert found["gone"]["properties"]["title"]["deprecated"] is True


def test_what_is_shown_can_be_read_again(tmp_path):
    text = (
        '[server]\nbase_url = "http://x.example"\ntrusted_proxies = ["unix", "10.0.0.0/8"]\n[uploads]\nmax_bytes = 12345\n'
        "patience_s = 0.25\n[anonymous]\nretention_s = 'unlimited'\n[pages]\nsite_name = 'A \"quoted\" \\\\ näme\t'\n"
        "[mail]\npassword = 'hush'\n"
    )
    (tmp_path / "c.toml").write_text(text)
    first = gather({}, tmp_path / "c.toml", {}).loaded
    (tmp_path / "d.toml").write_text("\n".join(shown_as_toml(first, forms.fields(), sources=True)))
    assert "hush" not in (tmp_path / "d.toml").read_text()
    second = gather({}, tmp_path / "d.toml", {"IMGPRO_MAIL_PASSWORD": "hush"})
    assert second.findings == ()
    assert second.loaded.settings == first.settings


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("[server]\ntrusted_proxies = ['0.0.0.0/0']", "server.trusted_proxies"),
        ("[server]\ntrusted_proxies = ['::/0']", "server.trusted_proxies"),
        (
            "[header_sign_in]\nuser_header = 'Remote-Email'\nproxies = ['8.0.0.0/8']\n[server]\nbase_url = 'http://x.example'",
            "header_sign_in.proxies",
        ),
        ("[server]\nbase_url = 'http://x.example'\ntls_cert = '/x'", "server.base_url"),
        ("[server]\nbase_url = 'https://x.example'\nlisten = ['127.0.0.1:80']", "server.trusted_proxies"),
        (
            "[server]\nbase_url = 'https://x.example'\n[anonymous]\nstorage_bytes = 'unlimited'",
            "anonymous.storage_bytes",
        ),
        ("[server]\nbase_url = 'https://x.example'\n[plans]\nunlimited = true", "plans.unlimited"),
        ("[mail]\nhost = 'x'\nsecurity = 'none'\npassword = 'x'", "mail.security"),
        ("[mail]\nca_file = '/not/there'", "mail.ca_file"),
        ("[storage]\nlow_bytes = 0", "storage.low_bytes"),
        ("[uploads]\nanonymous_max_bytes = '1 GB'", "uploads.anonymous_max_bytes"),
        ("[metrics]\nenabled = true\nnetworks = ['0.0.0.0/0']", "metrics.networks"),
    ],
)
def test_unwise_settings_are_told(tmp_path, text, setting):
    (tmp_path / "c.toml").write_text(text)
    found = gather({}, tmp_path / "c.toml", {})
    assert found.errors == ()
    assert [one.setting for one in unwise(found.loaded.settings)] == [setting]


@pytest.mark.parametrize(
    "text",
    [
        "[server]\ntrusted_proxies = ['unix', '127.0.0.1', '172.16.0.0/12', '10.0.0.0/8', 'fd00::/8']",
        "[server]\nbase_url = 'https://x.example'\nlisten = ['127.0.0.1:80']\ntrusted_proxies = ['127.0.0.1']",
        "[plans]\nunlimited = true\n[anonymous]\nstorage_bytes = 'unlimited'",
    ],
)
def test_ordinary_settings_are_not(tmp_path, text):
    (tmp_path / "c.toml").write_text(text)
    assert unwise(gather({}, tmp_path / "c.toml", {}).loaded.settings) == []
    assert unwise(Settings()) == []
