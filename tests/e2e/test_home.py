"""The first page in a real browser: many files, folders, what is copied, what is remembered, and whose pictures they are."""

import json
import re
from pathlib import Path

import pytest

from tests.axe import serious
from tests.browser import LAN, until
from tests.e2e.uploads import (
    CLIPBOARD,
    DROP,
    SELECTED,
    choose,
    copied,
    deletions,
    dropped_from_disk,
    picture,
    signed_in,
    uploaded,
)
from tests.peers import importing_from
from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, running

pytestmark = pytest.mark.browser

PNG = encoded(make_image("RGB", (600, 450)), "PNG")
HEIC = (Path(__file__).resolve().parent.parent / "data" / "gps-rotated.heic").read_bytes()
CLIPS = {"permissions": ["clipboard-read", "clipboard-write"]}
NOBODY = "imgpro.recent:/"


@pytest.fixture(scope="module")
def server(tmp_path_factory, peer_port):
    with running(tmp_path_factory.mktemp("home") / "data", {**UNLIMITED, **importing_from(peer_port)}) as found:
        yield found


def pictures_of(server, key):
    return server.api("GET", "/v1/media", key=key).json()["data"]


def is_there(server, link):
    return server.get(link).status == 200


def recents(page):
    return page.locator(".recent .name").all_text_contents()


def stored(page, name=NOBODY):
    return page.evaluate("name => JSON.parse(localStorage.getItem(name) ?? '[]')", name)


# In and out again


@pytest.mark.parametrize("where", ["loopback", "lan"])
def test_a_screenshot_is_shared_with_two_pastes(visit, server, where):
    page = visit(**(CLIPS if where == "loopback" else {}))
    page.goto(server.base)
    if where == "lan":  # which has no clipboard to write to: something else brings the picture
        page.goto(server.base.replace("127.0.0.1", LAN))
    for turn in (1, 2):
        if where == "loopback":
            page.evaluate(CLIPBOARD, list(PNG))
            page.keyboard.press("Control+V")
        else:
            page.keyboard.press("Shift")  # a person has just touched this page
            page.evaluate(DROP, [list(PNG), "image.png", "image/png", ""])
        link = uploaded(page, turn)[0]
        page.locator("#status", has_text="Link copied.").wait_for()
        assert page.evaluate(SELECTED) == link
        assert link.startswith(page.url)
        assert page.locator(".row").first.get_by_text("Link copied.").is_visible()
        assert page.locator(".big").count() == 1
    page.evaluate("document.body.append(Object.assign(document.createElement('textarea'), {id: 'elsewhere'}))")
    page.focus("#elsewhere")
    page.keyboard.press("Control+V")
    assert page.locator("#elsewhere").input_value() == link


def test_nobody_who_writes_something_is_interrupted(visit, server):
    page = visit()
    page.goto(server.base)
    page.get_by_text("Options").click()
    page.evaluate(DROP, [list(PNG), "a.png", "image/png", ""])
    page.get_by_label("Name, for one picture").focus()
    uploaded(page)
    page.keyboard.type("still here")
    assert page.get_by_label("Name, for one picture").input_value() == "still here"


def test_several_addresses_are_pasted_at_once_and_one_is_typed(visit, server, peer_port):
    page = visit()
    page.goto(server.base)
    lines = "\n".join(f"http://127.0.0.1:{peer_port}/{name}.png" for name in ("one", "two"))
    page.evaluate(
        """text => {
            const data = new DataTransfer();
            data.setData("text/plain", text);
            document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true}));
        }""",
        lines + "\nand a word",
    )
    uploaded(page, 2)
    page.get_by_label("Web address of a picture").fill(f"http://127.0.0.1:{peer_port}/three.png")
    page.keyboard.press("Enter")
    uploaded(page, 3)
    assert page.locator(".row .name").all_text_contents() == ["three.png", "one.png", "two.png"]
    assert page.get_by_label("Web address of a picture").input_value() == ""


