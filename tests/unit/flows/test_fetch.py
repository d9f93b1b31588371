"""The judgement at connect: a name may resolve to anything, at any moment, and still leads nowhere forbidden."""

import contextlib
import socket
import socketserver
import threading
from typing import ClassVar

import aiohttp
import pytest

from imgpro.errors import FetchFailed, FetchTimedOut, FileTooLarge, ValidationError
from imgpro.flows import fetch
from imgpro.flows.fetch import Fetcher
from imgpro.settings import Imports

MAX_BYTES = 1000
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Resolver(aiohttp.abc.AbstractResolver):
    """Answers each question with the next list of addresses, the last one for ever."""

    answers: ClassVar[list[list[str]]] = []
    questions: ClassVar[list[str]] = []

    def __init__(self, **options):
        pass

    async def resolve(self, host, port=0, family=socket.AF_INET):
        self.questions.append(host)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            {"hostname": host, "host": address, "port": port, "family": kind(address), "proto": 6, "flags": 0}
            for address in found
        ]

    async def close(self):
        pass


def kind(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@pytest.fixture
def names(monkeypatch):
    monkeypatch.setattr(aiohttp.connector, "DefaultResolver", Resolver)
    Resolver.questions = []
    return Resolver


@contextlib.asynccontextmanager
async def listening(reply=OK):
    """Listen on every IPv4 address; yield the port and the list of local addresses that were reached."""
    reached = []

    class Visit(socketserver.BaseRequestHandler):
        def handle(self):
            reached.append(self.request.getsockname()[0])
            self.request.recv(65536)
            self.request.sendall(reply)
            self.request.recv(1)

    with socketserver.ThreadingTCPServer(("0.0.0.0", 0), Visit) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_address[1], reached
        finally:
            server.shutdown()
            thread.join()


def fetcher(port, *networks, deadline_s=30.0):
    return Fetcher(Imports(private_networks=networks, ports=(80, port), deadline_s=deadline_s))


async def fetched(subject, url):
    async with subject.open(url, MAX_BYTES) as answer:
        return b"".join([piece async for piece in answer.chunks])


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1", "::1", "10.0.0.1", "169.254.169.254"])
async def test_a_name_that_resolves_to_a_private_address(names, address):
    names.answers = [[address]]
    async with listening() as (port, reached):
        with pytest.raises(ValidationError) as caught:
            await fetched(fetcher(port), f"http://rebind.test:{port}/")
        assert set(caught.value.details) == {"url"}
        assert names.questions == ["rebind.test"]
        assert reached == []


async def test_only_the_operator_is_told_why(names):
    names.answers = [["10.0.0.1", "::1"]]
    whys = {}
    async with listening() as (port, _):
        subject = fetcher(port, "127.0.0.1/32")
        for url in (
            f"http://x.test:{port}/",
            f"http://10.0.0.1:{port}/",
            "http://x.test:81/",
            "http://127.0.0.1/",
            "ftp://x/",
        ):
            with pytest.raises(ValidationError) as caught:
                await fetched(subject, url)
            assert (caught.value.message, len(caught.value.details)) == ("The address cannot be imported.", 1)
            assert caught.value.why not in f"{caught.value} {caught.value.details}"
            whys[url] = caught.value.why
    forbidden, number, odd_port, silent, odd = whys.values()
    assert forbidden == number
    assert "imports.private_networks" in forbidden
    assert odd_port == "Port 81 is not among imports.ports."
    assert len({forbidden, odd_port, silent, odd}) == 4


async def test_the_address_that_is_judged_is_the_one_connected_to(names):
    """There is no second look-up between check and connect that could give another answer."""
    names.answers = [["127.0.0.1"], ["127.0.0.2"]]
    async with listening() as (port, reached):
        subject = fetcher(port, "127.0.0.1/32")
        assert await fetched(subject, f"http://rebind.test:{port}/") == b"ok"
        assert (len(names.questions), reached) == (1, ["127.0.0.1"])
        with pytest.raises(ValidationError):
            await fetched(subject, f"http://rebind.test:{port}/")
        assert (len(names.questions), reached) == (2, ["127.0.0.1"])


async def test_each_hop_is_resolved_and_judged_anew(names):
    names.answers = [["127.0.0.1"], ["127.0.0.2"]]
    moved = b"HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n"
    async with listening(moved) as (port, reached):
        with pytest.raises(ValidationError):
            await fetched(fetcher(port, "127.0.0.1/32"), f"http://rebind.test:{port}/")
        assert (len(names.questions), reached) == (2, ["127.0.0.1"])


async def test_of_several_addresses_only_allowed_ones_are_tried(names):
    names.answers = [["127.0.0.2", "::1", "127.0.0.1"]]
    async with listening() as (port, reached):
        assert await fetched(fetcher(port, "127.0.0.1/32"), f"http://rebind.test:{port}/") == b"ok"
        assert reached == ["127.0.0.1"]


async def test_our_own_port_is_refused_on_every_address_of_ours(names):
    names.answers = [["127.0.0.1"]]
    async with listening() as (port, reached):
        subject = fetcher(port, "127.0.0.0/8")
        subject.own_ports = frozenset({port})
        for host in ("rebind.test", "127.0.0.1", "127.0.0.9", "[::ffff:127.0.0.1]"):
            with pytest.raises(ValidationError):
                await fetched(subject, f"http://{host}:{port}/")
        assert reached == []


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 200 OK\r\n", OK[:-1]], ids=["silence", "headers", "body"])
async def test_a_silent_peer_is_too_slow_not_unreachable(monkeypatch, reply):
    monkeypatch.setattr(fetch, "READ_DEADLINE_S", 0.2)
    async with listening(reply) as (port, _):
        with pytest.raises(FetchTimedOut):
            await fetched(fetcher(port, "127.0.0.1/32"), f"http://127.0.0.1:{port}/")


async def test_a_peer_that_does_not_take_the_connection_is_unreachable(monkeypatch):
    monkeypatch.setattr(fetch, "CONNECT_DEADLINE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        with pytest.raises(ValidationError):
            await fetched(fetcher(port, "127.0.0.1/32"), f"http://127.0.0.1:{port}/")
        for filler in fillers:
            filler.close()


async def test_an_announced_size_is_judged_before_a_byte_is_read():
    async with listening(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n") as (port, _):
        with pytest.raises(FileTooLarge):
            await fetched(fetcher(port, "127.0.0.1/32"), f"http://127.0.0.1:{port}/")


async def test_a_malformed_answer():
    async with listening(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nX: \x00\r\n\r\n") as (port, _):
        with pytest.raises(FetchFailed):
            await fetched(fetcher(port, "127.0.0.1/32"), f"http://127.0.0.1:{port}/")
