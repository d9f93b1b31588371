"""Which address a phone is shown, and which of this machine's networks lead out of it."""

import socket

import pytest

from imgpro.cli import banner


@pytest.mark.parametrize(
    ("base", "addresses", "best"),
    [
        (None, ["http://127.0.0.1:80", "http://localhost:80", "http://[::1]:80"], None),
        (None, ["http://192.168.1.2:80", "http://box.local:80", "http://localhost:80"], "http://192.168.1.2:80"),
        (None, ["http://box.local:80", "http://localhost:80", "unix:/run/x"], None),
        ("https://img.example.org/p", ["http://192.168.1.2:80"], "https://img.example.org/p"),
        ("http://localhost:8080", ["http://192.168.1.2:80"], "http://192.168.1.2:80"),
        ("", ["http://[fd00::2]:80"], "http://[fd00::2]:80"),
    ],
)
def test_the_address_for_a_phone(base, addresses, best):
    assert banner.best_address(base, addresses) == best


def test_networks_of_containers_are_left_out():
    for name in ("docker0", "veth12ab", "br-0123456789ab", "virbr0", "cni0"):
        assert banner._INNER.fullmatch(name), name
    for name in ("eth0", "wlan0", "enp3s0", "br0", "br-lan", "tailscale0", "bond0"):
        assert not banner._INNER.fullmatch(name), name


def test_the_addresses_are_this_machines():
    for address in banner.lan_addresses():
        assert not address.startswith("127.")
        with socket.socket() as probe:
            probe.bind((address, 0))
