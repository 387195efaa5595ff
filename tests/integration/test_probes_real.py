"""Probes against real servers: nginx, dnsmasq, aiosmtpd, websockets, PostgreSQL, Valkey."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
import redis
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
from websockets.asyncio.server import ServerConnection, serve

from common.domain.checks import Observation, Reason, Verdict
from common.domain.egress import EgressMode
from common.domain.monitors import Assertion
from common.domain.options import (
    DnsOptions,
    HttpExtras,
    HttpOptions,
    PostgresOptions,
    RedisOptions,
    SmtpOptions,
    TcpOptions,
    TlsOptions,
    WebsocketOptions,
    read_options,
)
from common.embedded import EmbeddedUrls
from tests.certificate import make_certificate
from tests.peers import bridge, connect_proxy, dnsmasq, nginx
from tests.probing import config, context, look, run
from tests.stack import wait_until
from tests.targets import answer, free_port, hang, redirect, serving

UP = (Verdict.UP, Reason.NONE, "")


def told(found: Observation) -> tuple[Verdict, Reason, str]:
    return found.verdict, found.reason, found.message


# -- nginx ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """nginx with TLS and HTTP/2 on one port, one that asks for a client's certificate, one in the clear."""
    folder = tmp_path_factory.mktemp("nginx")
    certificate, key = make_certificate(folder)
    ports = {"tls": free_port(), "mutual": free_port(), "plain": free_port(), "old": free_port()}
    tls = f"ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;"
    old = tls.replace(" TLSv1.3", "")
    body = r"""location / { return 200 '{"db": {"status": "up", "lag": 3}}'; add_header X-Mode green; }"""
    secret = f"""location /secret {{ if ($http_authorization != "Basic {base64.b64encode(b"alice:s3cret").decode()}")
                 {{ return 401 "$http_authorization"; }} return 200 "welcome"; }}"""
    servers = f"""
        server {{ listen 127.0.0.1:{ports["tls"]} ssl http2; {tls} {body} {secret} }}
        server {{ listen 127.0.0.1:{ports["old"]} ssl; {old} {body} }}
        server {{ listen 127.0.0.1:{ports["mutual"]} ssl; {tls} ssl_client_certificate {certificate};
                  ssl_verify_client on; {body} }}
        server {{ listen 127.0.0.1:{ports["plain"]}; {body} {secret} }}
    """
    with nginx(folder, servers):
        yield {"ca": certificate.read_text(), "key": key.read_text(), **ports}


def https(port: int, path: str = "/") -> str:
    return f"https://127.0.0.1:{port}{path}"


def test_nginx_over_http_2_and_1_1_with_a_private_authority(web: dict[str, Any]) -> None:
    async def main() -> None:
        async with context() as ctx:
            for version, spoken in (("auto", "2"), ("2", "2"), ("1.1", "1.1")):
                options = HttpOptions(extras=HttpExtras(ca_certificates=web["ca"], http_version=version))
                assertions = (
                    Assertion("http_version", "eq", spoken),
                    Assertion("json", "eq", "up", path="$.db.status"),
                    Assertion("json", "lt", 5, path="$.db.lag"),
                    Assertion("header", "eq", "green", "X-Mode"),
                    Assertion("cert_days", "gt", 0.5),
                    Assertion("tls_ms", "lt", 10_000),
                )
                monitor = config("http", "h", 1, target=https(web["tls"]), options=options, assertions=assertions)
                assert told(await look(monitor, ctx)) == UP
            untrusted = await look(config("http", "h", 1, target=https(web["tls"])), ctx)
            assert untrusted.reason is Reason.TLS_CERTIFICATE_UNTRUSTED

    run(main())


def test_http_2_that_is_wanted_and_not_spoken_is_down(web: dict[str, Any]) -> None:
    async def main() -> None:
        async with context() as ctx:
            options = HttpOptions(extras=HttpExtras(ca_certificates=web["ca"], http_version="2"))
            found = await look(config("http", "h", 1, target=https(web["mutual"]), options=options), ctx)
            assert found.verdict is Verdict.DOWN
            found = await look(config("http", "h", 1, target=https(web["old"]), options=options), ctx)
            assert (found.reason, "HTTP/2 is wanted" in found.message) == (Reason.PROTOCOL_ERROR, True)

    run(main())


