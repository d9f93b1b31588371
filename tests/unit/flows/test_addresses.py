import pytest

from imgpro.flows.addresses import is_own, is_private_caller, is_public, may_fetch, network_of, parse_address

REFUSED = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.254 127.0.0.1 127.255.255.254 168.63.129.16
169.254.169.254 169.254.0.1 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.170 192.0.2.1 192.31.196.1 192.52.193.1
192.88.99.1 192.168.0.1 192.168.255.255 192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1
239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b:1::1 100::1 fc00::1
fd00:ec2::254 fe80::1 fec0::1 ff02::1 2001::1 2001:1::1 2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1:: 2002:a00:1::1
2620:4f:8000::1 3fff::1 3ffe::5efe:7f00:1 2a00:1450::200:5efe:10.0.0.1 5f00::1 4000::1 fe80::1%eth0
""".split()
PUBLIC = """
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.1 100.63.255.255 100.128.0.1 126.255.255.255 128.0.0.1 168.63.129.15
172.15.255.255 172.32.0.1 192.0.1.1 192.167.255.255 192.169.0.1 198.17.255.255 198.20.0.1 223.255.255.255
2001:200::1 2606:4700:4700::1111 2a00:1450:4001::200e ::ffff:8.8.8.8
""".split()


@pytest.mark.parametrize("text", REFUSED)
def test_special_addresses_are_refused(text):
    address = parse_address(text)
    assert address is None or not is_public(address)
    assert not may_fetch(text, ())


@pytest.mark.parametrize("text", PUBLIC)
def test_ordinary_addresses_are_allowed(text):
    address = parse_address(text)
    assert address is not None
    assert is_public(address)


def test_our_own_addresses_are_known():
    assert is_own(parse_address("127.0.0.1"))
    assert not is_own(parse_address("8.8.8.8"))


def test_callers_are_counted_by_address_or_64():
    assert network_of("192.0.2.7") == "192.0.2.7"
    assert network_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert network_of("unix") == "local"


@pytest.mark.parametrize(
    ("network", "private"), [("192.168.1.5", True), ("8.8.8.8", False), ("fd00::/64", True), ("local", True)]
)
def test_local_callers(network, private):
    assert is_private_caller(network) is private
