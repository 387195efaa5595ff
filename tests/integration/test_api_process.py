"""The processes: `python -m api.app` and `python -m migrations.run`, as an operator starts them."""

from __future__ import annotations

import json
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import psycopg
import pytest
import requests

from api import app
from common.domain.errors import SettingsError
from common.settings import load_settings
from common.vault import generate_key
from tests.targets import free_port

ROOT = Path(__file__).parents[2]


def environment(database_url: str, redis_url: str, data_dir: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "TOCSIN_DATA_DIR": str(data_dir),
        "TOCSIN_JWT_KEY": "k" * 40,
        "TOCSIN_ENCRYPTION_KEYS": generate_key(),
        **more,
    }


def start(module: str, env: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module], env=dict(env), cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    out, err = process.communicate(timeout=100)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run(module: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return ended(start(module, env))


@contextmanager
def serving(env: Mapping[str, str], port: int) -> Iterator[subprocess.Popen[str]]:
    # Into a file: a pipe that nobody reads is full after some tracebacks, and then everything waits for it.
    said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - the process writes to it for as long as it lives
    process = subprocess.Popen(
        [sys.executable, "-m", "api.app"], env=dict(env), cwd=ROOT, stdout=said, stderr=subprocess.STDOUT, text=True
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                requests.get(f"http://127.0.0.1:{port}/livez", timeout=10)
                break
            except requests.RequestException:
                assert process.poll() is None, said.seek(0) or said.read()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        said.close()


def test_first_start_from_migration_to_login(empty_database: str, redis_url: str, tmp_path: Path) -> None:
    port = free_port()
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    env = environment(
        empty_database, redis_url, tmp_path / "data", TOCSIN_PORT=str(port), TOCSIN_ADMIN_EMAIL="Root@Example.com",
        PROMETHEUS_MULTIPROC_DIR=str(metrics), TOCSIN_API_WORKERS="2", TOCSIN_LOCATION="ams",
    )  # fmt: skip
    with serving(env, port) as process:
        base = f"http://127.0.0.1:{port}"
        assert requests.get(f"{base}/readyz", timeout=20).status_code == 503
        migrated = run("migrations.run", env)
        assert migrated.returncode == 0, migrated.stderr
        path = tmp_path / "data" / "credentials.json"
        assert migrated.stdout.count("\n") == 1
        assert str(path) in migrated.stdout
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        credentials = json.loads(path.read_text())
        assert set(credentials) == {"url", "email", "password", "api_key"}
        assert (credentials["url"], credentials["email"]) == (base, "root@example.com")
        assert credentials["password"] not in migrated.stdout + migrated.stderr
        assert requests.get(f"{base}/readyz", timeout=20).status_code == 200
        login = {name: credentials[name] for name in ("email", "password")}
        tokens = requests.post(f"{base}/v1/auth/login", json=login, timeout=20).json()
        for token in (tokens["access_token"], credentials["api_key"]):
            headers = {"Authorization": f"Bearer {token}"}
            assert requests.get(f"{base}/v1/auth/me", headers=headers, timeout=20).json()["role"] == "owner"
            places = requests.get(f"{base}/v1/locations", headers=headers, timeout=20).json()["data"]
            assert [place["name"] for place in places] == ["ams"]
        chunked = requests.post(f"{base}/v1/auth/login", data=iter([b" " * 2**20] * 2), timeout=20,
                                headers={"Content-Type": "application/json"})  # fmt: skip
        assert (chunked.status_code, chunked.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")
        # Two processes, one answer.
        assert 'route="/v1/auth/me",status="200"} 2.0' in requests.get(f"{base}/metrics", timeout=20).text
        before = path.read_bytes()
        again = run("migrations.run", env)
        assert (again.returncode, again.stdout, path.read_bytes()) == (0, "", before)
    assert process.returncode == 0


def test_two_migrations_at_once_make_one_administrator(empty_database: str, redis_url: str, tmp_path: Path) -> None:
    env = environment(empty_database, redis_url, tmp_path)
    both = [ended(process) for process in [start("migrations.run", env) for _ in range(2)]]
    assert [done.returncode for done in both] == [0, 0]
    assert sum(bool(done.stdout) for done in both) == 1
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT count(*) FROM users").fetchone() == (1,)


def test_without_a_place_for_them_the_credentials_are_printed_once(
    empty_database: str, redis_url: str, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    env = environment(empty_database, redis_url, blocked, TOCSIN_ADMIN_PASSWORD="my own password")
    first = run("migrations.run", env)
    assert first.returncode == 0
    assert "my own password" in first.stdout
    assert "tcs_" in first.stdout
    assert run("migrations.run", env).stdout == ""


#: (variables that are wrong or absent, what the one line says)
REFUSED_STARTS: list[tuple[dict[str, str], str]] = [
    ({"DATABASE_URL": ""}, "DATABASE_URL must be set"),
    ({"REDIS_URL": ""}, "REDIS_URL must be set"),
    ({"TOCSIN_JWT_KEY": ""}, "TOCSIN_JWT_KEY must be set"),
    ({"TOCSIN_ENCRYPTION_KEYS": ""}, "TOCSIN_ENCRYPTION_KEYS must be set"),
    ({"TOCSIN_ENCRYPTION_KEYS": "short"}, "TOCSIN_ENCRYPTION_KEYS"),
    ({"TOCSIN_BIND": "192.0.2.1"}, "cannot listen on 192.0.2.1"),
]


@pytest.mark.parametrize(("variables", "words"), REFUSED_STARTS)
def test_the_api_refuses_to_start_without_what_it_needs(variables: dict[str, str], words: str, tmp_path: Path) -> None:
    env = environment("postgresql://x@127.0.0.1:1/x", "redis://127.0.0.1:1/0", tmp_path)
    with pytest.raises(SettingsError, match=words):
        app.run(load_settings({name: value for name, value in {**env, **variables}.items() if name != "PATH"}), Event())


def test_a_wrong_start_is_one_line_and_exit_2(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        env = environment("postgresql://x@127.0.0.1:1/x", "redis://127.0.0.1:1/0", tmp_path)
        busy = start("api.app", {**env, "TOCSIN_PORT": str(taken.getsockname()[1])})
        nowhere = start("migrations.run", {**env, "DATABASE_URL": ""})
        for process, words in ((busy, "in use"), (nowhere, "DATABASE_URL must be set")):
            done = ended(process)
            assert (done.returncode, done.stdout) == (2, ""), done.stderr
            assert words in done.stderr
            assert done.stderr.count("\n") == 1, done.stderr


def test_a_database_that_is_away_is_one_line(tmp_path: Path) -> None:
    done = run("migrations.run", environment("postgresql://x@127.0.0.1:1/x", "redis://127.0.0.1:1/0", tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "cannot be reached" in done.stderr
