"""Paths of an export: whatever a picture is called, every file system takes it, and no two are the same to any of them."""

import re
import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st

from imgpro.flows.export_names import MAX_PATH_BYTES, NOBODY, account_folder, folded, numbered, wanted_path
from imgpro.store.export_state import ExportState

NASTY = st.sampled_from(
    [
        *'<>:"/\\|?*. \t\n\x00\x7f',
        "con",
        "COM1",
        "nul",
        "ß",
        "İ",
        "ı",
        "ﬁ",
        "é",
        "e\u0301",
        "\ud800",
        "😀",
        "K",
        "a",
        "A",
    ]
)
NAMES = st.one_of(
    st.text(max_size=40), st.lists(NASTY, max_size=12).map("".join), st.text("x😀", min_size=150, max_size=255)
)
KINDS = st.sampled_from(["jpeg", "png", "gif", "webp", "avif", "heic", "svg", "bmp", "ico"])
EMAILS = st.builds(
    lambda one, two: f"{one}@{two}",
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64),
    st.text("abc.X-", min_size=1, max_size=80),
)
SPACES = (
    st.none()
    | st.from_regex(r"[a-z0-9]([a-z0-9-]{0,62})[a-z0-9]", fullmatch=True)
    | st.sampled_from(["aux", "con", "lpt1"])
)
DEVICES = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{name}{n}" for name in ("com", "lpt") for n in "0123456789¹²³"),
    "conin$",
    "conout$",
}


def assert_safe(path):
    assert len(path.encode()) <= MAX_PATH_BYTES
    for part in path.split("/"):
        assert part
        assert not re.search(r'[\x00-\x1f\x7f<>:"/\\|?*]', part)
        assert part == unicodedata.normalize("NFC", part)
        assert part[-1] not in ". "
        assert part[0] not in ". "
        assert part.partition(".")[0].rstrip(" ").casefold() not in DEVICES
        assert len(part.encode("utf-16-le")) // 2 <= 255


@given(NAMES, KINDS, st.none() | EMAILS, SPACES)
def test_every_file_system_takes_it(name, kind, account, namespace):
    path = wanted_path(name, kind, account, namespace)
    assert_safe(path)
    assert path.rpartition(".")[2].lower() in {"jpeg": ("jpeg", "jpg")}.get(kind, (kind,))
    assert path.count("/") == 1 + (namespace is not None)
    assert path.startswith(f"{NOBODY}/") == (account is None)
    assert_safe(numbered(path, 2)[:-12] + ".x") if len(path) > 40 else assert_safe(numbered(path, 2))


@given(EMAILS, EMAILS)
@example("a*b@example.org", "a?b@example.org")
@example("Ann@example.org", "ann@example.org")
@example(f"{'a' * 64}@example.org", f"{'a' * 64}@example.com")
@example("con.a@example.org", "_con.a@example.org")
def test_two_accounts_never_share_a_folder(one, other):
    if one != other:
        assert folded(account_folder(one)) != folded(account_folder(other))


@given(st.lists(NAMES, max_size=25))
@example(["straße", "STRASSE", "Straſſe"])
@example(["ﬁsh", "FISH", "fish", "Fısh"])
@example(["\u00e9", "e\u0301", "\u00c9", "\u212b", "\u00e5"])
@example(["a?b", "a*b", "a_b", "a_b.png", "a_b.PNG"])
def test_no_two_are_the_same_to_any_file_system(names):
    state = ExportState(folded, numbered)
    given_names = [state.name(wanted_path(name, "png", None, None), lambda path: "stranger" in path) for name in names]
    state.close()
    for rule in (str, str.casefold, str.upper, lambda path: unicodedata.normalize("NFD", path)):
        assert len({rule(path) for path in given_names}) == len(names)


def test_a_name_that_a_stranger_has_is_passed_over():
    state = ExportState(folded, numbered)
    taken = {"a/x.png", "a/x (2).png"}
    assert state.name("a/x.png", taken.__contains__) == "a/x (3).png"
    assert state.name("a/X.png", taken.__contains__) == "a/X (4).png"
    state.close()


def test_very_many_of_one_name_are_quickly_numbered():
    state = ExportState(folded, numbered)
    asked = []
    for _ in range(3_000):
        state.name("a/image.png", lambda path: bool(asked.append(path)))
    state.close()
    assert len(asked) < 6_100