def test_what_the_browser_cannot_show_is_shown_as_soon_as_the_server_can(visit, server):
    page = visit()
    page.goto(server.base)
    hold = []
    page.route("**/v1/upload", lambda route: hold.append(route))
    choose(page, picture("photo.heic", HEIC), picture("a.png", PNG))
    page.locator(".row", has_text="photo.heic").locator(".tile img").wait_for(state="detached")
    assert page.locator(".row", has_text="a.png").locator(".tile img").get_attribute("src").startswith("blob:")
    for route in hold:
        route.continue_()
    uploaded(page, 2)
    src = page.locator(".row", has_text="photo.heic").locator(".tile img").get_attribute("src")
    assert src.startswith(server.base + "/t/")


def test_under_a_path_and_another_name_than_links_start_with(visit, server, tmp_path):
    env = {**UNLIMITED, "IMGPRO_SERVER_BASE_URL": "https://img.example.org/pictures"}
    with running(tmp_path / "data", env) as elsewhere:
        page = visit()
        below = f"{server.base}/pictures/"
        page.route(
            below + "**",
            lambda route: route.fulfill(
                response=route.fetch(url=elsewhere.base + "/" + route.request.url.removeprefix(below))
            ),
        )
        page.goto(below)
        choose(page, picture("a.png", PNG))
        (link,) = uploaded(page)
        name = link.rpartition("/")[2]
        assert link == f"https://img.example.org/pictures/{name}"
        assert page.get_by_role("link", name="Open").get_attribute("href") == below + name
        page.reload()
        page.locator(".card img").wait_for()
        assert page.locator(".card img").get_attribute("src") == f"{below}t/{name}.png?size=s"
        until(page, "document.querySelector('.card img').naturalWidth > 0")
        assert page.evaluate("Object.keys(localStorage)") == ["imgpro.recent:/pictures/"]
        page.unroute_all()


def test_a_folder_is_dropped_with_all_that_is_in_it(visit, server, tmp_path):
    (tmp_path / "trip" / "day one").mkdir(parents=True)
    for name in ("trip/a.png", "trip/day one/b.PNG", "single.png"):
        (tmp_path / name).write_bytes(PNG)
    for name in ("trip/notes.txt", "trip/day one/.DS_Store"):
        (tmp_path / name).write_bytes(b"words")
    page = visit()
    page.goto(server.base)
    dropped_from_disk(page, tmp_path / "trip", tmp_path / "single.png")
    uploaded(page, 3)
    assert sorted(page.locator(".row .name").all_text_contents()) == ["a.png", "b.PNG", "single.png"]
    assert page.get_by_text("2 files are no pictures and were left out.").is_visible()
    assert page.locator(".sum").text_content() == "3 of 3 done"


def test_three_hundred_files_of_a_folder_keep_the_page_light(visit, server, tmp_path):
    for number in range(300):
        (tmp_path / f"{number:03}.png").write_bytes(PNG)
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    page = visit(**CLIPS)
    page.goto(server.base)
    bare = page.evaluate("document.querySelectorAll('*').length")
    page.set_input_files("input[webkitdirectory]", tmp_path)
    page.get_by_text("One file is no picture and was left out.").wait_for()
    assert page.locator(".rest").text_content() == "260 more are not shown here."
    most = 0
    while page.locator(".sum").text_content() != "300 of 300 done":
        most = max(most, page.evaluate("document.querySelectorAll('*').length"))
        assert page.locator(".row").count() <= 40
        assert page.locator(".row:is([data-state=sending], [data-state=preparing])").count() <= 3
        page.wait_for_timeout(50)
    assert most < bare + 40 * 25 + 200
    page.locator(".note-line", has_text="300 links copied.").wait_for()
    page.evaluate("navigator.clipboard.writeText('')")
    page.get_by_role("button", name="Copy all 300 links").click()
    page.locator(".note-line", has_text="300 links copied.").nth(1).wait_for()
    lines = copied(page).split("\n")
    assert len(set(lines)) == 300
    assert all(re.fullmatch(re.escape(server.base) + r"/[0-9A-Za-z]{12}", line) for line in lines)
    assert len(stored(page)) == 100, "the oldest are dropped"


