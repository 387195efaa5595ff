"""Which addresses may be reached: the table of RELIABILITY.md §5, both modes."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain.egress import Address, Denial, EgressMode, EgressRules, judge
from common.http.target import Host, parse_host

INTERNAL = EgressRules(EgressMode.INTERNAL)
PUBLIC = EgressRules(EgressMode.PUBLIC)

#: address, verdict in internal mode, verdict in public mode
TABLE = [
    ("127.0.0.1", None, Denial.LOOPBACK),  # the monitoring machine itself
    ("127.255.255.254", None, Denial.LOOPBACK),  # all of 127/8 is loopback
    ("::1", None, Denial.LOOPBACK),
    ("10.1.2.3", None, Denial.PRIVATE),
    ("172.31.255.255", None, Denial.PRIVATE),  # the upper end of 172.16/12
    ("172.32.0.1", None, None),  # one past it
    ("192.168.1.1", None, Denial.PRIVATE),
    ("100.64.0.1", None, Denial.PRIVATE),  # carrier NAT: `is_private` misses it
    ("100.100.100.200", Denial.METADATA, Denial.METADATA),  # Alibaba's metadata, inside carrier NAT
    ("fd12::1", None, Denial.PRIVATE),  # unique local
    ("fec0::1", None, Denial.PRIVATE),  # site local: `is_global` says yes
    ("169.254.169.254", Denial.METADATA, Denial.METADATA),  # AWS, GCP, Azure, Oracle
    ("169.254.170.2", Denial.METADATA, Denial.METADATA),  # AWS task credentials
    ("fd00:ec2::254", Denial.METADATA, Denial.METADATA),  # AWS over IPv6
    ("168.63.129.16", Denial.METADATA, Denial.METADATA),  # Azure's wire server, a global address
    ("169.254.1.1", Denial.LINK_LOCAL, Denial.LINK_LOCAL),
    ("fe80::1", Denial.LINK_LOCAL, Denial.LINK_LOCAL),
    ("0.0.0.0", Denial.UNSPECIFIED, Denial.UNSPECIFIED),  # Linux connects it to the local host
    ("0.1.2.3", Denial.UNSPECIFIED, Denial.UNSPECIFIED),
    ("::", Denial.UNSPECIFIED, Denial.UNSPECIFIED),
    ("224.0.0.1", Denial.MULTICAST, Denial.MULTICAST),  # `is_global` says yes
    ("ff02::1", Denial.MULTICAST, Denial.MULTICAST),
    ("255.255.255.255", Denial.BROADCAST, Denial.BROADCAST),
    ("240.0.0.1", None, Denial.RESERVED),  # class E
    ("192.0.2.1", None, Denial.RESERVED),  # documentation
    ("192.88.99.1", None, Denial.RESERVED),  # the withdrawn 6to4 relay
    ("::ffff:127.0.0.1", None, Denial.LOOPBACK),  # IPv4-mapped
    ("::ffff:7f00:1", None, Denial.LOOPBACK),  # the same in hexadecimal
    ("::ffff:169.254.169.254", Denial.METADATA, Denial.METADATA),
    ("::ffff:8.8.8.8", None, None),  # mapped, and public inside
    ("::127.0.0.1", None, Denial.LOOPBACK),  # the deprecated compatible form
    ("::ffff:0:169.254.169.254", Denial.METADATA, Denial.METADATA),  # SIIT
    ("64:ff9b::7f00:1", None, Denial.LOOPBACK),  # NAT64: `is_global` says yes
    ("64:ff9b::a9fe:a9fe", Denial.METADATA, Denial.METADATA),
    ("64:ff9b::808:808", None, None),  # NAT64 to a public host
    ("64:ff9b:1::a9fe:a9fe", Denial.METADATA, Denial.METADATA),  # local NAT64, address in the tail
    ("64:ff9b:1:a9fe:a9:fe00::", Denial.METADATA, Denial.METADATA),  # local NAT64, RFC 6052 for /48
    ("64:ff9b:1::808:808", None, Denial.RESERVED),  # local-use prefix: not for strangers
    ("2002:7f00:1::", None, Denial.RESERVED),  # 6to4: `is_global` said yes until Python 3.13
    ("2002:808:808::1", None, Denial.RESERVED),
    ("2002:a9fe:a9fe::1", Denial.METADATA, Denial.METADATA),
    ("2001:0:4136:e378:8000:63bf:5601:5601", Denial.METADATA, Denial.METADATA),  # Teredo, client 169.254.169.254
    ("8.8.8.8", None, None),
    ("2606:4700::1111", None, None),
    ("fe80::1%eth0", Denial.NOT_AN_ADDRESS, Denial.NOT_AN_ADDRESS),  # zones are not supported
    ("localhost", Denial.NOT_AN_ADDRESS, Denial.NOT_AN_ADDRESS),  # names are resolved first, never judged
    ("", Denial.NOT_AN_ADDRESS, Denial.NOT_AN_ADDRESS),
]


@pytest.mark.parametrize(("address", "internal", "public"), TABLE)
def test_an_address_is_judged_by_what_it_really_reaches(
    address: str,
    internal: Denial | None,
    public: Denial | None,
) -> None:
    assert judge(address, INTERNAL) is internal
    assert judge(address, PUBLIC) is public


#: Spellings that getaddrinfo takes for an address, and what they mean to it.
SPELLINGS = [
    ("2130706433", "127.0.0.1"),  # one decimal number
    ("0x7f.1", "127.0.0.1"),  # hexadecimal, two parts
    ("0177.0.0.1", "127.0.0.1"),  # octal
    ("127.1", "127.0.0.1"),
    ("0x7f000001", "127.0.0.1"),
    ("127.0.0.1.", "127.0.0.1"),  # the root dot
    ("127。0。0。1", "127.0.0.1"),  # ideographic dots
    ("\uff11\uff12\uff17.\uff10.\uff10.\uff11", "127.0.0.1"),  # fullwidth digits
    ("①②⑦.0.0.1", "127.0.0.1"),  # circled digits
    ("0xA9FEA9FE", "169.254.169.254"),
    ("0", "0.0.0.0"),
    ("[::ffff:7f00:1]", str(ipaddress.ip_address("::ffff:7f00:1"))),  # Python 3.13 writes the end as IPv4
    ("[0:0:0:0:0:0:0:1]", "::1"),
]


@pytest.mark.parametrize(("spelling", "address"), SPELLINGS)
def test_odd_spellings_of_an_address_are_read_as_the_system_reads_them(spelling: str, address: str) -> None:
    assert parse_host(spelling) == Host(address, address)


NO_HOSTS = ["256.1.1.1", "1.2.3.4.5", "0x7g", "09.1", "a..b", "-a.b", "a b", "", "[::1", "a%00b", "x" * 300]


@pytest.mark.parametrize("host", NO_HOSTS)
def test_what_is_no_host_is_refused(host: str) -> None:
    found = parse_host(host)
    assert isinstance(found, str) or not found.address


def test_the_operators_deny_list_wins_over_the_allow_list() -> None:
    net = ipaddress.ip_network("10.0.0.0/8")
    assert judge("10.0.0.1", EgressRules(EgressMode.PUBLIC, allow=(net,), deny=(net,))) is Denial.DENIED_BY_OPERATOR
    assert judge("10.0.0.1", EgressRules(EgressMode.INTERNAL, deny=(net,))) is Denial.DENIED_BY_OPERATOR


def test_the_deny_list_sees_through_embedded_addresses() -> None:
    rules = EgressRules(EgressMode.INTERNAL, deny=(ipaddress.ip_network("10.0.0.0/8"),))
    assert judge("64:ff9b::a00:1", rules) is Denial.DENIED_BY_OPERATOR
    assert judge("::ffff:10.0.0.1", rules) is Denial.DENIED_BY_OPERATOR


def test_the_allow_list_opens_a_private_range_in_public_mode() -> None:
    rules = EgressRules(EgressMode.PUBLIC, allow=(ipaddress.ip_network("10.5.0.0/16"),))
    assert judge("10.5.1.1", rules) is None
    assert judge("10.6.1.1", rules) is Denial.PRIVATE


def test_the_allow_list_never_opens_what_is_always_denied() -> None:
    everything = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
    for address in ("169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1", "fd00:ec2::254", "2002:a9fe:a9fe::"):
        assert judge(address, EgressRules(EgressMode.PUBLIC, allow=everything)) is not None


@given(st.ip_addresses(v=4))
def test_a_mapped_address_is_judged_like_the_plain_one(address: ipaddress.IPv4Address) -> None:
    assert judge(f"::ffff:{address}", PUBLIC) is judge(str(address), PUBLIC)


@given(st.ip_addresses())
def test_public_mode_never_allows_what_internal_mode_denies(address: Address) -> None:
    if judge(str(address), INTERNAL) is not None:
        assert judge(str(address), PUBLIC) is not None