def test_a_client_certificate_is_shown_where_it_is_asked_for(web: dict[str, Any]) -> None:
    async def main() -> None:
        async with context() as ctx:
            mine = {"ca_certificates": web["ca"], "client_certificate": web["ca"], "client_key": web["key"]}
            options = HttpOptions(extras=HttpExtras(**mine))
            assert told(await look(config("http", "h", 1, target=https(web["mutual"]), options=options), ctx)) == UP
            without = HttpOptions(extras=HttpExtras(ca_certificates=web["ca"]))
            found = await look(config("http", "h", 1, target=https(web["mutual"]), options=without), ctx)
            assert (found.verdict, found.code) == (Verdict.DOWN, 400)  # nginx says so in a page
            request = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
            spoken = TcpOptions(tls=True, send=request, expect="^HTTP/1.1 200", **mine)
            assert told(await look(config("tcp", "127.0.0.1", web["mutual"], options=spoken), ctx)) == UP

    run(main())


def test_credentials_pass_and_never_show(web: dict[str, Any]) -> None:
    async def main() -> None:
        async with context() as ctx:
            for password, verdict in (("s3cret", Verdict.UP), ("wr0ng-canary", Verdict.DOWN)):
                stored = {"username": "alice", "password": None}
                options = read_options("http", stored, {"http.password": password})
                target = f"http://127.0.0.1:{web['plain']}/secret"
                body = (Assertion("status", "in", "2xx"), Assertion("body", "eq", "welcome"))
                found = await look(config("http", "h", 1, target=target, options=options, assertions=body), ctx)
                assert found.verdict is verdict
                assert password not in repr(found)

    run(main())


def test_a_tls_monitor_knows_version_chain_and_days(web: dict[str, Any]) -> None:
    async def main() -> None:
        async with context() as ctx:
            good = (
                Assertion("cert_days", "gt", 0.5),
                Assertion("chain_days", "lt", 1.5),
                Assertion("tls_version", "in", ["TLSv1.2", "TLSv1.3"]),
            )
            options = TlsOptions(ca_certificates=web["ca"])
            assert told(await look(config("tls", "127.0.0.1", web["tls"], options=options, assertions=good), ctx)) == UP
            newest = TlsOptions(ca_certificates=web["ca"], min_version="1.3")
            assert told(await look(config("tls", "127.0.0.1", web["tls"], options=newest), ctx)) == UP
            found = await look(config("tls", "127.0.0.1", web["old"], options=newest), ctx)
            assert (found.verdict, found.reason) == (Verdict.DOWN, Reason.TLS_VERSION_WEAK)
            named = TlsOptions(ca_certificates=web["ca"], server_name="other.test")
            found = await look(config("tls", "127.0.0.1", web["tls"], options=named), ctx)
            assert found.reason is Reason.TLS_HOSTNAME_MISMATCH
            # A server that speaks in the clear.
            found = await look(config("tls", "127.0.0.1", web["plain"], options=options), ctx)
            assert found.reason in (Reason.TLS_HANDSHAKE, Reason.TLS_VERSION_WEAK)

    run(main())


# -- a proxy ----------------------------------------------------------------------------------------------------------


def through(port: int, **more: Any) -> HttpOptions:
    return HttpOptions(extras=HttpExtras(proxy=f"http://127.0.0.1:{port}", **more))


def test_a_proxy_is_a_tunnel_to_the_address_that_was_judged(web: dict[str, Any]) -> None:
    async def main() -> None:
        async with connect_proxy() as (port, asked), context() as ctx:
            for target in (f"http://web.test:{web['plain']}/", f"https://127.0.0.1:{web['tls']}/"):
                options = through(port, ca_certificates=web["ca"])
                found = await look(config("http", "h", 1, target=target, options=options), ctx)
                assert told(found) == UP
            assert asked[0].startswith(f"CONNECT 127.0.0.1:{web['plain']} ")
            assert "traceparent" not in asked[0]

    run(main())


def test_a_proxys_credentials_pass_and_its_failures_have_a_reason(web: dict[str, Any]) -> None:
    async def main() -> None:
        target = f"http://127.0.0.1:{web['plain']}/"
        async with connect_proxy(base64.b64encode(b"p:pw-canary").decode()) as (port, _), context() as ctx:
            good = through(port, proxy_username="p", proxy_password="pw-canary")
            assert told(await look(config("http", "h", 1, target=target, options=good), ctx)) == UP
            found = await look(config("http", "h", 1, target=target, options=through(port)), ctx)
            assert (found.verdict, found.reason) == (Verdict.DOWN, Reason.PROXY_FAILED)
            assert "407" in found.message
            gone = f"http://127.0.0.1:{free_port()}/"
            found = await look(config("http", "h", 1, target=gone, options=good), ctx)
            assert (found.reason, "502" in found.message) == (Reason.PROXY_FAILED, True)
            nobody = free_port()
            found = await look(config("http", "h", 1, target=target, options=through(nobody)), ctx)
            assert found.reason is Reason.CONNECT_REFUSED
            assert found.message == f"the proxy: connection refused by 127.0.0.1:{nobody}"

    run(main())