def test_three_are_sent_at_once_and_leaving_meanwhile_asks(visit, server):
    page = visit()
    page.goto(server.base)
    held, hold = [], True
    page.route("**/v1/upload", lambda route: held.append(route) if hold else route.continue_())
    choose(page, *(picture(f"{number}.png", PNG) for number in range(5)))
    page.locator(".row").nth(4).wait_for()
    page.wait_for_timeout(300)
    assert len(held) == 3
    assert page.locator(".row[data-state=queued]").count() == 2
    assert page.title().startswith("0 of 5")
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    page.evaluate("setTimeout(() => location.assign('/api'))")
    page.wait_for_timeout(300)
    assert asked == ["beforeunload"]
    keys = {route.request.headers["idempotency-key"] for route in held}
    assert len(keys) == 3
    hold = False
    for route in held:
        route.continue_()
    uploaded(page, 5)
    assert page.title() == "imgpro"


def test_the_buttons_for_all_of_them(visit, server):
    page = visit()
    page.goto(server.base)
    page.route("**/v1/upload", lambda route: None)
    choose(page, *(picture(f"{number}.png", PNG) for number in range(5)))
    page.get_by_role("button", name="Cancel all").click()
    assert page.locator(".row[data-state=cancelled]").count() == 5
    page.unroute("**/v1/upload")
    page.get_by_role("button", name="Retry all").click()
    uploaded(page, 5)
    page.get_by_role("button", name="Clear").click()
    page.locator(".card").nth(4).wait_for()
    assert page.locator(".row").count() == 0
    assert len(recents(page)) == 5
    assert not page.locator(".sum").text_content()


def test_what_is_copied_is_chosen_once_and_remembered(visit, server):
    page = visit(**CLIPS)
    page.goto(server.base)
    choose(page, picture("a & b.png", PNG))
    link = uploaded(page)[0]
    found = server.api("GET", "/v1/media/" + link.rpartition("/")[2]).json()
    meant = {
        "Picture": found["src"],
        "Markdown": f"![a & b.png]({found['src']})",
        "HTML": f'<a href="{link}"><img src="{found["src"]}" width="600" height="450" alt=""></a>',
        "BBCode": f"[url={link}][img]{found['src']}[/img][/url]",
        "Link": link,
    }
    for name, text in meant.items():
        page.get_by_role("radio", name=name).check(force=True)
        assert page.locator(".link").input_value() == text
        page.get_by_role("button", name="Copy a & b.png").click()
        page.locator(".note-line", has_text=f"{name} copied.").wait_for()
        assert copied(page) == text
    page.get_by_role("radio", name="Markdown").check(force=True)
    page.reload()
    assert page.get_by_role("radio", name="Markdown").is_checked()
    page.get_by_role("button", name="Copy a & b.png").click()
    page.locator(".note-line", has_text="Markdown copied.").wait_for()
    assert copied(page) == meant["Markdown"]


# What this browser remembers


def test_a_recent_upload_is_deleted_unless_somebody_says_undo(visit, server):
    page = visit(expected=[404])
    page.clock.install()
    page.goto(server.base)
    sent = deletions(page)
    choose(page, picture("a.png", PNG), picture("b.png", PNG))
    links = uploaded(page, 2)
    page.reload()
    page.locator(".card").nth(1).wait_for()
    page.locator(".card", has_text="a.png").get_by_role("button", name="Delete").click()
    assert recents(page) == ["b.png"]
    page.get_by_role("button", name="Undo").click()
    assert sorted(recents(page)) == ["a.png", "b.png"]
    page.clock.run_for(20_000)
    assert sent == []
    assert all(is_there(server, link) for link in links)
    page.locator(".card", has_text="a.png").get_by_role("button", name="Delete").click()
    page.goto(server.base + "/api/quick-start")  # leaving is an answer too
    for _ in range(100):
        if sum(is_there(server, link) for link in links) == 1:
            break
        page.wait_for_timeout(50)
    assert sum(is_there(server, link) for link in links) == 1
    assert [entry["name"] for entry in stored(page)] == ["b.png"]


