"""ZIP files of pictures: readable by every unpacker, exactly as long as announced, whatever goes meanwhile."""

import contextlib
import io
import os
import shutil
import subprocess
import time
import zipfile
from pathlib import PurePosixPath

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from imgpro.errors import Busy, NotFound, ValidationError
from imgpro.flows import archive, zip_format
from imgpro.flows.archive import LEFT_OUT, Archives
from imgpro.flows.browse import Filters, ImagePage
from imgpro.flows.names import Names, download_name, file_name
from imgpro.flows.serve import OpenFile
from imgpro.model import Account, Principal
from tests.samples import NOW_MS, sample_blob, sample_image

ME = Principal(
    Account(
        seq=7, id="acc_7", email="ann@example.org", role="member", plan="free", plan_changes=0, created_ms=1,
        verified_ms=1, blocked_ms=None,
    ),
    None,
)  # fmt: skip


class House:
    """What archives stand on, with pictures in a folder: lists, records and blobs."""

    def __init__(self, folder):
        self.folder = folder
        self.images = []
        self.archives = Archives(self, self, self)

    def add(self, content, name="a.jpg", **changes):
        blob = sample_blob(content, stored_bytes=len(content), format=changes.pop("format", "jpeg"))
        image = sample_image(content, blob=blob, name=name, account=7, **changes)
        (self.folder / blob.digest).write_bytes(content)
        self.images.append(image)
        return image

    def drop(self, image):
        self.images.remove(image)

    async def page(self, principal, filters):
        assert principal is ME
        found = [image for image in self.images if not filters.ids or image.id in filters.ids]
        begin = int(filters.cursor or 0)
        end = begin + filters.limit
        more = end < len(found)
        return ImagePage(tuple(found[begin:end]), str(end) if more else None, more)

    async def get(self, image_id):
        return next((image for image in self.images if image.id == image_id), None)

    def open(self, digest):
        try:
            return os.open(self.folder / digest, os.O_RDONLY)
        except FileNotFoundError:
            raise NotFound from None

    async def plan(self, ids=None):
        return await self.archives.plan(ME, Filters(), ids)

    async def made(self, meanwhile=lambda number: None):
        """Return the archive; `meanwhile` is called before each piece is asked for."""
        plan = await self.plan()
        out = bytearray()
        number = 0
        meanwhile(number)
        async for piece in self.archives.pieces(ME, plan):
            if isinstance(piece, OpenFile):
                out += os.pread(piece.fd, piece.size, 0)
                piece.close()
            else:
                out += piece
            number += 1
            meanwhile(number)
        assert len(out) == plan.length
        return bytes(out)


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def opened(body):
    return zipfile.ZipFile(io.BytesIO(body))


def contents(body):
    with opened(body) as found:
        assert found.testzip() is None
        return {name: found.read(name) for name in found.namelist()}


async def test_it_holds_the_very_bytes(house):
    small, large = os.urandom(1_000), os.urandom(archive._IN_MEMORY_BYTES + 1)
    house.add(small, "one.jpg")
    house.add(large, "two.jpg")
    assert contents(await house.made()) == {"one.jpg": small, "two.jpg": large}


