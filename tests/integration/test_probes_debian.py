"""Probes against servers as Debian packages them, each with its TLS: Exim, Dovecot, vsftpd, Redis, PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from common.domain.checks import Observation, Reason, Verdict
from common.domain.monitors import Assertion
from common.domain.options import PostgresOptions, RedisOptions, SmtpOptions, TcpOptions, TlsOptions
from tests.certificate import make_certificate
from tests.peers import await_port, program, running
from tests.probing import config, context, look, run
from tests.stack import wait_until
from tests.targets import free_port

UP = (Verdict.UP, Reason.NONE, "")
FRESH = (Assertion("cert_days", "gt", 0.5), Assertion("tls_version", "matches", r"^TLSv1\.[23]$"))


def told(found: Observation) -> tuple[Verdict, Reason, str]:
    return found.verdict, found.reason, found.message


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that servers may read once they are no longer root."""
    path = Path(tempfile.mkdtemp(prefix="tocsin-debian-"))
    path.chmod(0o755)
    make_certificate(path)
    (path / "key.pem").chmod(0o644)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("this server gives root's rights up, so it must have them")


@contextlib.contextmanager
def server(command: list[str], port: int, folder: Path) -> Iterator[int]:
    log = folder / "server.log"
    with running(command, log) as process:
        await_port(port, process, log)
        yield port
        children = psutil.Process(process.pid).children(recursive=True)
    # Who still serves a connection would write a line into a folder that is gone.
    for child in psutil.wait_procs(children, timeout=5)[1]:
        child.kill()


def looked(type_: str, port: int, options: Any, *assertions: Assertion) -> Observation:
    async def main() -> Observation:
        async with context() as ctx:
            return await look(config(type_, "127.0.0.1", port, options=options, assertions=assertions), ctx)

    found: list[Observation] = []

    async def keep() -> None:
        found.append(await main())

    run(keep())
    return found[0]


# -- mail and files ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def exim(folder: Path) -> Iterator[int]:
    binary, port = program("exim4"), free_port()
    as_root()
    (folder / "spool").mkdir(mode=0o777)
    (folder / "spool").chmod(0o777)
    settings = folder / "exim.conf"
    settings.write_text(
        f"spool_directory = {folder}/spool\nlog_file_path = {folder}/spool/%slog\npid_file_path = {folder}/spool/pid\n"
        f"primary_hostname = mail.test\nlocal_interfaces = 127.0.0.1\ndaemon_smtp_ports = {port}\n"
        f"tls_advertise_hosts = *\ntls_certificate = {folder}/certificate.pem\ntls_privatekey = {folder}/key.pem\n"
        "host_lookup =\nrfc1413_hosts =\nacl_smtp_mail = deny\nbegin acl\ndeny:\n  deny\n"
    )
    with server([binary, "-bdf", "-C", str(settings)], port, folder):
        yield port


def test_exim_is_greeted_secured_and_left(folder: Path) -> None:
    ca = (folder / "certificate.pem").read_text()
    with exim(folder) as port:
        good = (Assertion("banner", "contains", "ESMTP Exim"), Assertion("extension", "contains", "PIPELINING"), *FRESH)
        found = looked("smtp", port, SmtpOptions(security="starttls", ca_certificates=ca), *good)
        assert (told(found), found.code) == (UP, 250)
        assert looked("smtp", port, SmtpOptions(security="starttls")).reason is Reason.TLS_CERTIFICATE_UNTRUSTED
        assert told(looked("smtp", port, SmtpOptions())) == UP
        plain = looked("smtp", port, SmtpOptions(security="tls", ca_certificates=ca))
        assert (plain.verdict, plain.reason) == (Verdict.DOWN, Reason.TLS_HANDSHAKE)
        assert told(looked("tls", port, TlsOptions(starttls="smtp", ca_certificates=ca), *FRESH)) == UP