def test_a_finished_row_is_deleted_when_the_moment_to_undo_is_over(visit, server):
    page = visit()
    page.clock.install()
    page.goto(server.base)
    choose(page, picture("a.png", PNG))
    (link,) = uploaded(page)
    page.get_by_role("button", name="Delete a.png").click()
    assert page.locator(".row").count() == 0
    assert is_there(server, link)
    with page.expect_response("**/v1/media/*"):
        page.clock.fast_forward(10_000)
    assert not is_there(server, link)
    assert stored(page) == []


def test_what_is_gone_or_has_ended_shows_so(visit, server):
    page = visit(expected=[404])
    page.goto(server.base)
    choose(page, picture("kept.png", PNG), picture("taken.png", PNG), picture("ended.png", PNG))
    uploaded(page, 3)
    by_name = {entry["name"]: entry for entry in stored(page)}
    server.request("POST", by_name["taken.png"]["delete_url"].removeprefix(server.base))
    by_name["ended.png"]["expires_at"] = 1_600_000_000
    page.evaluate("([n, v]) => localStorage.setItem(n, JSON.stringify(v))", [NOBODY, list(by_name.values())])
    page.reload()
    page.get_by_text("taken.png is gone").wait_for()
    assert sorted(recents(page)) == ["kept.png", "taken.png is gone"]
    page.get_by_role("button", name="Remove taken.png").click()
    assert recents(page) == ["kept.png"]
    page.get_by_role("button", name="Forget this list").click()
    assert stored(page) == []
    page.get_by_role("button", name="Undo").click()
    assert recents(page) == ["kept.png"]
    assert [entry["name"] for entry in stored(page)] == ["kept.png"]


def test_what_came_after_the_list_was_forgotten_stays_when_it_is_back(visit, server):
    page = visit()
    page.goto(server.base)
    choose(page, picture("old.png", PNG))
    uploaded(page)
    page.reload()
    page.get_by_role("button", name="Forget this list").click()
    choose(page, picture("new.png", PNG))
    uploaded(page)
    page.get_by_role("button", name="Undo").click()
    page.locator(".card", has_text="old.png").wait_for()
    kept = stored(page)
    assert [entry["name"] for entry in kept] == ["new.png", "old.png"]
    assert all("token=" in entry["delete_url"] for entry in kept)


def test_other_tabs_follow(visit, server):
    page = visit()
    page.goto(server.base)
    other = page.context.new_page()
    other.goto(server.base)
    choose(page, picture("a.png", PNG))
    uploaded(page)
    other.locator(".card").wait_for()
    assert recents(other) == ["a.png"]


