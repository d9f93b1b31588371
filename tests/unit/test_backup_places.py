"""Places for backups that cannot be meant: what is wrong with them, why, and what to do, as an option and as a setting."""

import msgspec
import pytest

from imgpro.cli.options import whole_place
from imgpro.errors import ConfigError, TargetFault
from imgpro.sense import contradictions, wrong_with_place
from imgpro.settings import Backup, Settings
from imgpro.store.target_directory import DirectoryTarget


@pytest.mark.parametrize(
    ("place", "words", "way"),
    [
        ("ftp://nas/x", "ftp://nas/x is an address that backups cannot go to.", "Mount it and name the directory, or"),
        ("ftp://me:hush@nas/x", "ftp://(secret)@nas/x is an address", "Mount it"),
        ("file:///mnt/x", "file:///mnt/x is an address", "Mount it"),
        ("nas:/export", "nas:/export is on another machine.", "Mount it"),
        ("me@nas:/export", "me@nas:/export is on another machine.", "Mount it"),
        ("\\\\nas\\share", "\\\\nas\\share is on another machine.", "Mount it"),
        ("s3://ab", 's3://ab names a bucket "ab" of 2 characters.', "Buckets have 3 to 63"),
        ("s3://", 'names a bucket "" of 0 characters.', "Buckets have 3 to 63"),
        ("s3://" + "a" * 64, "of 64 characters.", "Buckets have 3 to 63"),
        ("s3://a b c/x", 'names a bucket "a b c".', "Buckets have letters"),
        ("s3://a..b", 'names a bucket "a..b".', "Buckets have letters"),
        ("s3://bucket/a//b", "has an empty part", "Name a directory, or s3://bucket/folder"),
        ("s3://bucket/../b", "or one of dots", "Name a directory, or s3://bucket/folder"),
        ("s3:/bucket", "s3:/bucket is no place in an object store.", "Write s3://bucket/folder"),
        ("S3://bucket", "S3://bucket is no place in an object store.", "Write s3://bucket/folder"),
        ("~nobody-of-that-name/x", "is in the home of a user that this machine does not have.", "Name a directory"),
    ],
)
def test_what_no_place_can_be(place, words, way):
    with pytest.raises(ConfigError) as refused:
        whole_place(place)
    assert words in refused.value.message
    assert refused.value.action.label.startswith(way)
    said = [text for name, _, text in contradictions(set_to(place)) if name == "backup.to"]
    assert len(said) == 1
    assert "hush" not in f"{said} {refused.value.message}"


def set_to(place):
    return msgspec.structs.replace(Settings(), backup=Backup(to=place))


@pytest.mark.parametrize(
    "place", ["", "/mnt/nas/imgpro", "~/backups", "s3://bucket", "s3://Old_one.9/a/b/", "s3://abc"]
)
def test_what_can_be(place):
    assert wrong_with_place(place) is None
    assert [name for name, *_ in contradictions(set_to(place)) if name == "backup.to"] == []


def test_a_relative_one_is_for_options_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert whole_place("nas/imgpro") == str(tmp_path / "nas" / "imgpro")
    [(_, _, said)] = contradictions(set_to("nas/imgpro"))
    assert "must be a whole path" in said


def test_what_is_not_there_is_named(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for place, words in (
        ("a/b/c", f"There is no directory {tmp_path}/a, so there can be no {tmp_path}/a/b/c."),
        ("file/x", f"{tmp_path}/file is a file, not a directory, so there can be no"),
        ("link/x", f"{tmp_path}/link is a link to nothing, so there can be no"),
        ("file", f"{tmp_path}/file is a file, not a directory."),
    ):
        with pytest.raises(TargetFault) as refused:
            DirectoryTarget(tmp_path / place).put("one", [b"x"], 1)
        assert words in refused.value.message, place
        assert refused.value.action.label