def test_neither_a_proxy_nor_what_lies_behind_it_escapes_the_policy() -> None:
    async def main() -> None:
        async with connect_proxy() as (port, asked), context() as ctx:
            found = await look(config("http", "h", 1, target="http://metadata.test/", options=through(port)), ctx)
            assert found.reason is Reason.EGRESS_DENIED
            denied = HttpOptions(extras=HttpExtras(proxy="http://metadata.test:3128"))
            found = await look(config("http", "h", 1, target="http://127.0.0.1:1/", options=denied), ctx)
            assert found.reason is Reason.EGRESS_DENIED
            async with serving({"*": redirect(302, "http://169.254.169.254/")}) as target:
                found = await look(config("http", "h", 1, target=target.url(), options=through(port)), ctx)
                assert found.reason is Reason.EGRESS_DENIED
            assert len(asked) == 1
        async with connect_proxy() as (port, asked), context(EgressMode.PUBLIC) as ctx:
            found = await look(config("http", "h", 1, target="http://192.0.2.1/", options=through(port)), ctx)
            assert (found.reason, asked) == (Reason.EGRESS_DENIED, [])

    run(main())


def test_redirects_are_bounded_as_the_monitor_says() -> None:
    async def main() -> None:
        paths = {"/0": redirect(302, "/1"), "/1": redirect(302, "/2"), "/2": answer()}
        async with serving(paths) as target, context() as ctx:
            for most, reason in ((2, Reason.NONE), (1, Reason.TOO_MANY_REDIRECTS), (0, Reason.TOO_MANY_REDIRECTS)):
                monitor = config("http", "h", 1, target=target.url("/0"), options=HttpOptions(max_redirects=most))
                assert (await look(monitor, ctx)).reason is reason

    run(main())


# -- dnsmasq ----------------------------------------------------------------------------------------------------------

RECORDS = (
    "host-record=shop.test,192.0.2.1,2001:db8::1", "address=/shop2.test/192.0.2.2", "cname=www.test,shop.test",
    "mx-host=test,mail.test,10", "txt-record=test,v=spf1 -all", "srv-host=_sip._tcp.test,sip.test,5060,1,2",
    "dns-rr=test,257,000569737375656c657473656e63727970742e6f7267", "ptr-record=1.2.0.192.in-addr.arpa,shop.test",
    "txt-record=long.test," + ",".join("x" * 250 for _ in range(12)),
)  # fmt: skip
#: record type, name, all that the answer holds
ANSWERS = [
    ("A", "shop.test", "192.0.2.1"),
    ("AAAA", "shop.test", "2001:db8::1"),
    ("A", "www.test", "192.0.2.1"),  # through an alias
    ("CNAME", "www.test", "shop.test"),
    ("MX", "test", "10 mail.test"),
    ("TXT", "test", "v=spf1 -all"),
    ("SRV", "_sip._tcp.test", "1 2 5060 sip.test"),
    ("CAA", "test", '0 issue "letsencrypt.org"'),
    ("PTR", "192.0.2.1", "shop.test"),
    ("PTR", "1.2.0.192.in-addr.arpa", "shop.test"),
    ("TXT", "long.test", "x" * 3_000),  # does not fit into a datagram: asked again over TCP
]


def test_dnsmasq_answers_every_type_over_udp_and_tcp(tmp_path: Path) -> None:
    async def main(port: int) -> None:
        async with context() as ctx:
            for transport in ("udp", "tcp"):
                for kind, name, wanted in ANSWERS:
                    options = DnsOptions(kind, f"127.0.0.1:{port}", transport)
                    op, value = ("matches", "^x{1000}") if len(wanted) > 1_000 else ("eq", wanted)
                    monitor = config(
                        "dns", "h", 1, target=name, options=options, assertions=(Assertion("answer", op, value),),
                    )  # fmt: skip
                    assert told(await look(monitor, ctx)) == UP, (kind, name)

    with dnsmasq(tmp_path, *RECORDS) as port:
        run(main(port))


