"""What letters say, and what strangers cannot make them say."""

import email
import email.policy
import re
from html.parser import HTMLParser

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imgpro.flows.email_address import parse_email
from imgpro.flows.letters import (
    MAX_NAME_CHARS,
    message_bytes,
    shown_name,
    sign_in_letter,
    upgrade_approved_letter,
    upgrade_requested_letter,
    verification_letter,
)
from imgpro.model import Account, WaitingMail
from tests.smtp import sample_letter

NOW_MS = 1_700_000_000_000  # 14 November 2023, 22:13 UTC
DAY_MS = 86_400_000
LINK = "https://img.example.org/verify?t=abc&exp=77&sig=d_e-f"
ANN = Account(
    seq=7,
    id="acc",
    email="ann@nas.local",
    role="member",
    plan="free",
    plan_changes=0,
    created_ms=1,
    verified_ms=None,
    blocked_ms=None,
)
OPERATOR = msgspec.structs.replace(ANN, seq=1, email="root@box", role="operator", verified_ms=1)
TIMES = {"created_ms": NOW_MS, "expires_ms": NOW_MS + DAY_MS}


def verification(**changes):
    values = {"site_name": "imgpro", "account": ANN, "key_name": "My PC", "network": "192.0.2.7", "link": LINK, **TIMES}
    return verification_letter(**{**values, **changes})


class Page(HTMLParser):
    """Reads a letter's HTML strictly: its text, its links, and that every element is one of ours and closed."""

    OURS = frozenset("html head title body p b a br meta".split())

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.links, self.open, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        assert tag in self.OURS
        if tag not in ("br", "meta"):
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "title" not in self.open:
            self.words.append(data)


def letters():
    plan = {"plan": "Pro", "link": "https://img.example.org/dashboard", "site_name": "imgpro", **TIMES}
    return [
        verification(),
        verification(account=msgspec.structs.replace(ANN, verified_ms=1)),
        verification(key_name=None, network=None),
        sign_in_letter(site_name="imgpro", account=ANN, network="192.0.2.7", link=LINK, **TIMES),
        upgrade_approved_letter(account=ANN, **plan),
        upgrade_requested_letter(operator=OPERATOR, account=ANN, **plan),
    ]


@pytest.mark.parametrize("letter", letters())
def test_text_and_html_say_the_same_and_carry_one_link(letter):
    page = Page(letter.body_html)
    assert page.text == " ".join(letter.body_text.split())
    assert page.links == [letter.link]
    assert letter.body_text.count(letter.link) == 1
    assert f"\n\n{letter.link}\n" in letter.body_text
    assert (letter.created_ms, letter.expires_ms) == (NOW_MS, NOW_MS + DAY_MS)
    assert "!" not in letter.body_text + letter.subject
    assert letter.subject.isprintable()


def test_a_new_address_is_told_what_was_asked_for():
    letter = verification()
    assert (letter.account, letter.recipient, letter.link) == (7, "ann@nas.local", LINK)
    assert letter.subject == "Confirm your address for imgpro"
    for words in (
        "signed up at imgpro with this address, ann@nas.local.",
        'API key: "My PC"\n',
        "Asked for: 14 November 2023, 22:13 UTC\n",
        "From the network address: 192.0.2.7\n",
        "The link works until 15 November 2023, 22:13 UTC",
        "If it was not you, ignore this mail. Nothing happens then.",
    ):
        assert words in letter.body_text


def test_a_known_account_is_told_that_the_key_does_not_work_yet():
    letter = verification(account=msgspec.structs.replace(ANN, verified_ms=1))
    assert letter.subject == "Confirm a new API key for imgpro"
    assert "not usable yet" in letter.body_text


def test_what_is_not_known_is_left_out():
    text = verification(key_name=None, network=None).body_text
    assert "API key" not in text
    assert "network" not in text


def test_a_link_that_signs_in_says_what_it_is_worth():
    letter = letters()[3]
    assert (letter.recipient, letter.subject) == ("ann@nas.local", "Sign in at imgpro")
    for words in ("From the network address: 192.0.2.7\n", "works until 15 November 2023, 22:13 UTC, once", "nobody"):
        assert words in letter.body_text


def test_letters_about_plans():
    approved, requested = letters()[4:]
    assert (approved.account, approved.recipient, approved.subject) == (
        7,
        "ann@nas.local",
        "Your plan at imgpro is Pro now",
    )
    assert (requested.account, requested.recipient) == (1, "root@box")
    assert requested.subject == "imgpro: a request for the plan Pro"
    for words in ("Account: ann@nas.local\n", "Plan now: Free\n", "Plan asked for: Pro\n"):
        assert words in requested.body_text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Default", '"Default"'),
        ("Ann's laptop v1.2 (home/office)", '"Ann\'s laptop v1.2 (home/office)"'),
        ("日本語 🖼", '"日本語 🖼"'),
        ("  two \t words ", '"two words"'),
        ("", '"(no name)"'),
        ("\u202e\u200b\n", '"(no name)"'),
        ("x" * 60, f'"{"x" * 60}"'),
        ("x" * 61, f'"{"x" * 57}..."'),
        ("a\r\nBcc: bob@nas.local\r\n\r\nYour account", '"a Bcc: bob@ nas. local Your account"'),
        ('PC" is safe. Open "this', "\"PC' is safe. Open 'this\""),
        ("“”«»", "\"''''\""),
        ("https://evil.example/x", '"https: // evil. example/x"'),
        ("s3://x", '"s3: // x"'),
        ("www.evil.example", '"www. evil. example"'),
        ("ｗｗｗ．evil。example", '"www. evil。 example"'),
        ("//evil", '"// evil"'),
        ("\\\\evil\\x", '"\\\\ evil\\x"'),
        ("tel:0900123", '"tel: 0900123"'),
        ("a\u202egnp.exe", '"a gnp. exe"'),
    ],
)
def test_names_as_they_are_shown(name, shown):
    assert shown_name(name) == shown