@contextlib.contextmanager
def dovecot(folder: Path) -> Iterator[dict[str, int]]:
    binary = program("dovecot")
    as_root()
    ports = {"imap": free_port(), "pop3": free_port()}
    services = "".join(
        f"service {name}-login {{\n inet_listener {name} {{\n address = 127.0.0.1\n port = {port}\n }}\n"
        f" inet_listener {name}s {{\n port = 0\n }}\n}}\n"
        for name, port in ports.items()
    )
    settings = folder / "dovecot.conf"
    settings.write_text(
        f"base_dir = {folder}/run\nstate_dir = {folder}/state\nlog_path = /dev/stderr\nprotocols = imap pop3\n"
        f"ssl = yes\nssl_cert = <{folder}/certificate.pem\nssl_key = <{folder}/key.pem\n"
        f"passdb {{\n driver = static\n args = password=none\n}}\n{services}"
    )
    with server([binary, "-F", "-c", str(settings)], ports["pop3"], folder):
        yield ports


def test_dovecot_agrees_on_tls_over_imap_and_pop3(folder: Path) -> None:
    ca = (folder / "certificate.pem").read_text()
    with dovecot(folder) as ports:
        for protocol, port in ports.items():
            agreed = TlsOptions(starttls=protocol, ca_certificates=ca)
            assert told(looked("tls", port, agreed, *FRESH)) == UP, protocol
            untrusted = looked("tls", port, TlsOptions(starttls=protocol))
            assert untrusted.reason is Reason.TLS_CERTIFICATE_UNTRUSTED
        spoken = TcpOptions(starttls="imap", ca_certificates=ca, send="a2 CAPABILITY\r\n", expect="(?m)^a2 OK")
        assert told(looked("tcp", ports["imap"], spoken)) == UP
        wrong = TcpOptions(starttls="pop3", ca_certificates=ca)
        assert looked("tcp", ports["imap"], wrong).reason is Reason.TLS_NOT_OFFERED


def test_vsftpd_agrees_on_tls_and_says_who_it_is(folder: Path) -> None:
    binary, port = program("vsftpd"), free_port()
    as_root()
    (folder / "empty").mkdir(mode=0o555)
    settings = folder / "vsftpd.conf"
    settings.write_text(
        f"listen=YES\nlisten_ipv6=NO\nlisten_address=127.0.0.1\nlisten_port={port}\nbackground=NO\nanonymous_enable=YES\n"
        f"secure_chroot_dir={folder}/empty\nseccomp_sandbox=NO\nssl_enable=YES\nallow_anon_ssl=YES\n"
        f"rsa_cert_file={folder}/certificate.pem\nrsa_private_key_file={folder}/key.pem\n"
    )
    ca = (folder / "certificate.pem").read_text()
    with server([binary, str(settings)], port, folder):
        assert told(looked("tls", port, TlsOptions(starttls="ftp", ca_certificates=ca), *FRESH)) == UP
        assert told(looked("tcp", port, TcpOptions(expect=r"^220 \(vsFTPd"))) == UP


# -- databases ---------------------------------------------------------------------------------------------------------


def test_redis_is_logged_into_over_tls(folder: Path) -> None:
    binary, port = program("redis-server"), free_port()
    ca = (folder / "certificate.pem").read_text()
    command = [
        binary,
        "--port",
        "0",
        "--tls-port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(folder),
    ]
    command += ["--tls-cert-file", f"{folder}/certificate.pem", "--tls-key-file", f"{folder}/key.pem"]
    command += ["--tls-auth-clients", "no", "--requirepass", "s3cret-canary"]
    with server(command, port, folder):
        known = RedisOptions(tls=True, ca_certificates=ca, password="s3cret-canary")
        assert told(looked("redis", port, known, Assertion("value", "eq", "PONG"), *FRESH)) == UP
        version = RedisOptions(tls=True, ca_certificates=ca, password="s3cret-canary", command=("INFO", "server"))
        assert told(looked("redis", port, version, Assertion("value", "contains", "redis_version:"))) == UP
        wrong = looked("redis", port, RedisOptions(tls=True, ca_certificates=ca, password="wr0ng-canary"))
        assert (wrong.verdict, wrong.reason, "canary" in repr(wrong)) == (Verdict.DOWN, Reason.AUTH_FAILED, False)
        nobody = looked("redis", port, RedisOptions(tls=True, ca_certificates=ca))
        assert nobody.reason is Reason.AUTH_FAILED
        assert looked("redis", port, RedisOptions(tls=True)).reason is Reason.TLS_CERTIFICATE_UNTRUSTED
        assert looked("redis", port, RedisOptions()).verdict is Verdict.DOWN


