"""Servers given by URL: waited for, said once, given up in time, and never with the password."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from common import given_servers
from common.domain.errors import StackError
from common.settings import load_settings
from tests.targets import free_port


def found(database_url: str, redis_url: str) -> list[given_servers.GivenServer]:
    return given_servers.find(load_settings({"DATABASE_URL": database_url, "REDIS_URL": redis_url}))


def test_servers_that_answer_are_not_waited_for(database_url: str, redis_url: str) -> None:
    said: list[str] = []
    given_servers.wait(found(database_url, redis_url), said.append, threading.Event())
    assert said == []


def test_servers_that_do_not_answer_are_named_without_password_and_given_up() -> None:
    said: list[str] = []
    port = free_port()
    given = found(f"postgresql://me:hunter2@127.0.0.1:{port}/d", f"redis://:hunter2@127.0.0.1:{port}/0")
    started = time.monotonic()
    with pytest.raises(StackError) as refused:
        given_servers.wait(given, said.append, threading.Event(), patience_s=1)
    assert time.monotonic() - started < 30
    both = f"DATABASE_URL (127.0.0.1:{port}) and REDIS_URL (127.0.0.1:{port})"
    assert refused.value.message.startswith(f"{both} cannot be reached")
    assert said == [f"waiting up to 1 s for {both}"]


def test_a_server_that_comes_late_is_waited_for(redis_url: str) -> None:
    given, tries = found("postgresql://127.0.0.1/d", redis_url)[1], iter([False, False])
    late = given_servers.GivenServer("REDIS_URL", "here:1", lambda: next(tries, True) and given.answers())
    said: list[str] = []
    given_servers.wait([late], said.append, threading.Event(), patience_s=60)
    assert len(said) == 1


def test_a_stop_ends_the_wait() -> None:
    stop = threading.Event()
    stop.set()
    given_servers.wait(found("postgresql://127.0.0.1:1/d", "redis://127.0.0.1:1"), lambda _line: None, stop)


def test_a_refusal_is_no_absence(redis_url: str) -> None:
    base = redis_url.partition("?")[0]
    wrong = (
        base.replace("unix://", "unix://me:hunter2@") if base.startswith("unix") else f"{base.rpartition('/')[0]}/999"
    )
    with pytest.raises(StackError, match="REDIS_URL") as refused:
        given_servers.wait(found("postgresql://127.0.0.1/d", wrong)[1:], lambda _line: None, threading.Event())
    assert "hunter2" not in refused.value.message


def test_a_socket_is_named_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "nobody.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    given = found(f"postgresql://me@/d?host={tmp_path}&port=5432", f"unix://{path}?db=0")
    assert [server.address for server in given] == [f"{tmp_path}:5432", str(path)]
    assert [server.answers() for server in given] == [False, False]
