"""One real server for the tests of this folder; those that need other settings start their own."""

import pytest

from tests.servers import UNLIMITED, running


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("http") / "data", UNLIMITED) as found:
        yield found
