"""What the server does by itself once an hour, a day or a month: a real one, whose clocks all are that far ahead.

Nothing is called: the passes come because their time has come.
"""

import json
import random

import pytest
from blake3 import blake3

from imgpro.store.layout import blob_path
from tests.backups import imgpro
from tests.clocks import Clock, clock_library
from tests.law import check_disk
from tests.load import small_png
from tests.patience import wait_until
from tests.servers import UNLIMITED, running
from tests.signed_in import claimed

pytestmark = pytest.mark.crash

HOUR_S = 3_600
DAY_S = 24 * HOUR_S
ENV = {**UNLIMITED, "IMGPRO_IMAGING_WORKERS": "1", "IMGPRO_LOG_ACCESS": "false", "IMGPRO_METRICS_ENABLED": "true"}


def test_a_rule_deletes_and_what_has_ended_goes_by_the_servers_own_hours(tmp_path):
    clock = Clock(tmp_path, clock_library(tmp_path))
    dice = random.Random(3)
    with running(tmp_path / "data", {**ENV, **clock.environment()}) as server:
        operator = claimed(server)
        key = server.new_key("ann@example.org")
        bodies = {name: small_png(dice) for name in ("draft", "kept", "later", "anonymous")}
        draft = server.must_upload(bodies["draft"], "draft.png", key=key, namespace="drafts")
        kept = server.must_upload(bodies["kept"], "kept.png", key=key, namespace="drafts", tags="keep")
        anonymous = server.must_upload(bodies["anonymous"], "anonymous.png")
        which = ("--older-than", "12h", "--namespace", "drafts", "--except-tag", "keep")
        assert imgpro("retention", "add", "old-drafts", *which, "--yes", "--data", server.data).returncode == 0

        def on_disk(name):
            return (server.data / "blobs" / blob_path(blake3(bodies[name]).hexdigest())).exists()

        def check_pages():
            for path in ("/operator", "/operator/retention", "/dashboard/account", "/readyz", "/metrics"):
                assert operator.get(path).status == 200, path

        # It matches already; but a rule may be taken back for a day.
        clock.let_pass(server, 20 * HOUR_S)
        later = server.must_upload(bodies["later"], "later.png", key=key, namespace="drafts")
        rehearsed = imgpro("retention", "rehearse", "old-drafts", "--json", "--data", server.data).stdout
        assert json.loads(rehearsed.splitlines()[-1])["count"] == 1
        clock.let_pass(server, 22 * HOUR_S)
        assert server.get(draft["src"]).status == 200
        check_pages()

        clock.let_pass(server, 27 * HOUR_S)
        wait_until(lambda: server.get(draft["src"]).status == 404)
        wait_until(lambda: not on_disk("draft"))
        assert "retention rule old-drafts deleted 1 picture" in server.log()
        assert server.get(kept["src"]).body == bodies["kept"]
        assert server.get(later["src"]).body == bodies["later"], "it is seven hours old"

        # The next hours of the same rule; and an upload of nobody's, whose month is over.
        clock.let_pass(server, 34 * HOUR_S)
        wait_until(lambda: not on_disk("later"))
        check_pages()
        assert server.get(anonymous["src"]).status == 200
        clock.let_pass(server, 31 * DAY_S)
        assert server.get(anonymous["src"]).status == 404
        wait_until(lambda: not on_disk("anonymous"))
        assert server.get(kept["src"]).body == bodies["kept"]
        assert server.stop() == 0
        assert check_disk(server.data) == 0
        assert "Traceback" not in server.log()
