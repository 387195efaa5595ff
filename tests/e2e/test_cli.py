"""The `tocsin` command on a running stack: a first-time user's path, and probes that workers make."""

from __future__ import annotations

import json
import re
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from common.exit_status import ExitStatus
from tests.e2e.endpoint import Endpoint
from tests.e2e.stack import Stack, wait_for
from tests.served import Shell
from tests.targets import answer


@pytest.fixture
def tocsin(stack: Stack, tmp_path: Path) -> Shell:
    """On the machine of the stack, by somebody who has not done anything yet."""
    return Shell(tmp_path, {"TOCSIN_DATA_DIR": str(stack.data_dir)})


def test_a_first_time_users_path(stack: Stack, endpoint: Endpoint, tmp_path: Path) -> None:
    tocsin = Shell(tmp_path, {"TOCSIN_DATA_DIR": str(tmp_path)})
    made = stack.credentials()
    done = tocsin("login", stack.url, "--email", made["email"], feed=f"{made['password']}\n")
    assert done.returncode == 0, done.stderr
    endpoint.breaks("/first")
    added = tocsin(
        "monitors", "add", endpoint.url("/first"), "--name", "First shop", "--key", "first", "--interval", "1"
    )
    assert (added.returncode, "First shop" in added.stdout) == (0, True), added.stderr
    try:
        wait_for(lambda: tocsin.json("incidents", "ls", "--monitor", "first"), "an incident", every_s=0.3)
        assert re.search(r"✖ open +P2 +First shop is down", tocsin("incidents", "ls").stdout)
        # While its checks are late, its state is unknown.
        wait_for(lambda: re.search(r"✖ down +First shop", tocsin("monitors", "ls").stdout), "down", every_s=0.3)

        def shown() -> bool:
            text = tocsin("monitors", "show", "first").stdout
            return "status_mismatch" in text and "▇" in text and "first byte" in text

        wait_for(shown, "reason and phases of its checks", every_s=0.3)
        taken = tocsin("incidents", "ack", "first", "-m", "on it")
        assert "▲ acknowledged  First shop is down" in taken.stdout
        assert "on it" in tocsin("incidents", "show", "first").stdout
        endpoint.mends("/first")
        wait_for(lambda: not tocsin.json("incidents", "ls", "--monitor", "first"), "its end", every_s=0.3)
        wait_for(lambda: tocsin.json("monitors", "show", "first")["state"]["status"] == "up", "up", every_s=0.3)
    finally:
        assert tocsin("monitors", "rm", "first", "--yes").returncode == 0
    assert tocsin("logout").returncode == 0


def judged(tocsin: Shell, *words: str) -> CompletedProcess[str]:
    """A probe that was judged: on a busy machine nobody may answer, or not be sure."""

    def asked() -> CompletedProcess[str] | None:
        done = tocsin("check", *words)
        judged = done.returncode in (ExitStatus.OK, ExitStatus.NOT_WELL) and "unknown" not in done.stdout
        return done if judged else None

    done: CompletedProcess[str] = wait_for(asked, f"a verdict on {words}")
    return done


def test_a_probe_shows_where_the_time_goes(tocsin: Shell, endpoint: Endpoint) -> None:
    done = judged(tocsin, endpoint.url("/well"))
    assert done.returncode == 0, done.stderr
    assert re.match(r"● up +http://127.0.0.1:\d+/well +200 .* from local\n", done.stdout)
    assert re.search(r"connect +█|connect +[▏▎▍▌▋▊▉]", done.stdout) and "total" in done.stdout
    found = json.loads(judged(tocsin, endpoint.url("/well"), "--contains", "ok", "--status", "200", "--json").stdout)
    assert (found["verdict"], found["status_code"]) == ("up", 200)
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("words", "verdict", "reason"),
    [
        (("--contains", "well"), "down", "body_mismatch"),
        (("--status", "204"), "down", "status_mismatch"),
        (("--slower-than", "0.001"), "degraded", "latency_exceeded"),
    ],
)
def test_one_that_is_not_well_ends_with_1(
    tocsin: Shell, endpoint: Endpoint, words: tuple[str, ...], verdict: str, reason: str
) -> None:
    endpoint.paths["/ill"] = answer(200, b"ok")
    done = judged(tocsin, endpoint.url("/ill"), *words, "--json")
    assert done.returncode == ExitStatus.NOT_WELL
    found = json.loads(done.stdout)
    assert (found["verdict"], found["reason"]) == (verdict, reason)
    shown = judged(tocsin, endpoint.url("/ill"), *words)
    assert (shown.returncode, reason in shown.stdout) == (ExitStatus.NOT_WELL, True)


def test_nobody_listening_and_forbidden_addresses(tocsin: Shell) -> None:
    done = judged(tocsin, "127.0.0.1:9")
    assert done.returncode == ExitStatus.NOT_WELL
    assert "connect_refused" in done.stdout
    status, line = tocsin.fails("check", "http://169.254.169.254/")
    assert status == ExitStatus.USAGE
    assert "target" in line
    assert tocsin.fails("check", "http://127.0.0.1:9/", "--location", "moon")[0] == ExitStatus.USAGE
