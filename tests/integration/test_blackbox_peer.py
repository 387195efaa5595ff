"""A real blackbox_exporter looks at the same targets: every series that it has, /probe has, and says the same.

Debian's package `prometheus-blackbox-exporter` is needed; as root it is installed, otherwise these are skipped.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families as parse_text

from api import probe_series
from bench.packages import find
from common.domain.checks import Reason
from common.domain.options import DnsOptions, HttpOptions, Options, TcpOptions
from tests.dns_server import Zone
from tests.integration.test_alertmanager_peer import free_ports, program
from tests.probing import STREAMS, config, context, look, peer, run
from tests.targets import Act, Authority, answer, free_port, make_authority, raw, redirect, serving
from worker.probes.base import NOBODY

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
CLOSED = b"HTTP/1.0 200 OK\r\n\r\nhello until the end"
PAGES: dict[str, Act] = {
    "/well": answer(200, b"hello", "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n"),
    "/missing": answer(404),
    "/chunked": raw(CHUNKED),
    "/closed": raw(CLOSED),
    "/here": redirect(302, "/there"),
    "/there": redirect(301, "/well"),
}
#: How long something took is another time each time.
TIMES = ("_duration_seconds", "_lookup_time_seconds")
#: What we do not know, or say in words of our own: docs/metrics.md.
OURS = {"tocsin_probe_failure_info"}
#: What Debian's version is too old for.
NEWER = {"probe_tls_cipher_info"}
NOT_KNOWN_OF_HTTP = {"probe_ssl_last_chain_expiry_timestamp_seconds"}


@dataclass(frozen=True)
class Asked:
    """One target, and how each of the two is told what to do with it."""

    type: str
    options: Options
    module: dict[str, Any] = field(default_factory=dict)


HTTP = Asked("http", HttpOptions())
TCP = Asked("tcp", TcpOptions())
BANNER = Asked("tcp", TcpOptions(expect="^SSH-2.0-"), {"query_response": [{"expect": "^SSH-2.0-"}]})
SECURE = Asked("tcp", TcpOptions(tls=True), {"tls": True})


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("ca"))


class Blackbox:
    """The exporter, with the modules of a file that it reads again when it is told to."""

    def __init__(self, port: int, file: Path, ca_file: str) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._file = file
        self._ca_file = ca_file

    def look(self, asked: Asked, target: str) -> Series:
        about = {"preferred_ip_protocol": "ip4", **asked.module}
        if asked.type == "http" or asked.module.get("tls"):
            about["tls_config"] = {"ca_file": self._ca_file}
        module = {"prober": asked.type, "timeout": "30s", asked.type: about}
        self._file.write_text(yaml.safe_dump({"modules": {"asked": module}}))
        assert requests.post(f"{self._url}/-/reload", timeout=60).status_code == 200
        found = requests.get(f"{self._url}/probe", params={"module": "asked", "target": target}, timeout=60)
        assert found.status_code == 200, found.text
        return series(found.text)


@pytest.fixture(scope="module")
def blackbox(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Blackbox]:
    exporter = find("prometheus-blackbox-exporter", "prometheus-blackbox-exporter", print)
    if exporter is None:
        pytest.skip("Debian's package prometheus-blackbox-exporter is not installed")
    folder = tmp_path_factory.mktemp("blackbox")
    (port,) = free_ports(1)
    (folder / "blackbox.yml").write_text("modules: {icmp: {prober: icmp}}")
    line = [exporter, "--config.file=blackbox.yml", f"--web.listen-address=127.0.0.1:{port}"]
    with program(line, port, folder, ready="/-/healthy"):
        yield Blackbox(port, folder / "blackbox.yml", authority.ca_file)


def series(text: str) -> Series:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse_text(text)
        for sample in family.samples
    }


async def compare(asked: Asked, target: str, blackbox: Blackbox, ca_file: str, theirs_at: str = "") -> Series:
    """Both look; ours, once it is found to be the same."""
    theirs = await asyncio.to_thread(blackbox.look, asked, theirs_at or target)
    async with context(ca=ca_file) as ctx:
        monitor = config(asked.type, "h", 1, target=target, options=asked.options, monitor_no=NOBODY)
        seen = await look(monitor, ctx)
    ours = series("".join(probe_series.told(asked.type, seen)))
    unknown = NOT_KNOWN_OF_HTTP if asked.type == "http" else set()
    wanted = {key: value for key, value in theirs.items() if key[0] not in unknown}
    mine = {key: value for key, value in ours.items() if key[0] not in OURS and (key[0] not in NEWER or key in theirs)}
    assert mine.keys() == wanted.keys(), mine.keys() ^ wanted.keys()
    differing = {
        key: (mine[key], value) for key, value in wanted.items() if not key[0].endswith(TIMES) and mine[key] != value
    }
    assert differing == {}
    return ours


@pytest.mark.parametrize("path", sorted(PAGES))
def test_an_answer_is_told_alike(path: str, blackbox: Blackbox, authority: Authority) -> None:
    async def main() -> None:
        async with serving(PAGES) as target:
            ours = await compare(HTTP, target.url(path), blackbox, authority.ca_file)
        alone = frozenset[tuple[str, str]]()
        assert ours["probe_http_redirects", alone] == {"/here": 2, "/there": 1}.get(path, 0)
        assert ours["probe_http_version", alone] == (1.0 if path == "/closed" else 1.1)

    run(main())


@pytest.mark.parametrize("flaws", [{}, {"expired": True}, {"self_signed": True}])
@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_tls_session_is_told_alike(
    flaws: dict[str, Any], newest: ssl.TLSVersion, blackbox: Blackbox, authority: Authority
) -> None:
    async def main() -> None:
        secure = authority.context("127.0.0.1", "shop.example", **flaws)
        secure.maximum_version = newest
        async with serving(PAGES, tls=secure) as target:
            ours = await compare(HTTP, target.url("/well"), blackbox, authority.ca_file)
        assert bool(ours["probe_success", frozenset()]) is not bool(flaws)
        async with peer(STREAMS["tcp"].well, secure) as server:
            await compare(SECURE, f"127.0.0.1:{server.port}", blackbox, authority.ca_file)

    run(main())


def test_a_redirect_to_tls_is_told_alike(blackbox: Blackbox, authority: Authority) -> None:
    async def main() -> None:
        async with (
            serving(PAGES, tls=authority.context("127.0.0.1")) as secure,
            serving({"/": redirect(302, secure.url("/well"))}) as plain,
        ):
            ours = await compare(HTTP, plain.url("/"), blackbox, authority.ca_file)
        assert ours["probe_http_ssl", frozenset()] == 1

    run(main())


def test_nobody_there_is_told_alike(blackbox: Blackbox, authority: Authority) -> None:
    async def main() -> None:
        nowhere = free_port()
        await compare(HTTP, f"http://127.0.0.1:{nowhere}/", blackbox, authority.ca_file)
        await compare(TCP, f"127.0.0.1:{nowhere}", blackbox, authority.ca_file)

    run(main())


@pytest.mark.parametrize("asked", [TCP, BANNER])
@pytest.mark.parametrize("says", [b"SSH-2.0-OpenSSH_9.6\r\n", b"220 mail.test ESMTP\r\n"])
def test_what_a_server_says_first_is_told_alike(
    asked: Asked, says: bytes, blackbox: Blackbox, authority: Authority
) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(says)

    async def main() -> None:
        async with peer(greet) as server:
            ours = await compare(asked, f"127.0.0.1:{server.port}", blackbox, authority.ca_file)
        expected = asked is TCP or says.startswith(b"SSH")
        assert (ours["probe_success", frozenset()], ours["probe_failed_due_to_regex", frozenset()]) == (
            int(expected),
            int(not expected),
        )

    run(main())


@pytest.mark.parametrize(("name", "kind"), [("web.test", "A"), ("twice.test", "A"), ("web.test", "SOA")])
def test_an_answer_of_a_name_server_is_told_alike(
    name: str, kind: str, blackbox: Blackbox, authority: Authority
) -> None:
    async def main() -> None:
        zones = {"web.test": Zone(("127.0.0.1",)), "twice.test": Zone(("192.0.2.1", "192.0.2.2"))}
        async with context(zones=zones) as ctx:
            server = str(ctx.resolver.own_server())
            asked = Asked("dns", DnsOptions(kind, resolver=server), {"query_name": name, "query_type": kind})
            theirs = await asyncio.to_thread(blackbox.look, asked, server)
            monitor = config("dns", "h", 1, target=name, options=asked.options, monitor_no=NOBODY)
            ours = series("".join(probe_series.told("dns", await look(monitor, ctx))))
        # Without such a record it is a failure to us; that it was answered, and how, is told alike.
        judged = {"probe_success", *OURS}
        assert {key for key in ours if key[0] not in judged} == {key for key in theirs if key[0] not in judged}
        assert {key: value for key, value in ours.items() if key[0] not in judged and not key[0].endswith(TIMES)} == {
            key: value for key, value in theirs.items() if key[0] not in judged and not key[0].endswith(TIMES)
        }

    run(main())


def test_an_echo_is_told_alike(blackbox: Blackbox, authority: Authority) -> None:
    async def main() -> None:
        async with context() as ctx:
            seen = await look(config("icmp", "127.0.0.1", 1), ctx)
        if seen.reason is Reason.WORKER_NOT_PERMITTED:
            pytest.skip(seen.message)
        asked = Asked("icmp", config("icmp", "127.0.0.1", 1).options or HTTP.options)
        ours = await compare(asked, "127.0.0.1", blackbox, authority.ca_file)
        assert ours["probe_icmp_reply_hop_limit", frozenset()] > 0

    run(main())