@pytest.mark.parametrize(
    "command",
    [("unzip", "-t"), ("7z", "t"), ("bsdtar", "-tf"), ("zip", "-T"), ("zipinfo",), ("python3", "-m", "zipfile", "-t")],
)
async def test_unpackers_have_nothing_to_say_against_it(house, tmp_path, command):
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    for number in range(30):
        house.add(os.urandom(200), f"Bäume 森 {number}.jpg", namespace="trip" if number % 2 else None)
    gone = house.images[3]
    for name, meanwhile in (("whole", lambda _: None), ("less", lambda at: house.drop(gone) if at == 1 else None)):
        path = tmp_path / f"{name}.zip"
        path.write_bytes(await house.made(meanwhile))
        done = subprocess.run([*command, path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (name, done.stdout, done.stderr)
        assert "warning" not in (done.stdout + done.stderr).lower(), (name, done.stdout, done.stderr)


async def test_an_unpacker_of_streams_reads_it_from_a_pipe(house, tmp_path):
    if shutil.which("bsdtar") is None:
        pytest.skip("bsdtar is not installed")
    for number in range(5):
        house.add(os.urandom(300), f"{number}.jpg")
    gone = house.images[2]
    body = await house.made(lambda at: house.drop(gone) if at == 1 else None)
    done = subprocess.run(["bsdtar", "-xf", "-", "-C", tmp_path], input=body, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    kept = [image for image in house.images if image is not gone]
    assert all((tmp_path / image.name).read_bytes() == (tmp_path / image.blob.digest).read_bytes() for image in kept)


async def test_names_are_unique_also_without_capitals(house):
    for name in ("a.jpg", "A.jpg", "a.jpg", "a (2).jpg", "left-out.txt", "LEFT-OUT.TXT"):
        house.add(name.encode() + os.urandom(4), name, format="png" if name.lower().endswith("txt") else "jpeg")
    assert [*contents(await house.made())] == [
        "a.jpg",
        "A (2).jpg",
        "a (3).jpg",
        "a (2) (2).jpg",
        "left-out.txt.png",
        "LEFT-OUT.TXT (2).png",
    ]


async def test_each_of_several_namespaces_is_a_folder(house):
    house.add(b"1", namespace="trip")
    house.add(b"2", namespace="trip")
    assert [*contents(await house.made())] == ["a.jpg", "a (2).jpg"]
    house.add(b"3")
    house.add(b"4", namespace="work")
    assert [*contents(await house.made())] == ["trip/a.jpg", "trip/a (2).jpg", "a.jpg", "work/a.jpg"]


async def test_times_are_those_of_the_pictures(house):
    house.add(b"1", "came.jpg", created_ms=NOW_MS)
    house.add(b"2", "dated.jpg", display_date="2021-05-04T03:02:02Z")
    house.add(b"3", "old.jpg", display_date="1890-01-01")
    with opened(await house.made()) as found:
        at = [zip_time(found.getinfo(name)) for name in ("came.jpg", "dated.jpg", "old.jpg")]
        assert at == [NOW_MS // 1000, 1_620_097_322, zip_format._FIRST_S]
        assert found.getinfo("dated.jpg").date_time == time.localtime(1_620_097_322)[:6]


def zip_time(info):
    assert info.extra[:5] == b"UT\x05\x00\x01"
    return int.from_bytes(info.extra[5:9], "little")


@pytest.mark.parametrize("where", range(4))
async def test_what_goes_meanwhile_is_left_out_and_named(house, where):
    images = [house.add(os.urandom(40), f"{number}.jpg") for number in range(4)]
    found = contents(await house.made(lambda at: house.drop(images[where]) if at == 0 else None))
    assert [*found] == [*(f"{number}.jpg" for number in range(4) if number != where), LEFT_OUT]
    assert found[LEFT_OUT].startswith(f"{where}.jpg\n".encode())


async def test_much_that_goes_is_explained(house):
    images = [house.add(os.urandom(5_000), f"{number}.jpg") for number in range(20)]

    def leave(at):
        if at == 0:
            for image in images[:19]:
                house.drop(image)

    found = contents(await house.made(leave))
    assert [*found] == ["19.jpg", LEFT_OUT]
    assert found[LEFT_OUT].decode() == "".join(f"{number}.jpg\n" for number in range(19)) + archive.LEFT_OUT_WORDS


@pytest.mark.parametrize(("size", "named"), [(1, False), (35, True)])
async def test_the_smallest_picture_makes_room_for_its_name(house, size, named):
    """A GIF has 35 bytes at least."""
    gone = house.add(b"x" * size, "a", format="gif")
    house.add(b"y", "b")
    found = contents(await house.made(lambda at: house.drop(gone) if at == 0 else None))
    assert found["b.jpeg"] == b"y"
    assert found.get(LEFT_OUT, b"").startswith(b"a.gif\n") is named


@pytest.mark.parametrize("trouble", ["gone", "short", "long", "ended", "given away"])
async def test_what_cannot_be_read_is_left_out(house, trouble):
    image = house.add(os.urandom(900), "bad.jpg")
    house.add(os.urandom(900), "good.jpg")
    path = house.folder / image.blob.digest

    def spoil(at):
        if at != 0:
            return
        if trouble == "gone":
            path.unlink()
        elif trouble in ("short", "long"):
            path.write_bytes(b"x" * (899 if trouble == "short" else 901))
        else:
            changes = {"expires_ms": NOW_MS + 1} if trouble == "ended" else {"account": 8}
            house.images[0] = sample_image(b"", id=image.id, blob=image.blob, **({"account": 7} | changes))

    assert [*contents(await house.made(spoil))] == ["good.jpg", LEFT_OUT]


async def test_beyond_four_gigabytes(house, tmp_path, monkeypatch):
    size = 2_500_000_000
    for number in range(2):
        content = f"sparse {number}".encode()
        house.add(content, f"{number}.jpg")
        os.truncate(house.folder / blake3(content).hexdigest(), size)
        house.images[-1] = sample_image(
            b"", id=house.images[-1].id, account=7, name=f"{number}.jpg", blob=sample_blob(content, stored_bytes=size)
        )
    house.add(b"the last one", "last.jpg")
    read = archive._read
    monkeypatch.setattr(archive, "_read", lambda file: (None, 0) if file.size == size else read(file))
    plan = await house.plan()
    target = tmp_path / "far.zip"
    with target.open("wb") as out:
        async for piece in house.archives.pieces(ME, plan):
            if isinstance(piece, OpenFile):
                out.seek(piece.size, os.SEEK_CUR)
                piece.close()
            else:
                out.write(piece)
    assert target.stat().st_size == plan.length > 5_000_000_000
    with zipfile.ZipFile(target) as found:
        assert found.namelist() == ["0.jpg", "1.jpg", "last.jpg"]
        assert found.read("last.jpg") == b"the last one"
    if shutil.which("unzip"):
        done = subprocess.run(["unzip", "-tq", target, "last.jpg"], capture_output=True, check=False)
        assert done.returncode == 0, done.stdout


async def test_more_files_than_sixteen_bits_count(house, monkeypatch):
    image = house.add(b"x", "a.jpg")
    house.images = [image] * 70_000
    monkeypatch.setattr(house, "get", lambda _: found(image))
    monkeypatch.setattr(archive.asyncio, "to_thread", lambda work, *values: found(work(*values)))
    names = [*contents(await house.made())]
    assert len(names) == 70_000
    assert names[-1] == "a (70000).jpg"


async def found(value):
    return value


async def test_none_and_too_many_are_refused(house, monkeypatch):
    with pytest.raises(ValidationError):
        await house.plan()
    for number in range(3):
        house.add(b"%d" % number)
    monkeypatch.setattr(archive, "MAX_PICTURES", 2)
    with pytest.raises(ValidationError, match="at most 2 pictures"):
        await house.plan()
    assert len((await house.plan([image.id for image in house.images[:2]])).wishes) == 2


def test_places_are_few(house):
    with contextlib.ExitStack() as held:
        for _ in range(archive.MAX_PER_ACCOUNT):
            held.enter_context(house.archives.place(ME))
        with pytest.raises(Busy), house.archives.place(ME):
            pass
    with house.archives.place(ME):
        pass


# Names


@given(st.text(max_size=300))
def test_a_file_name_stays_in_its_folder(name):
    made = file_name(name)
    assert made not in ("", ".", "..")
    assert not set(made) & set('<>:"/\\|?*\0\n\r')
    assert len(PurePosixPath(made).parts) == 1
    assert made == made.strip(" .") or "." in made


@pytest.mark.parametrize(
    ("name", "kind", "wanted"),
    [
        ("a.jpg", "image/jpeg", "a.jpg"),
        ("a.JPEG", "image/jpeg", "a.JPEG"),
        ("a.png", "image/jpeg", "a.jpeg"),
        ("a", "image/svg+xml", "a.svg"),
        ("v1.2", "image/png", "v1.2.png"),
        ("../../etc/passwd", "image/png", ".._.._etc_passwd.png"),
        ("CON", "image/png", "_CON.png"),
        ("nul.tar", "image/png", "_nul.tar.png"),
        (" . ", "image/png", "picture.png"),
        ("a:b?.gif", "image/gif", "a_b_.gif"),
        ("x" * 255, "image/gif", "x" * 200 + ".gif"),
        ("森" * 100, "image/gif", "森" * 66 + ".gif"),
    ],
)
def test_names_of_files(name, kind, wanted):
    made = file_name(download_name(name, kind))
    assert made.strip(".") == wanted.strip(".") or made == wanted


@given(st.lists(st.sampled_from(["a.jpg", "A.jpg", "a (2).jpg", "b", "a (2) (2).jpg"])))
def test_paths_are_unique(names):
    given_out = Names()
    paths = [given_out.unique("", name).casefold() for name in names]
    assert len(set(paths)) == len(paths)