def newest_postgresql() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.skip("Debian's package postgresql is not installed")
    return found[-1].parent


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[int]:
    programs, port, data = newest_postgresql(), free_port(), folder / "data"
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    data.mkdir()
    if user:
        for path in (data, folder / "certificate.pem", folder / "key.pem"):
            shutil.chown(path, "postgres", "postgres")
    (folder / "key.pem").chmod(0o600)
    (folder / "password").write_text("s3cret-canary")
    made = [*user, str(programs / "initdb"), "-D", str(data), "-U", "postgres", "--pwfile", f"{folder}/password"]
    subprocess.run([*made, "--auth", "scram-sha-256", "--no-sync"], check=True, capture_output=True)
    hba = "hostssl all clear 127.0.0.1/32 password\nhost all postgres 127.0.0.1/32 scram-sha-256\n"
    (data / "pg_hba.conf").write_text(hba)
    options = {
        "port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "ssl": "on", "fsync": "off",
        "ssl_cert_file": folder / "certificate.pem", "ssl_key_file": folder / "key.pem",
    }  # fmt: skip
    command = [*user, str(programs / "postgres"), "-D", str(data)]
    known = PostgresOptions(password="s3cret-canary")
    with server([*command, *(f"--{name}={value}" for name, value in options.items())], port, folder):
        # It listens before it is ready: "the database system is starting up".
        wait_until(lambda: told(looked("postgres", port, known)) == UP, 60)
        yield port


def test_postgresql_is_logged_into_over_tls(folder: Path) -> None:
    ca = (folder / "certificate.pem").read_text()
    with postgresql(folder) as port:
        trust: dict[str, Any] = {"tls": "require", "ca_certificates": ca}

        def login(user: str = "postgres", password: str = "s3cret-canary", **more: Any) -> PostgresOptions:
            return PostgresOptions(username=user, password=password, **{**trust, **more})

        is_tls = "SELECT ssl::int FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        one, none = Assertion("value", "eq", 1), Assertion("value", "eq", 0)
        assert told(looked("postgres", port, login(query=is_tls), one, *FRESH)) == UP
        assert told(looked("postgres", port, login(query=is_tls, tls="prefer", ca_certificates=None), one)) == UP
        assert told(looked("postgres", port, login(query=is_tls, tls="disable"), none)) == UP
        untrusted = looked("postgres", port, login(ca_certificates=None))
        assert untrusted.reason is Reason.TLS_CERTIFICATE_UNTRUSTED
        made = "CREATE ROLE clear LOGIN PASSWORD 's3cret-canary'"
        assert told(looked("postgres", port, login(query=made))) == UP
        # In the clear, inside of TLS that was verified.
        assert told(looked("postgres", port, login("clear", database="postgres", query="SELECT 1"), one)) == UP
        wrong = looked("postgres", port, login(password="wr0ng-canary"))
        assert (wrong.reason, "canary" in repr(wrong)) == (Reason.AUTH_FAILED, False)
        refused = looked("postgres", port, login("clear", tls="disable"))
        assert (refused.verdict, refused.reason) == (Verdict.DOWN, Reason.AUTH_FAILED)