def test_what_dnsmasq_does_not_know_has_a_reason_of_its_own(tmp_path: Path) -> None:
    async def main(port: int) -> None:
        def monitor(name: str, kind: str, *assertions: Assertion) -> Any:
            options = DnsOptions(kind, f"127.0.0.1:{port}")
            return config("dns", "h", 1, target=name, options=options, assertions=assertions)

        async with context() as ctx:
            found = await look(monitor("gone.test", "A"), ctx)
            assert (found.reason, found.code) == (Reason.DNS_NOT_FOUND, 3)
            found = await look(monitor("shop.test", "MX"), ctx)
            assert (found.reason, found.code) == (Reason.DNS_NO_ANSWER, 0)
            found = await look(monitor("elsewhere.example", "A"), ctx)
            assert (found.reason, "REFUSED" in found.message) == (Reason.DNS_FAILED, True)
            wanted = Assertion("rcode", "eq", "NXDOMAIN")
            assert told(await look(monitor("gone.test", "A", wanted), ctx)) == UP
            wrong = Assertion("answer", "eq", "192.0.2.9")
            found = await look(monitor("shop.test", "A", wrong), ctx)
            assert (found.verdict, found.reason) == (Verdict.DOWN, Reason.ANSWER_MISMATCH)
            assert found.message == "expected answer '192.0.2.9', got '192.0.2.1'"

    with dnsmasq(tmp_path, *RECORDS) as port:
        run(main(port))


# -- mail, websocket --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def mail_server(folder: Path, *, tls: bool) -> Iterator[tuple[int, str]]:
    certificate, key = make_certificate(folder)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    port = free_port()
    controller = Controller(
        Sink(), hostname="127.0.0.1", port=port, ready_timeout=10, tls_context=server if tls else None
    )
    controller.start()
    yield port, certificate.read_text()
    controller.stop()


def test_a_mail_server_is_greeted_secured_and_left(tmp_path: Path) -> None:
    async def main(port: int, ca: str) -> None:
        async with context() as ctx:
            good = (
                Assertion("banner", "contains", "SMTP"),
                Assertion("extension", "contains", "8BITMIME"),
                Assertion("cert_days", "gt", 0.5),
                Assertion("tls_version", "matches", r"^TLSv1\.[23]$"),
            )
            options = SmtpOptions(security="starttls", ca_certificates=ca)
            found = await look(config("smtp", "127.0.0.1", port, options=options, assertions=good), ctx)
            assert told(found) == UP
            assert found.code == 250
            strict = SmtpOptions(security="starttls")
            found = await look(config("smtp", "127.0.0.1", port, options=strict), ctx)
            assert found.reason is Reason.TLS_CERTIFICATE_UNTRUSTED
            for type_, agreed in (
                ("tcp", TcpOptions(starttls="smtp", ca_certificates=ca)),
                ("tls", TlsOptions(starttls="smtp", ca_certificates=ca)),
            ):
                assert told(await look(config(type_, "127.0.0.1", port, options=agreed), ctx)) == UP

    with mail_server(tmp_path, tls=True) as (port, ca):
        run(main(port, ca))


def test_a_mail_server_without_tls_does_not_pass_for_one_with(tmp_path: Path) -> None:
    async def main(port: int) -> None:
        async with context() as ctx:
            assert told(await look(config("smtp", "127.0.0.1", port), ctx)) == UP
            found = await look(config("smtp", "127.0.0.1", port, options=SmtpOptions(security="starttls")), ctx)
            assert (found.verdict, found.reason) == (Verdict.DOWN, Reason.TLS_NOT_OFFERED)

    with mail_server(tmp_path, tls=False) as (port, _):
        run(main(port))


@contextlib.asynccontextmanager
async def echoing(tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[Any]]]:
    seen: list[Any] = []

    async def handle(connection: ServerConnection) -> None:
        seen.append(connection.request)
        with contextlib.suppress(Exception):
            async for message in connection:
                await connection.send(f"you said {message}")

    async with serve(handle, "127.0.0.1", 0, ssl=tls, subprotocols=["chat"]) as server:
        yield server.sockets[0].getsockname()[1], seen


