"""Pages that are open while their browser is signed out elsewhere."""

import pytest

from tests.pictures import encoded, make_image
from tests.servers import UNLIMITED, running
from tests.signed_in import by_key

pytestmark = pytest.mark.browser

PNG = encoded(make_image("RGB", (60, 40)), "PNG")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("signed-out") / "data", UNLIMITED) as found:
        yield found


@pytest.mark.parametrize("how", ["everywhere", "blocked"])
def test_nothing_of_the_account_stays_on_the_screen(visit, server, how):
    email = f"{how}@example.org"
    key = server.new_key(email)
    private = server.must_upload(PNG, "secret.png", key=key, public="false")
    here = by_key(server, key)
    page = visit(expected=[401, 404])
    name, _, value = here.cookie.partition("=")
    page.context.add_cookies([{"name": name, "value": value, "url": server.base}])
    other = page.context.new_page()
    with page.expect_response("**/v1/events"):
        page.goto(f"{server.base}/dashboard")
    page.get_by_role("link", name="secret.png").wait_for()
    with other.expect_response("**/v1/events"):
        other.goto(f"{server.base}/{private['id']}")
    if how == "blocked":
        server.operate("block", email=email)
    else:
        assert by_key(server, key).post("/dashboard/sign-out", all="1").status == 303
    page.get_by_role("heading", name="Sign in", exact=True).wait_for()
    other.get_by_role("heading", name="There is nothing at this address.").wait_for()
