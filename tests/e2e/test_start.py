"""`tocsin up` as an operator meets it: refusals of one line, an orderly stop, and a start after a crash."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import requests

from tests.e2e.endpoint import Endpoint
from tests.e2e.outage import Watch
from tests.e2e.stack import ROOT, Stack, data_directory, run, running, wait_for
from tests.sink import Sink
from tests.targets import free_port, hang

KEYS = {"TOCSIN_JWT_KEY": "k" * 40, "TOCSIN_ENCRYPTION_KEYS": "Q" * 43 + "="}

#: Settings that cannot be right → the variable that the one line names.
WRONG: list[tuple[dict[str, str], str]] = [
    ({"TOCSIN_PORT": "abc"}, "TOCSIN_PORT"),
    ({"TOCSIN_PORT": "70000"}, "TOCSIN_PORT"),
    ({"TOCSIN_BIND": "nonsense"}, "TOCSIN_BIND"),
    ({"TOCSIN_BIND": "203.0.113.1"}, "TOCSIN_BIND"),  # not an address of this machine
    ({"TOCSIN_WORKERS": "0"}, "TOCSIN_WORKERS"),
    ({"TOCSIN_EGRESS": "everything"}, "TOCSIN_EGRESS"),
    ({"TOCSIN_EGRESS_ALLOW": "10.0.0.0/99"}, "TOCSIN_EGRESS_ALLOW"),
    ({"TOCSIN_REGISTRATION": "open"}, "TOCSIN_EGRESS"),  # strangers would probe the inner network
    ({"TOCSIN_LOCATION": "Not OK"}, "TOCSIN_LOCATION"),
    ({"TOCSIN_LOG_LEVEL": "loud"}, "TOCSIN_LOG_LEVEL"),
    ({"TOCSIN_PUBLIC_URL": "example.com"}, "TOCSIN_PUBLIC_URL"),
    ({"TOCSIN_PUBLIC_URL": "http://"}, "TOCSIN_PUBLIC_URL"),
    ({"TOCSIN_DNS_SERVERS": "nonsense:abc"}, "TOCSIN_DNS_SERVERS"),
    ({"TOCSIN_DNS_SERVERS": "dns.google"}, "TOCSIN_DNS_SERVERS"),
    ({"TOCSIN_CANARIES": "nonsense"}, "TOCSIN_CANARIES"),
    ({"TOCSIN_RESULT_RETENTION_DAYS": "0"}, "TOCSIN_RESULT_RETENTION_DAYS"),
    ({"TOCSIN_TYPO": "1"}, "TOCSIN_TYPO"),
    ({"TOCSIN_JWT_KEY": "short"}, "TOCSIN_JWT_KEY"),
    ({"TOCSIN_ENCRYPTION_KEYS": "garbage"}, "TOCSIN_ENCRYPTION_KEYS"),
    ({"TOCSIN_ADMIN_PASSWORD": "short"}, "TOCSIN_ADMIN_PASSWORD"),
    ({"TOCSIN_ADMIN_PASSWORD_FILE": "/nowhere"}, "TOCSIN_ADMIN_PASSWORD_FILE"),
    ({"DATABASE_URL": "mysql://localhost/tocsin"}, "DATABASE_URL"),
    ({"DATABASE_URL": "postgresql://localhost/tocsin"}, "TOCSIN_JWT_KEY"),  # keys would be lost with the machine
    ({"DATABASE_URL": "postgresql://me:hunter2@127.0.0.1:1/tocsin", **KEYS}, "DATABASE_URL (127.0.0.1:1) cannot"),
    ({"REDIS_URL": "redis://:hunter2@127.0.0.1:1/0"}, "REDIS_URL (127.0.0.1:1) cannot be reached"),
    ({"TOCSIN_DATA_DIR": "/dev/null/data"}, "TOCSIN_DATA_DIR"),
    ({"TOCSIN_DATA_DIR": __file__}, "TOCSIN_DATA_DIR"),
    (
        {"TOCSIN_DATA_DIR": __file__, "DATABASE_URL": "postgresql://h/d", "REDIS_URL": "redis://h", **KEYS},
        "TOCSIN_DATA_DIR",
    ),
    ({"TOCSIN_ADMIN_EMAIL": "nope"}, "TOCSIN_ADMIN_EMAIL"),
    ({"REDIS_URL": "http://localhost"}, "REDIS_URL"),
]


Refusals = list[Future[subprocess.CompletedProcess[str]]]


@pytest.fixture(scope="module", autouse=True)
def refusals() -> Iterator[Refusals]:
    """All of WRONG, while the other tests of this module wait for something."""

    def refuse(variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
        with data_directory() as data_dir:
            places = {"TOCSIN_DATA_DIR": str(data_dir), "TOCSIN_PORT": str(free_port())}
            return run("up", **{**places, **variables})

    with ThreadPoolExecutor(2) as pool:
        yield [pool.submit(refuse, variables) for variables, _ in WRONG]


def assert_one_line(text: str, *words: str) -> None:
    (line,) = text.splitlines()
    assert line.startswith("tocsin ")
    assert all(word in line for word in words), line


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running() as stack:
        yield stack


def test_a_second_start_on_the_same_directory_is_one_line_and_harms_nothing(stack: Stack) -> None:
    # On the same port, as `make run` twice is, it is the directory that says what is the matter.
    for port in (free_port(), stack.port):
        refused = run("up", TOCSIN_DATA_DIR=str(stack.data_dir), TOCSIN_PORT=str(port))
        assert (refused.returncode, refused.stdout) == (2, "")
        assert_one_line(refused.stderr, "another Tocsin", str(stack.process.pid if stack.process else ""))
    assert requests.get(f"{stack.url}/ready", timeout=60).ok


def test_a_busy_port_is_one_line(stack: Stack) -> None:
    with data_directory() as data_dir:
        refused = run("up", TOCSIN_DATA_DIR=str(data_dir), TOCSIN_PORT=str(stack.port))
        assert refused.returncode == 2
        assert_one_line(refused.stderr, "TOCSIN_PORT", str(stack.port))
        assert not data_dir.exists()


def test_what_is_secret_belongs_to_its_owner_only(stack: Stack) -> None:
    for name in ("credentials.json", "keys.json", "stack.json"):
        found = (stack.data_dir / name).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, os.geteuid()), name


def test_a_killed_supervisor_leaves_nothing_and_the_next_start_goes_on_where_it_was(
    stack: Stack, endpoint: Endpoint, sink: Sink
) -> None:
    watch = Watch(stack, endpoint, sink)
    endpoint.paths["/slow"] = hang
    # A check that outlasts the waiting: nobody is left who could wait for it.
    slow = watch.api.add_monitor(endpoint.url("/slow"), interval_seconds=300, timeout_seconds=60.0)
    monitor = watch.monitor("shop")
    watch.breaks("shop")
    watch.await_webhooks(monitor, 1)
    time.sleep(2)  # by now the slow check has a lane where it may stay
    stack.stop(signal.SIGKILL)
    wait_for(lambda: not stack.leftovers(), f"the end of {stack.leftovers()}", 30)
    watch.mends("shop")
    stack.start()
    watch.api.call("DELETE", f"/monitors/{slow}")
    watch.await_webhooks(monitor, 2)
    watch.assert_told_once(monitor)
    before = watch.api.state(watch.bystander)["last_check_at"]
    wait_for(lambda: watch.api.state(watch.bystander)["last_check_at"] > before, "checks go on")
    watch.assert_bystander_unharmed()


def test_sigterm_stops_all_in_order_with_checks_and_requests_under_way(stack: Stack, endpoint: Endpoint) -> None:
    api = stack.api()
    endpoint.paths["/hangs"] = hang
    asked = sum(seen.path == "/hangs" for seen in endpoint.target.seen)  # before they are: checks are made at once
    for number in range(3):
        api.add_monitor(endpoint.url("/hangs"), name=f"hangs-{number}", interval_seconds=300, timeout_seconds=60.0)
    wait_for(lambda: sum(seen.path == "/hangs" for seen in endpoint.target.seen) >= asked + 3, "checks under way")
    said = stack.log.stat().st_size
    stack.stop(signal.SIGTERM, within_s=50)  # sooner than the checks would end
    assert stack.process is not None
    assert stack.process.returncode == 0
    wait_for(lambda: not stack.leftovers(), f"the end of {stack.leftovers()}")
    assert [line for line in stack.log.read_text()[said:].splitlines() if "Traceback" in line] == []
    assert not (stack.data_dir / "stack.json").exists()


def test_ctrl_c_while_the_servers_start_leaves_nothing() -> None:
    with data_directory() as data_dir:
        stack = Stack(data_dir)
        try:
            with pytest.raises(AssertionError):
                stack.start(within_s=0.8)
            time.sleep(0.2)
            stack.stop(signal.SIGINT)
            wait_for(lambda: not stack.leftovers(), f"the end of {stack.leftovers()}")
        finally:
            stack.end()


NAMES = [" ".join(f"{name}={value}" for name, value in variables.items()) for variables, _ in WRONG]


@pytest.mark.parametrize("number", range(len(WRONG)), ids=NAMES)
def test_a_wrong_setting_is_one_line_that_names_it(refusals: Refusals, number: int) -> None:
    refused, named = refusals[number].result(), WRONG[number][1]
    assert refused.returncode == 2
    assert_one_line(refused.stderr, named)
    assert "Traceback" not in refused.stdout
    assert "hunter2" not in refused.stdout + refused.stderr
    if "cannot be reached" not in refused.stderr:
        assert refused.stdout == ""
    secrets = [value for name, value in WRONG[number][0].items() if "PASSWORD" in name or "KEY" in name]
    assert not [value for value in secrets if value in refused.stderr and value != "/nowhere"]


def test_the_installed_package_holds_every_package() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    roots = {name.partition(".")[0] for name in listed}
    there = {
        ".".join(path.parent.relative_to(ROOT).parts) for root in roots for path in (ROOT / root).rglob("__init__.py")
    }
    assert there == set(listed)
