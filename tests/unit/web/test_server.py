import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from imgpro.errors import Busy
from imgpro.flows.courtesy import Courtesy
from imgpro.flows.hot import HotPictures
from imgpro.web.clients import Clients
from imgpro.web.pages import ErrorPages, Templates
from imgpro.web.server import Dispatch


def dispatch(failure, sent_bytes):
    async def inner(request):
        request.writer.output_size = sent_bytes
        raise failure

    return Dispatch(inner, HotPictures(0, 0), Clients("", ()), None, ErrorPages(Templates("x")), None, None, Courtesy())


async def test_a_failure_before_the_answer_becomes_one(caplog):
    answer = await dispatch(RuntimeError("secret"), 0)(make_mocked_request("GET", "/x"))
    assert (answer.status, b"secret" in answer.body) == (500, False)
    assert "RuntimeError" in caplog.text


@pytest.mark.parametrize("failure", [RuntimeError("disk"), OSError(5, "I/O error"), Busy(), web.HTTPNotFound()])
async def test_a_failure_within_an_answer_adds_nothing_to_it(failure):
    """A second answer on the same connection would be taken for the rest of the picture."""
    with pytest.raises(ConnectionError):
        await dispatch(failure, 100)(make_mocked_request("GET", "/x"))


async def test_a_client_that_went_away_is_no_failure_of_ours(caplog):
    with pytest.raises(ConnectionError):
        await dispatch(BrokenPipeError(), 100)(make_mocked_request("GET", "/x"))
    assert caplog.text == ""