def test_a_websocket_is_shaken_hands_with_sent_to_and_listened_to(tmp_path: Path) -> None:
    async def main() -> None:
        certificate, key = make_certificate(tmp_path)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        async with echoing(tls) as (port, seen), context() as ctx:
            options = WebsocketOptions(
                ca_certificates=certificate.read_text(), headers=(("X-Token", "t"), ("User-Agent", "me")),
                subprotocol="chat", send="ping", expect="^you said ping$",
            )  # fmt: skip
            said = (Assertion("message", "eq", "you said ping"), Assertion("cert_days", "gt", 0))
            monitor = config(
                "websocket", "h", 1, target=f"wss://127.0.0.1:{port}/live?x=1", options=options, assertions=said
            )
            found = await look(monitor, ctx)
            assert (told(found), found.code) == (UP, 101)
            (request,) = seen
            assert request.path == "/live?x=1"
            assert (request.headers["X-Token"], request.headers["User-Agent"]) == ("t", "me")
            assert "traceparent" in request.headers
            other = WebsocketOptions(verify_tls=False, subprotocol="chat", send="ping", expect="pong")
            found = await look(
                config("websocket", "h", 1, target=f"wss://127.0.0.1:{port}/", options=other, timeout_s=0.5), ctx
            )
            assert (found.verdict, found.reason) == (Verdict.DOWN, Reason.TIMEOUT)
            assert "no message matching 'pong'" in found.message

    run(main())


def test_a_web_server_that_speaks_no_websocket_is_down_with_its_status() -> None:
    async def main() -> None:
        async with serving({"*": answer(404)}) as target, context() as ctx:
            found = await look(config("websocket", "127.0.0.1", target.port), ctx)
            assert (found.verdict, found.reason, found.code) == (Verdict.DOWN, Reason.STATUS_MISMATCH, 404)
        async with serving({"*": hang}) as target, context() as ctx:
            found = await look(config("websocket", "127.0.0.1", target.port, timeout_s=0.3), ctx)
            assert found.reason is Reason.TIMEOUT

    run(main())


# -- PostgreSQL, Valkey ------------------------------------------------------------------------------------------------


def _sockets(servers: EmbeddedUrls) -> tuple[str, str]:
    folder = parse_qs(urlsplit(servers.database_url).query)["host"][0]
    return f"{folder}/.s.PGSQL.5432", urlsplit(servers.redis_url).path


def _loaded_at(database_url: str) -> datetime:
    """When the server read its configuration, as a new connection finds it."""
    with psycopg.connect(database_url) as connection:
        loaded_at: datetime = connection.execute("SELECT pg_conf_load_time()").fetchone()[0]  # type: ignore[index]
    return loaded_at


@pytest.fixture
def logins(servers: EmbeddedUrls) -> Iterator[str]:
    """Three logins on the embedded PostgreSQL, by SCRAM, MD5 and password in the clear; the socket's path."""
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        hba = Path(str(connection.execute("SHOW hba_file").fetchone()[0]))  # type: ignore[index]
        before = hba.read_text()
        hba.write_text("local all scram scram-sha-256\nlocal all md5 md5\nlocal all clear password\n" + before)
        connection.execute("SET password_encryption = 'md5'")
        connection.execute("CREATE ROLE md5 LOGIN PASSWORD 's3cret-canary'")
        connection.execute("SET password_encryption = 'scram-sha-256'")
        connection.execute("CREATE ROLE scram LOGIN PASSWORD 's3cret-canary'")
        connection.execute("CREATE ROLE clear LOGIN PASSWORD 's3cret-canary'")
        (since,) = connection.execute("SELECT clock_timestamp()").fetchone()  # type: ignore[misc]
        connection.execute("SELECT pg_reload_conf()")
        # The server reads it when it comes to it.
        wait_until(lambda: _loaded_at(servers.database_url) >= since, 60, "the new rules being read")
        try:
            yield _sockets(servers)[0]
        finally:
            hba.write_text(before)
            for role in ("scram", "md5", "clear"):
                connection.execute(f"DROP ROLE {role}")  # type: ignore[call-overload]
            connection.execute("SELECT pg_reload_conf()")


