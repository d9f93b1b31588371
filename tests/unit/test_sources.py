"""Reading settings: where each came from, every mistake with its place, names that have changed."""

import pytest

from imgpro import forms
from imgpro.errors import ConfigError
from imgpro.sense import as_answered, parse_listen
from imgpro.settings import Server, Settings
from imgpro.sources import gather, load


@pytest.fixture
def read(tmp_path):
    """Read a text as configuration file; return what was gathered."""

    def read(text, env=None, **flags):
        path = tmp_path / "c.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return gather(flags, path, env or {})

    return read


def told(gathered, tmp_path):
    return [one.text.replace(f"{tmp_path}/", "") for one in gathered.findings]


def test_each_mistake_has_its_line(read, tmp_path):
    found = read(
        '[server]\nlisten = [\n  ":8080",\n  "nowhere"]\n"base_url" = "example"\n[uploads]\nmax_bytes = "huge"\n'
        "mxa_bytes = 2\n[imaging]\nworkers = -1\nmax_queued = 0\n[pags]\n[mail]\nport = 99999\ntimeout_s = 0\n"
    )
    first, *others = told(found, tmp_path)
    assert first.startswith('c.toml:4: server.listen: "nowhere": must look like :8080, ')
    assert others == [
        'c.toml:5: server.base_url = "example": must look like https://img.example.org',
        'c.toml:7: uploads.max_bytes = "huge": must be a size such as 500 MB or 2 GB, at least 1 KB',
        "c.toml:8: uploads.mxa_bytes is not a setting; did you mean uploads.max_bytes?",
        "c.toml:10: imaging.workers = -1: must be a whole number, not negative",
        "c.toml:11: imaging.max_queued = 0: must be a whole number, at least 1",
        "c.toml:12: [pags] is not a section; did you mean pages?",
        "c.toml:14: mail.port = 99999: must be a whole number, not negative, at most 65535",
        "c.toml:15: mail.timeout_s = 0.0: must be a time such as 30s, 10m or 2d, more than 0",
    ]
    assert found.loaded.settings == Settings(), "what is wrong is at its default"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a = 1\nb", "c.toml: is not TOML"),
        ('x = "a\n', "c.toml:1:7: is not TOML"),
        ("[a]\n[a]\n", "c.toml:2:3: is not TOML"),
        ("\ufeff[server]\n", "c.toml:1:1: is not TOML: Invalid statement: save it without a byte order mark"),
        (b'[a]\nx = "\xff"', "c.toml:2: is not UTF-8: save it as UTF-8"),
        ("server = 1\n", "c.toml:1: server must be a table: [server]"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(read, tmp_path, text, place):
    (only,) = told(read(text), tmp_path)
    assert only.startswith(place)


def test_numbers_are_not_told_over_tls(read, tmp_path):
    (only,) = told(read('[metrics]\nlisten = "https://127.0.0.1:9091"\n'), tmp_path)
    assert only.startswith("c.toml:2: metrics.listen")
    assert "without TLS" in only


@pytest.mark.parametrize(
    ("listen", "cert", "over_tls"),
    [
        ((":1", "unix:/x", "fd:3"), "", (False, False, False)),
        ((":1", "unix:/x", "fd:3"), "c.pem", (True, False, False)),
        ((":1", "https://:2"), "c.pem", (False, True)),
    ],
)
def test_where_no_address_says_https_all_tcp_ones_speak_it(listen, cert, over_tls):
    answered = as_answered(map(parse_listen, listen), Server(tls_cert=cert))
    assert tuple(address.tls for address in answered) == over_tls


def test_sources_tell_file_and_line_variable_and_flag(read, tmp_path):
    (tmp_path / "secret").write_text("hush\n")
    env = {"IMGPRO_LOG_LEVEL": "debug", "IMGPRO_MAIL_PASSWORD_FILE": str(tmp_path / "secret")}
    sources = read('[pages]\n\nsite_name = "x"\n', env, **{"server.base_url": "http://x"}).loaded.sources
    assert sources["pages.site_name"] == f"{tmp_path}/c.toml:3"
    assert sources["log.level"] == "IMGPRO_LOG_LEVEL"
    assert sources["mail.password"] == "IMGPRO_MAIL_PASSWORD_FILE"
    assert sources["server.base_url"] == "command line"
    assert sources["cache.records"] == "default"


def test_secrets_are_in_no_message(read, tmp_path):
    found = read("[mail]\npassword = 12345678\n[plans]\nupgrade = 'checkout'\ncheckout_secret = 'short-one'\n")
    words = " ".join(told(found, tmp_path))
    assert "mail.password = (secret)" in words
    assert "12345678" not in words
    assert "short-one" not in words
    assert "c.toml:5: plans.checkout_secret: at least 16" in words


def test_both_a_variable_and_its_file_are_one_too_many(read, tmp_path):
    env = {"IMGPRO_MAIL_PASSWORD": "a", "IMGPRO_MAIL_PASSWORD_FILE": "/x", "IMGPRO_MAIL_USERNAME_FILE": "/not/there"}
    words = told(read("", env), tmp_path)
    assert "IMGPRO_MAIL_PASSWORD: IMGPRO_MAIL_PASSWORD and IMGPRO_MAIL_PASSWORD_FILE are both set: keep one" in words
    assert "IMGPRO_MAIL_USERNAME_FILE: /not/there cannot be read: No such file or directory" in words


def test_unknown_names_keep_nobody_from_starting(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("[new_section]\na = 1\n[pages]\nnew_setting = 2\n")
    loaded = load({}, path, {"IMGPRO_NEW_THING": "1"})
    assert len(loaded.warnings) == 3
    assert loaded.settings == Settings()


# Names that have changed


@pytest.fixture
def _renamed(monkeypatch):
    former = {"uploads.limit_bytes": "uploads.max_bytes", "old_pages.title": "pages.site_name"}
    monkeypatch.setattr(forms, "RENAMED", former)


@pytest.mark.usefixtures("_renamed")
def test_a_former_name_counts_with_one_warning(read, tmp_path):
    found = read('[uploads]\nlimit_bytes = "1 MB"\n[old_pages]\ntitle = "x"\n')
    assert found.loaded.settings.uploads.max_bytes == 2**20
    assert found.loaded.settings.pages.site_name == "x"
    assert found.loaded.sources["uploads.max_bytes"].endswith("c.toml:2")
    assert told(found, tmp_path) == [
        "c.toml:2: uploads.limit_bytes is now uploads.max_bytes: rename it",
        "c.toml:4: old_pages.title is now pages.site_name: rename it",
    ]
    assert found.errors == ()
    assert len(found.loaded.warnings) == 2


@pytest.mark.usefixtures("_renamed")
def test_a_former_variable_counts_too(read):
    found = read("", {"IMGPRO_UPLOADS_LIMIT_BYTES": "2 MB"})
    assert found.loaded.settings.uploads.max_bytes == 2**21
    (only,) = found.findings
    assert (
        only.text == "IMGPRO_UPLOADS_LIMIT_BYTES: IMGPRO_UPLOADS_LIMIT_BYTES is now IMGPRO_UPLOADS_MAX_BYTES: rename it"
    )


@pytest.mark.usefixtures("_renamed")
def test_both_names_are_a_mistake_and_a_wrong_value_has_its_place(read, tmp_path):
    words = told(read('[uploads]\nlimit_bytes = "1 MB"\nmax_bytes = "2 MB"\n'), tmp_path)
    assert words == ["c.toml:2: uploads.limit_bytes is now uploads.max_bytes, and both are set: keep uploads.max_bytes"]
    words = told(read("[uploads]\nlimit_bytes = true\n"), tmp_path)
    assert words[1].startswith("c.toml:2: uploads.max_bytes = true: must be a size")


def test_no_setting_has_been_renamed_yet_or_its_new_name_is_there():
    known = {field.path for field in forms.fields()}
    assert set(forms.RENAMED.values()) <= known
    assert not set(forms.RENAMED) & known


def test_all_mistakes_are_raised_together(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("[imaging]\nworkers = 'x'\n[log]\nlevel = 'loud'\n")
    with pytest.raises(ConfigError) as caught:
        load({}, path, {})
    assert caught.value.exit_code == 78
    assert "imaging.workers" in caught.value.message
    assert "log.level" in caught.value.message
