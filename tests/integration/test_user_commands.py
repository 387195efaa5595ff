"""`tocsin user`: what the operator does for people, from the command line to the login."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import api_cast
from tests.api_cast import PASSWORD, World
from tests.identity_cast import NEW_PASSWORD

world = api_cast.world
ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(database_url: str, tmp_path: Path) -> Any:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": "/usr/bin:/bin", "TOCSIN_DATA_DIR": str(tmp_path), "DATABASE_URL": database_url}
        command = [sys.executable, "-m", "common.cli", "user", *arguments]
        return subprocess.run(command, env=env, cwd=ROOT, text=True, capture_output=True, timeout=100, check=False)

    return call


def set_password(world: World, token: str) -> int:
    return world.nobody.post("/v1/auth/password/reset", json={"token": token, "new": NEW_PASSWORD}).status_code


def log_in(world: World, email: str, password: str) -> Any:
    return world.nobody.post("/v1/auth/login", json={"email": email, "password": password})


def test_a_user_is_made_sets_a_password_and_logs_in(world: World, run: Any) -> None:
    made = run("create", "Dora@Example.com", "--name", "Dora", "--role", "admin")
    assert (made.returncode, made.stderr) == (0, "")
    user = json.loads(made.stdout)
    assert (user["email"], user["role"], user["organization_id"]) == ("dora@example.com", "admin", world.org_a)
    assert log_in(world, "dora@example.com", NEW_PASSWORD).status_code == 401
    assert set_password(world, user["token"]) == 204
    token = log_in(world, "dora@example.com", NEW_PASSWORD).get_json()["access_token"]
    assert world.person(token).get("/v1/auth/me").get_json()["role"] == "admin"
    again = run("create", "dora@example.com")
    assert (again.returncode, again.stdout) == (2, "")
    assert "is a member already" in again.stderr


def test_who_is_there_already_becomes_a_member_elsewhere(world: World, run: Any) -> None:
    made = json.loads(run("create", "bob@example.com", "--organization", world.org_b).stdout)
    assert (made["id"], "token" in made) == (world.users["bob"], False)
    assert len(world.bob.get("/v1/auth/me").get_json()["organizations"]) == 2
    listed = {row["email"]: row for row in map(json.loads, run("list").stdout.splitlines())}
    assert [(one["name"], one["role"]) for one in listed["bob@example.com"]["organizations"]] == [
        ("A", "viewer"), ("B", "viewer"),
    ]  # fmt: skip
    assert "argon2" not in repr(listed)


def test_a_password_is_reset_and_a_user_disabled_and_enabled(world: World, run: Any) -> None:
    token = run("reset-password", "BOB@example.com").stdout.strip()
    assert set_password(world, token) == 204
    assert log_in(world, "bob@example.com", NEW_PASSWORD).status_code == 200
    tokens = world.login("alice")
    assert run("disable", "alice@example.com").stdout == "disabled alice@example.com\n"
    assert world.person(tokens["access_token"]).get("/v1/auth/me").status_code == 401
    assert log_in(world, "alice@example.com", PASSWORD).status_code == 401
    assert run("reset-password", "alice@example.com").returncode == 2
    assert run("enable", "alice@example.com").returncode == 0
    assert log_in(world, "alice@example.com", PASSWORD).status_code == 200
    # What had ended stays ended.
    assert world.person(tokens["access_token"]).get("/v1/auth/me").status_code == 401


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("disable", "unknown@example.com"), "there is no user unknown@example.com"),
        (("reset-password", "unknown@example.com"), "there is no user unknown@example.com"),
        (("unlink", "alice@example.com"), "comes in through a provider"),
        (("create", "x@example.com", "--organization", "none"), "there is no organization none"),
        (("create", "not an address"), "is not an address"),
    ],
)
def test_what_cannot_be_done_is_one_line(run: Any, arguments: tuple[str, ...], complaint: str) -> None:
    failed = run(*arguments)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert complaint in failed.stderr and failed.stderr.count("\n") == 1
