"""What all tests share: bounded property tests, and where the real photographs lie."""

import atexit
import ctypes
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from imgpro import processors
from tests.peers import picture_peer
from tests.pictures import encoded, make_image

# Without a deadline per example: a busy machine must not fail a test. `thorough` is for a person with time.
settings.register_profile(
    "default",
    max_examples=60,
    deadline=None,
    derandomize=os.environ.get("CI") == "true",
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=2_000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

ROOT = Path(__file__).resolve().parent.parent

# A shell ignores both for what it starts in the background, and whatever a test starts would inherit that.
for _number, _meant in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _meant)


def _give_up_real_time() -> None:
    """Drop CAP_SYS_NICE here; programs that are started have it again.

    Encoding AVIF as root, as some tests do in this process, has SVT-AV1 make the thread a real-time one. All that this
    process starts afterwards would be that as well, and starve what other tests wait for.
    """
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(0x2008_0522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    found = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    if libc.capget(header, found) == 0:
        for place in (0, 1):
            found[place] &= ~(1 << 23)
        libc.capset(header, found)


_give_up_real_time()

# What servers remember of the data directories they are started on is no business of the next run's.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="imgpro-state-")
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _nobody_gives_way_here():
    """Keep this process as it is, which carries out parts of commands itself: there would be no way back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processors, "give_way", lambda: None)
        yield


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of real photographs beside the checkout; skips where it is absent."""
    folder = ROOT.parent / "shared" / "photos"
    if not folder.is_dir():
        pytest.skip("the photographs in ../shared/photos are not there")
    return folder


@pytest.fixture(scope="session")
def peer_port():
    """The port of another server of pictures, which a module's own `server` may import from."""
    with picture_peer(encoded(make_image("RGB", (600, 450)), "PNG")) as port:
        yield port


@pytest.fixture
def ann(server):
    """The key of an account of this test alone."""
    return server.new_key(f"ann{time.time_ns()}@example.org")
