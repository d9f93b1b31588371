"""Which server is meant, and that a key goes to no other."""

import stat

import pytest

from imgpro.cli import login_file
from imgpro.cli.remote import Server
from imgpro.errors import ConfigError, StorageFault
from imgpro.sources import load


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_kept_and_forgotten():
    server = Server("http://bücher.lan:8080/x", "img_live_A-_9")
    path = login_file.save(server)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert login_file.chosen(None, {}) == server
    login_file.save(Server("http://b.lan"))
    assert login_file.chosen(None, {}) == Server("http://b.lan")
    assert [name.name for name in path.parent.iterdir()] == ["client.toml"]
    assert login_file.forget()
    assert not login_file.forget()
    with pytest.raises(ConfigError, match="not known which server"):
        login_file.chosen(None, {})


def test_what_wins():
    login_file.save(Server("http://kept.lan", "kept"))
    env = {"IMGPRO_SERVER": "http://env.lan", "IMGPRO_KEY": "env"}
    assert login_file.chosen("http://option.lan", env) == Server("http://option.lan", "env")
    assert login_file.chosen(None, env) == Server("http://env.lan", "env")
    assert login_file.chosen(None, {"IMGPRO_KEY": "env"}) == Server("http://kept.lan", "env")
    assert login_file.chosen(None, {"IMGPRO_SERVER": "", "IMGPRO_KEY": ""}) == Server("http://kept.lan", "kept")


def test_the_kept_key_goes_only_where_it_belongs():
    login_file.save(Server("http://kept.lan", "kept"))
    assert login_file.chosen("kept.lan", {}) == Server("http://kept.lan", "kept")
    for other in ("https://kept.lan", "http://kept.lan:81", "http://kept.lan/x", "http://evil.lan"):
        assert login_file.chosen(other, {}).key is None


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "config").write_text("a file where a folder should be")
    with pytest.raises(StorageFault):
        login_file.save(Server("http://kept.lan"))


def test_the_servers_settings_take_no_offence_at_the_clients_variables():
    assert load({}, None, {"IMGPRO_SERVER": "http://img.lan", "IMGPRO_KEY": "img_live_x"}).warnings == ()
    assert load({}, None, {"IMGPRO_SERVERS": "http://img.lan"}).warnings