BROKEN = {
    "no list": "localStorage.setItem('imgpro.recent:/', '{\"a\": 1}')",
    "no JSON": "localStorage.setItem('imgpro.recent:/', '[[[')",
    "junk": "localStorage.setItem('imgpro.recent:/', JSON.stringify([null, 7, {id: 'x'}, {id: 'AAAAAAAAAAAA', name: 'n', url: 'javascript:alert(1)', src: 1, thumb: '//'}]))",
    "forbidden": "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no', 'SecurityError') }})",
    "full": "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError') }",
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_memory_keeps_nobody_from_uploading(visit, server, how):
    page = visit()
    page.add_init_script(BROKEN[how])
    page.goto(server.base)
    choose(page, picture("a.png", PNG))
    uploaded(page)
    page.get_by_role("button", name="Clear").click()
    page.locator(".card").wait_for()
    assert recents(page) == ["a.png"], "for as long as the page is open"


# Whose pictures they are


def test_uploads_of_somebody_signed_in_are_theirs(visit, server, ann):
    server.must_upload(PNG, "before.png", key=ann, namespace="holiday")
    page = visit(expected=[404])
    signed_in(page, server, ann)
    page.goto(server.base)
    assert page.get_by_text(re.compile("Signed in as .*@example.org")).is_visible()
    page.get_by_text("Options").click()
    page.locator("#namespaces option").wait_for(state="attached")
    assert page.locator("#namespaces option").get_attribute("value") == "holiday"
    page.get_by_label("Namespace").fill("holiday")
    page.get_by_label("Tags, with commas between").fill("Sea, beach")
    page.get_by_label("Who can see it").select_option("false")
    choose(page, picture("mine.png", PNG))
    uploaded(page)
    found = pictures_of(server, ann)[0]
    assert (found["name"], found["namespace"], found["public"]) == ("mine.png", "holiday", False)
    assert sorted(found["tags"]) == ["beach", "sea"]
    page.reload()
    page.locator(".card img").wait_for()
    assert page.evaluate("document.querySelector('.card img').decode().then(() => 'shown')") == "shown"
    kept = page.evaluate("JSON.stringify(localStorage)")
    assert found["id"] in kept
    assert "mine.png" not in kept
    assert "sig" not in kept
    page.context.clear_cookies()
    page.reload()
    page.get_by_text("Choose pictures").wait_for()
    page.wait_for_timeout(200)
    assert recents(page) == [], "a stranger at the same computer sees nothing of it"
    signed_in(page, server, ann)
    page.reload()
    page.clock.install()
    page.get_by_role("button", name="Delete mine.png").click()
    with page.expect_response("**/v1/media/*"):
        page.clock.fast_forward(10_000)
    assert [one["name"] for one in pictures_of(server, ann)] == ["before.png"]


def test_on_a_plain_lan_name_they_are_theirs_too(visit, server, ann):
    page = visit()
    signed_in(page, server, ann)
    page.context.add_cookies([{**page.context.cookies()[0], "domain": LAN}])
    page.goto(server.base.replace("127.0.0.1", LAN))
    assert not page.evaluate("isSecureContext")
    choose(page, picture("lan.png", PNG))
    assert uploaded(page)[0].startswith(f"http://{LAN}:")
    assert [one["name"] for one in pictures_of(server, ann)] == ["lan.png"]
    page.reload()
    page.locator(".card img").wait_for()
    assert recents(page) == ["lan.png"]


def test_the_form_without_script_belongs_to_the_account_too(visit, server, ann):
    page = visit(script=False)
    signed_in(page, server, ann)
    page.goto(server.base)
    choose(page, picture("plain.png", PNG))
    page.get_by_text("Options").click()
    page.get_by_label("Tags, with commas between").fill("slow")
    page.get_by_role("button", name="Upload").click()
    assert page.locator("h1").text_content() == "plain.png"
    (found,) = pictures_of(server, ann)
    assert found["tags"] == ["slow"]


def test_a_session_that_ended_is_told_with_the_way_back(visit, server, ann):
    page = visit(expected=[401])
    signed_in(page, server, ann)
    page.goto(server.base)
    page.context.clear_cookies()
    choose(page, picture("a.png", PNG))
    row = page.locator(".row[data-state=failed]")
    row.get_by_text("You are not signed in any more.").wait_for()
    assert row.get_by_role("link", name="Sign in").get_attribute("href") == f"{server.base}/dashboard"
    assert not pictures_of(server, ann)


def test_larger_files_are_taken_from_somebody_signed_in(visit, server, ann, tmp_path):
    big = tmp_path / "big.png"
    big.write_bytes(PNG + bytes(21 * 1024 * 1024))
    page = visit()
    page.goto(server.base)
    sent = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    choose(page, big)
    page.locator(".row").get_by_text("The file is too large. Send one of at most 20 MB.").wait_for()
    assert not sent
    signed_in(page, server, ann)
    page.reload()
    choose(page, big)
    uploaded(page)


# The page itself


def test_a_new_server_says_how_to_claim_it_and_an_old_one_does_not(visit, server, tmp_path):
    page = visit()
    page.goto(server.base)
    line = "This server has no operator yet. Run imgpro setup-link on it to become its operator."
    assert page.locator(".claim").text_content() == line
    assert "setup?t=" not in page.content()
    with running(tmp_path / "data") as claimed:
        token = re.search(r"/setup\?t=(\w+)", claimed.log())[1]
        form = f"t={token}&email=op%40example.org".encode()
        kind = {"Content-Type": "application/x-www-form-urlencoded", "Origin": claimed.base}
        assert b"operator yet" in claimed.get("/").body
        assert claimed.request("POST", "/setup", form, kind).status == 200
        assert b"operator yet" not in claimed.get("/").body


@pytest.mark.parametrize("settings", [{"ENABLED": "false"}, {"NETWORKS": "private"}])
def test_a_server_that_takes_nothing_from_strangers_says_where_to_sign_in(tmp_path, settings):
    env = {f"IMGPRO_ANONYMOUS_{name}": value for name, value in settings.items()}
    with running(tmp_path / "data", {**env, "IMGPRO_SERVER_TRUSTED_PROXIES": "127.0.0.1"}) as closed:
        body = closed.get("/", X_Forwarded_For="8.8.8.8").body.decode()
        assert "Uploads need an account here" in body
        assert "<form" not in body
        assert '<a class="button" href="./dashboard">Sign in</a>' in body


def test_on_a_phone_everything_is_in_reach(visit, server):
    page = visit(width=390, height=844, has_touch=True, is_mobile=True, device_scale_factor=2)
    page.goto(server.base)
    assert not page.get_by_text("Choose a folder").is_visible()
    assert not page.get_by_text("Drop or paste").is_visible()
    with page.expect_file_chooser() as chooser:
        page.get_by_label("Choose pictures").tap()
    assert chooser.value.is_multiple()
    assert page.locator("input[name=file]").get_attribute("accept").startswith("image/*")
    chooser.value.set_files([picture("a" * 80 + ".png", PNG), picture("b.png", PNG)])
    uploaded(page, 2)
    page.get_by_role("button", name="Clear").tap()
    page.locator(".card").nth(1).wait_for()
    for width in (320, 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    small = page.evaluate(
        """[...document.querySelectorAll("button, a, summary, .formats label, input:not([type=file], [type=radio]), select")]
            .filter((one) => one.checkVisibility() && !one.matches(".tile"))
            .map((one) => [one.textContent || one.name, one.getBoundingClientRect().height])
            .filter(([, height]) => height < 24)"""
    )
    assert small == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_screen_readers_and_keyboards_find_nothing_in_their_way(visit, server, scheme):
    page = visit(expected=[415], color_scheme=scheme)
    page.goto(server.base)
    page.get_by_text("Options").click()
    assert serious(page) == []
    choose(page, picture("a.png", PNG), picture("b.png", PNG), picture("none.png", b"no picture"))
    uploaded(page, 2)
    page.locator(".row[data-state=failed]").wait_for()
    assert serious(page) == []
    page.reload()
    page.locator(".card").nth(1).wait_for()
    assert serious(page) == []


def test_with_the_keyboard_alone(visit, server):
    page = visit(**CLIPS)
    page.goto(server.base)
    choose(page, picture("a.png", PNG), picture("b.png", PNG))
    uploaded(page, 2)
    page.locator("#status", has_text="copied").wait_for()
    page.get_by_role("radio", name="Link").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("radio", name="Picture").is_checked()
    page.locator(".link").first.focus()
    assert page.evaluate(SELECTED).endswith(".png")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator(".note-line", has_text="Picture copied.").wait_for()
    page.get_by_role("button", name="Delete a.png").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.className") == "queue", "the next key goes on from there"
    page.get_by_role("button", name="Undo").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Delete a.png").wait_for()


def test_the_page_weighs_little_with_everything_it_loads(visit, server, ann):
    page = visit()
    signed_in(page, server, ann)
    weights = {}
    page.on("response", lambda response: weights.update({response.url: len(response.body())}))
    page.goto(server.base)
    page.get_by_text("Choose pictures").wait_for()
    page.wait_for_load_state("networkidle")
    heavy = {url: size for url, size in weights.items() if not url.endswith((".svg", ".png"))}
    assert len(heavy) >= 8
    assert sum(heavy.values()) < 60 * 1024, json.dumps(heavy, indent=1)


def test_any_name_that_a_browser_sends_arrives(visit, server):
    names = ["a;b;c.png", 'quo"te;.png', "100%25 %22.png", "🎉 é;.png", "=;=.png"]
    page = visit()
    page.goto(server.base)
    choose(page, *(picture(name, PNG) for name in names))
    uploaded(page, len(names))
    found = [server.get(f"/v1/media/{each['id']}") for each in stored(page)]
    assert sorted(answer.json()["name"] for answer in found) == sorted(name.replace("%22", '"') for name in names)
