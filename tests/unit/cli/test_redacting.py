"""What is taken out of a text before it leaves the house, and what has to stay for it to be of use."""

import pytest

from imgpro.cli.redacting import Redactor

HASH = "d5d0de8f35d24f5d720fb6a09c31b5ce384318242e75530249b0a62857b14a61"


@pytest.mark.parametrize(
    "secret",
    [
        "ann.b+x@example.org", "ann%40example.org", "203.0.113.7", "192.168.7.9", "2001:db8::17", "fd00::5",
        "2001:db8:0:0:1::2", "img_live_abcdefgh1234567890ABCDEFGH123456", "key_4fT0a1b2c3", "acc_4fT0a1b2c3d4",
        "usbYF3tCZvoN", HASH, "DODcR7pHTwJpyz7uzf2C4oUYsYCaRSCL", "hunter22", "beach.jpg", "IMG_0001.HEIC",
        "'me at the beach.png'", "berta", "16b1464b4.wnhJ9JgkhMizdk1K8jHP0QYr", "box.example",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "around", ["{}", "upload of {} failed", "({})", 'the "{}"', "a={}, b", "http://{}/x", "[{}]", "/x?t={}", "{}: no"]
)
def test_it_goes(secret, around):
    redactor = Redactor(["hunter22"], ["berta", "box.example"])
    text = redactor.text(around.format(secret))
    assert secret.strip("'") not in text
    assert len(text) < len(around) + 25


@pytest.mark.parametrize(
    "text",
    [
        'File "/opt/x/lib/python3.11/site-packages/aiohttp/web_protocol.py", line 12, in start',
        "2026-11-28T19:38:55Z info imgpro.web: GET /t/{id}.{ext} 200 1234 bytes 12 ms",
        "12:34:56 pre-migrate-2-3-20261128T193855Z.db 0003_pages 3.40.1 12.1.1.post0 6.1.0-28-amd64",
        "listening on 127.0.0.1:8080, [::1]:8080, 0.0.0.0, http://localhost:8080, http://127.0.0.1:8080",
        "availability of compression; the database is locked; std::string; key = value",
        "/srv/img/backups 0750 imgpro:imgpro, ext2/3/4; Landlock ABI 7",
    ],
)
def test_what_helps_stays(text):
    assert Redactor(["hunter22"], ["berta"], ["holiday"]).quoting(text) == text


def test_the_same_has_the_same_stand_in():
    redactor = Redactor()
    assert redactor.text("ann@x.org and bob@x.org") == "<mail 1> and <mail 2>"
    assert redactor.text("bob@x.org from 203.0.113.9 and 8.8.8.8, 10.0.0.1") == (
        "<mail 2> from <private address 1> and <address 1>, <private address 2>"
    )
    assert redactor.text("https://img.example.org:8443/a/b?c and https://img.example.org") == (
        "https://<host 1>:8443/... and https://<host 1>"
    )


def test_names_go_as_whole_words_where_they_may_be_quoted():
    redactor = Redactor(names=["holiday", "Ann Müller", "id", "a.b (c)"])
    assert redactor.quoting("holiday holidays Ann Müller's id, a.b (c)") == "<name> holidays <name>'s id, <name>"
    assert redactor.text("holiday") == "holiday"
