"""What a probe that somebody waits for notes beside its verdict, and what a monitor's check does not."""

from __future__ import annotations

import ssl
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID

from common.clock import utc_now
from common.domain.checks import Facts, Observation, Reason
from common.domain.monitors import MonitorConfig
from common.domain.options import DnsOptions, TcpOptions, TlsOptions
from common.http.tls_facts import TlsSession, session_facts
from tests.dns_server import Zone
from tests.probing import STREAMS, config, context, look, peer, run
from tests.targets import Authority, answer, make_authority, redirect, serving
from worker.probes.base import NOBODY


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("ca"))


def noted(seen: Observation) -> Facts:
    assert seen.facts is not None, seen
    return seen.facts


#: Of every TLS session; how it was agreed differs.
TLS = {"sent_expiry_s", "fingerprint_sha256", "subject", "issuer", "subjectalternative", "tls_version", "tls_cipher"}


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_libcurl_and_our_own_tls_say_the_same_of_a_server(newest: ssl.TLSVersion, authority: Authority) -> None:
    async def main() -> None:
        secure = authority.context("127.0.0.1", "shop.example", "www.shop.example")
        secure.maximum_version = newest
        async with (
            serving({"*": answer()}, tls=secure) as target,
            peer(STREAMS["tcp"].well, secure) as server,
            context(ca=authority.ca_file) as ctx,
        ):
            by_curl = await look(config("http", "h", 1, target=target.url(), monitor_no=NOBODY), ctx)
            where = f"127.0.0.1:{server.port}"
            by_us = await look(
                config("tcp", "h", 1, target=where, options=TcpOptions(tls=True), monitor_no=NOBODY), ctx
            )
        theirs, ours = noted(by_curl), noted(by_us)
        assert {name: theirs[name] for name in TLS} == {name: ours[name] for name in TLS}
        assert ours["tls_version"] == newest.name.replace("_", ".")
        assert (ours["subject"], ours["issuer"]) == ("CN=127.0.0.1", "CN=Test CA")
        assert ours["subjectalternative"] == "shop.example,www.shop.example"
        assert abs(int(ours["sent_expiry_s"]) - utc_now().timestamp() - 86_400) < 60
        # The authority's own certificate is part of what it was verified by, and was not sent.
        assert int(ours["verified_expiry_s"]) <= int(ours["sent_expiry_s"])

    run(main())


def test_what_is_sent_before_verification_fails_is_told_where_nothing_is_verified(authority: Authority) -> None:
    async def main() -> None:
        expired = authority.context("127.0.0.1", expired=True)
        async with peer(STREAMS["tls"].well, expired) as server, context(ca=authority.ca_file) as ctx:
            where = f"127.0.0.1:{server.port}"
            refused = await look(config("tls", "h", 1, target=where, options=TlsOptions(), monitor_no=NOBODY), ctx)
            taken = await look(
                config("tls", "h", 1, target=where, options=TlsOptions(verify_tls=False), monitor_no=NOBODY), ctx
            )
        assert (refused.reason, refused.facts) == (Reason.TLS_CERTIFICATE_EXPIRED, {})
        assert noted(taken).keys() == TLS

    run(main())


def test_redirects_are_counted_and_the_last_answer_is_told(authority: Authority) -> None:
    async def main() -> None:
        pages = {"/": redirect(302, "/there"), "/there": answer(404, b"nothing", "Content-Encoding: gzip\r\n")}
        async with serving(pages) as target, context() as ctx:
            seen = await look(config("http", "h", 1, target=target.url(), monitor_no=NOBODY), ctx)
            lost = await look(config("http", "h", 1, target=target.url("/there"), timeout_s=2.0), ctx)
        assert seen.facts == {
            "redirects": 1, "http_version": "1.1", "body_bytes": 7, "content_length": "7", "content_encoding": "gzip",
        }  # fmt: skip
        assert lost.facts is None  # a monitor's check

    run(main())


def test_a_handle_that_listened_listens_no_more(authority: Authority) -> None:
    """Handles are pooled: what one request wanted is not left for the next."""

    async def main() -> None:
        async with (
            serving({"*": answer()}, tls=authority.context("127.0.0.1")) as target,
            context(ca=authority.ca_file) as ctx,
        ):
            asked = config("http", "h", 1, target=target.url(), monitor_no=NOBODY)
            assert "tls_version" in noted(await look(asked, ctx))
            (handle,) = ctx.engine._idle
            handle._session = None
            watched: MonitorConfig = replace(asked, monitor_no=7)
            assert (await look(watched, ctx)).facts is None
            assert ctx.engine._idle == [handle]
            assert handle._session is None

    run(main())


@pytest.mark.parametrize(
    ("kind", "sections"),
    [("A", (2, 0, 0)), ("AAAA", (0, 1, 0)), ("SOA", (0, 1, 0))],
)
def test_the_sections_of_an_answer_are_counted(kind: str, sections: tuple[int, int, int]) -> None:
    async def main() -> None:
        zones = {"twice.test": Zone(("192.0.2.1", "192.0.2.2"))}
        async with context(zones=zones) as ctx:
            options = DnsOptions(kind, resolver=str(ctx.resolver.own_server()))
            seen = await look(config("dns", "h", 1, target="twice.test", options=options, monitor_no=NOBODY), ctx)
        facts = dict(noted(seen))
        assert facts.pop("serial", None) == (0 if kind == "SOA" else None)
        assert tuple(facts.values()) == sections

    run(main())


def test_an_echo_says_how_many_hops_it_had_left() -> None:
    async def main() -> None:
        async with context() as ctx:
            seen = await look(config("icmp", "127.0.0.1", 1, monitor_no=NOBODY), ctx)
            plain = await look(config("icmp", "127.0.0.1", 1), ctx)
        if seen.reason is Reason.WORKER_NOT_PERMITTED:
            pytest.skip(seen.message)
        facts = noted(seen)
        assert 0 < facts["hop_limit"] <= 255  # type: ignore[operator]
        assert 0 <= facts["setup_ms"] < 1_000  # type: ignore[operator]
        assert (plain.verdict, plain.facts) == (seen.verdict, None)

    run(main())


def test_a_certificate_full_of_nonsense_is_no_fault_of_ours() -> None:
    """Without verification a server may send what our library refuses to read: it says nothing, and nothing breaks."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "twice")])
    twice = x509.Extension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, False, x509.SubjectAlternativeName([]))
    now = utc_now()
    odd = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1), [twice, twice])
    der = odd.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    for sent in ((der,), (b"garbage",), (b"",), (), (der, b"garbage")):
        facts = session_facts(TlsSession("TLSv1.3", "TLS_AES_256_GCM_SHA384", sent))
        assert facts["tls_version"] == "TLSv1.3" and "subjectalternative" not in facts
    assert "sent_expiry_s" in session_facts(TlsSession("TLSv1.3", "x", (der,)))
