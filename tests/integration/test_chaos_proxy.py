"""The proxy of the chaos runs, before a real echo server, Valkey and PostgreSQL."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
import redis
from sqlalchemy.engine import make_url

from common.embedded import EmbeddedUrls
from tests.chaos.proxy import BLACKHOLE, LATENCY, LOSE_REPLIES, PASS, REFUSE, RESET_AFTER, SLICE, Proxy
from tests.stack import wait_until


class Echo:
    """Answers every byte with itself and remembers what it was told."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.heard = b""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(client,), daemon=True).start()

    def _echo(self, client: socket.socket) -> None:
        with client:
            try:
                while data := client.recv(65536):
                    self.heard += data
                    client.sendall(data)
            except OSError:
                pass


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.listener.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(f"127.0.0.1:{echo.listener.getsockname()[1]}") as proxy:
        yield proxy


@contextmanager
def client(proxy: Proxy, timeout_s: float = 60.0) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout_s) as connection:
        yield connection


def exchange(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    got = b""
    while len(got) < len(data):
        piece = connection.recv(65536)
        if not piece:
            break
        got += piece
    return got


@pytest.mark.parametrize("mode", [PASS, SLICE, LATENCY(0.05, 0.02)])
def test_what_passes_passes_whole_and_in_order(proxy: Proxy, mode: object) -> None:
    proxy.mode(mode)  # type: ignore[arg-type]
    data = bytes(range(256)) * 8
    started = time.monotonic()
    with client(proxy) as connection:
        assert exchange(connection, data) == data
    assert mode in (PASS, SLICE) or time.monotonic() - started > 0.03


def test_a_lost_reply_resets_after_the_request_was_heard(proxy: Proxy, echo: Echo) -> None:
    proxy.mode(LOSE_REPLIES)
    with client(proxy) as connection, pytest.raises(ConnectionResetError):
        exchange(connection, b"do it")
    assert echo.heard == b"do it"
    proxy.mode(PASS)
    with client(proxy) as connection:
        assert exchange(connection, b"again") == b"again"


def test_a_connection_is_reset_after_its_measure(proxy: Proxy) -> None:
    proxy.mode(RESET_AFTER(10))
    with client(proxy) as connection:
        assert exchange(connection, b"12345") == b"12345"
        connection.sendall(b"6789012345")
        assert connection.recv(100) == b"67890"
        with pytest.raises(ConnectionResetError):
            connection.recv(100)


def test_in_a_blackhole_nothing_moves_and_nobody_is_told(proxy: Proxy, echo: Echo) -> None:
    with client(proxy) as before:
        assert exchange(before, b"a") == b"a"
        proxy.mode(BLACKHOLE)
        for connection in (before, socket.create_connection(("127.0.0.1", proxy.port), 60)):
            connection.settimeout(0.3)
            with connection, pytest.raises(TimeoutError):
                exchange(connection, b"lost")
    proxy.mode(PASS)
    with client(proxy) as after:
        assert exchange(after, b"b") == b"b"
    assert b"lost" not in echo.heard


def test_refusing_ends_old_and_new_connections(proxy: Proxy) -> None:
    with client(proxy) as before:
        assert exchange(before, b"a") == b"a"
        proxy.mode(REFUSE)
        with pytest.raises(ConnectionResetError):
            before.recv(1)
        with pytest.raises(ConnectionResetError), client(proxy) as after:
            exchange(after, b"b")
    proxy.mode(PASS)
    with client(proxy) as after:
        assert exchange(after, b"c") == b"c"


def test_a_cut_ends_what_is_open_and_nothing_else(proxy: Proxy) -> None:
    with client(proxy) as connection:
        assert exchange(connection, b"a") == b"a"
        assert proxy.open == 1
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with client(proxy) as connection:
        assert exchange(connection, b"b") == b"b"


def test_an_end_passes_as_an_end(proxy: Proxy) -> None:
    with client(proxy) as connection:
        assert exchange(connection, b"a") == b"a"
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    wait_until(lambda: proxy.open == 0, 60, "the end of the connection")


def test_real_servers_behind_it(servers: EmbeddedUrls) -> None:
    postgres = make_url(servers.database_url)
    folder = str(postgres.query["host"])
    with Proxy(f"{folder}/.s.PGSQL.5432") as proxy:
        url = f"host=127.0.0.1 port={proxy.port} user={postgres.username} dbname={postgres.database}"
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT 42").fetchone() == (42,)
            proxy.cut()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 42")
    with Proxy(f"{folder}/valkey.sock") as proxy, redis.Redis(port=proxy.port) as valkey:
        assert valkey.ping()