def test_postgresql_is_logged_into_and_asked(logins: str) -> None:
    async def main() -> None:
        async with bridge(logins) as port, context() as ctx:

            def monitor(user: str, password: str | None = "s3cret-canary", **more: Any) -> Any:
                assertions = more.pop("assertions", ())
                options = PostgresOptions(
                    **({"username": user, "password": password, "query": "SELECT 41 + 1, 'x'"} | more)
                )
                return config(
                    "postgres",
                    "127.0.0.1",
                    port,
                    options=options,
                    assertions=assertions,
                )

            good = (
                Assertion("value", "eq", 42), Assertion("rows", "eq", 1), Assertion("ttfb_ms", "lt", 10_000),
                Assertion("value", "lt", 43),
            )  # fmt: skip
            for user in ("scram", "md5"):
                assert told(await look(monitor(user, assertions=good), ctx)) == UP
            for user in ("scram", "md5"):
                found = await look(monitor(user, "wr0ng"), ctx)
                assert (found.verdict, found.reason) == (Verdict.DOWN, Reason.AUTH_FAILED)
                found = await look(monitor(user, None), ctx)
                assert (found.reason, "has none" in found.message) == (Reason.AUTH_FAILED, True)
            found = await look(monitor("clear"), ctx)
            assert (found.reason, "clear text" in found.message) == (Reason.AUTH_FAILED, True)
            found = await look(monitor("scram", tls="require"), ctx)
            assert found.reason is Reason.TLS_NOT_OFFERED
            found = await look(monitor("scram", database="gone"), ctx)
            assert (found.reason, "gone" in found.message) == (Reason.QUERY_FAILED, True)
            found = await look(monitor("scram", query="SELECT 1/0"), ctx)
            assert (found.reason, "division by zero" in found.message) == (Reason.QUERY_FAILED, True)
            found = await look(monitor("scram", query="SELECT 1 WHERE false", assertions=good[:1]), ctx)
            assert found.message == "expected value '42', got none"
            huge = await look(monitor("scram", query="SELECT repeat('x', 1000) FROM generate_series(1, 100000)"), ctx)
            assert huge.reason is Reason.BODY_TOO_LARGE
            slow = await look(monitor("scram", query="SELECT pg_sleep(10)"), ctx, 0.5)
            assert slow.reason is Reason.TIMEOUT
            assert "s3cret-canary" not in repr([found, huge, slow])

    run(main())


def test_valkey_is_logged_into_and_asked(redis_url: str, servers: EmbeddedUrls) -> None:
    async def main() -> None:
        async with bridge(_sockets(servers)[1]) as port, context() as ctx:

            def monitor(*assertions: Assertion, **options: Any) -> Any:
                return config(
                    "redis", "127.0.0.1", port, options=RedisOptions(**options), assertions=assertions,
                )  # fmt: skip

            assert told(await look(monitor(Assertion("value", "eq", "PONG")), ctx)) == UP
            known = {"username": "alice", "password": "s3cret-canary"}
            depth = (Assertion("value", "lt", 3),)
            assert told(await look(monitor(*depth, command=("LLEN", "queue"), **known), ctx)) == UP
            first = (Assertion("value", "eq", "a"),)
            assert told(await look(monitor(*first, command=("LRANGE", "queue", "0", "-1")), ctx)) == UP
            found = await look(monitor(Assertion("value", "exists", True), command=("GET", "gone"), database=1), ctx)
            assert told(found) == UP  # null is an answer
            found = await look(monitor(command=("PING",), username="alice", password="wr0ng"), ctx)
            assert (found.verdict, found.reason) == (Verdict.DOWN, Reason.AUTH_FAILED)
            assert "wr0ng" not in found.message
            found = await look(monitor(command=("LLEN", "text")), ctx)
            assert (found.reason, "WRONGTYPE" in found.message) == (Reason.QUERY_FAILED, True)
            found = await look(monitor(command=("FLUSHALL",), **known), ctx)
            assert found.reason is Reason.AUTH_FAILED  # alice may not
            found = await look(monitor(command=("GET", "big")), ctx)
            assert found.reason is Reason.BODY_TOO_LARGE

    client = redis.Redis.from_url(redis_url)
    client.rpush("queue", "a", "b")
    client.set("text", "x")
    client.set("big", "x" * 1_000_000)
    client.execute_command("ACL", "SETUSER", "alice", "on", ">s3cret-canary", "~*", "+llen", "+ping", "+select")
    try:
        run(main())
    finally:
        client.execute_command("ACL", "DELUSER", "alice")
        client.close()


def test_probes_run_side_by_side_on_one_loop(redis_url: str, servers: EmbeddedUrls) -> None:
    async def main() -> None:
        async with bridge(_sockets(servers)[1]) as port, context() as ctx:
            monitors = [config("redis", "127.0.0.1", port, timeout_s=30.0) for _ in range(100)]
            found = await asyncio.gather(*(look(monitor, ctx, 30.0) for monitor in monitors))
            assert {told(each) for each in found} == {UP}

    run(main())