@given(st.text(max_size=200) | st.text("aé.:/\\@\"'<>&\r\n -1。．", max_size=200))
@example("a.b.c")
@example("http:///x")
@example("a:" * 40)
def test_a_name_is_one_short_line_with_nothing_to_click(name):
    shown = shown_name(name)
    inside = shown[1:-1]
    assert shown == f'"{inside}"'
    assert 0 < len(inside) <= MAX_NAME_CHARS
    assert inside.isprintable()
    assert '"' not in inside
    assert not re.search(r":[/\\]|[/\\]{2}\w|[^\W\d_]:\w|@\w|[.。][^\W\d_]", inside)


@given(st.text(max_size=200) | st.text("a.:/@\"'<>&=\r\n -", max_size=100))
@example('</b></p><p>Dear Ann, <a href="https://evil.example">click here</a>')
@example("<img src=x onerror=alert(1)>")
@example("&lt;a href=x&gt;")
def test_no_name_gets_out_of_its_place(name):
    letter = verification(key_name=name)
    plain = verification(key_name="PLACE")
    assert letter.subject == plain.subject
    assert letter.body_text == plain.body_text.replace('"PLACE"', shown_name(name))
    page = Page(letter.body_html)
    assert page.links == [LINK]
    assert page.text == " ".join(letter.body_text.split())
    assert letter.body_html.count("\n") == plain.body_html.count("\n")


def test_a_site_name_is_one_line_too():
    letter = verification(site_name="Böx\r\nBcc: x <b>&" + "y" * 200)
    assert letter.subject.startswith("Confirm your address for Böx Bcc: x <b>&y")
    assert len(letter.subject) < 120
    assert Page(letter.body_html).links == [LINK]
    assert verification(site_name="\n").subject.endswith("for imgpro")


@pytest.mark.parametrize("link", ["https://a.b/c d", "https://a.b/\r\nc", "https://a.b/\u202ec"])
def test_a_link_is_one_word(link):
    with pytest.raises(ValueError, match="link"):
        verification(link=link)


def test_a_link_cannot_leave_its_attribute():
    link = "https://a.b/\"'><script>&lt;"
    assert Page(verification(link=link).body_html).links == [link]


# On the wire


def queued(letter):
    return WaitingMail(seq=1, letter=letter, attempts=0, last_error=None, next_ms=1)


ATOMS = st.text("abz059_+&'~#=-", min_size=1, max_size=12)
LABELS = st.text("abz059-", min_size=1, max_size=63)


@given(st.lists(ATOMS, min_size=1, max_size=5).map(".".join), st.lists(LABELS, min_size=1, max_size=4).map(".".join))
@example(".".join(["a" * 12] * 3), ".".join(["b" * 12] * 4))
def test_every_address_that_is_let_in_goes_out_as_it_is(local, domain):
    try:
        address = parse_email(f"{local}@{domain}")
    except ValueError:
        return
    raw = message_bytes(queued(sample_letter(address)), address)
    assert f"\r\nTo: {address}\r\n".encode() in raw
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert max(map(len, raw.split(b"\r\n"))) < 600
    assert [found.addr_spec for found in message["To"].addresses] == [address]
    assert message.keys().count("To") == message.keys().count("From") == 1


@pytest.mark.parametrize("changes", [{"recipient": "ann@nas.local\nBcc: b@c"}, {"subject": "a\r\nBcc: b@c"}])
def test_what_got_into_the_queue_by_another_way_does_not_become_a_header(changes):
    with pytest.raises(ValueError):
        message_bytes(queued(sample_letter(**changes)), "imgpro@img.test")


@pytest.mark.parametrize(
    "words", ["Böx " * 20, "Fotoküche " * 6, "Ä Ö Ü " + "名前" * 40, "a" * 70 + " ö", "ö" * 100, "🖼" * 30]
)
def test_a_subject_beyond_ascii_comes_back(words):
    subject = f"Confirm your address for {words}".strip()
    raw = message_bytes(queued(sample_letter(subject=subject)), "imgpro@img.test")
    encoded = re.findall(rb"=[?][^ \r\n]+[?]=", raw.partition(b"\r\n\r\n")[0])
    assert max(map(len, encoded)) <= 75  # RFC 2047
    assert email.message_from_bytes(raw, policy=email.policy.default)["Subject"] == subject
