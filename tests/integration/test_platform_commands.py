"""`tocsin platform-key`: the operator's keys, from the command line to the API."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests import api_cast
from tests.api_cast import World

world = api_cast.world

ROOT = Path(__file__).parents[2]


def run(arguments: list[str], data_dir: Path, database_url: str = "") -> subprocess.CompletedProcess[str]:
    env = {"PATH": "/usr/bin:/bin", "TOCSIN_DATA_DIR": str(data_dir), "DATABASE_URL": database_url}
    command = [sys.executable, "-m", "common.cli", "platform-key", *arguments]
    return subprocess.run(command, env=env, cwd=ROOT, text=True, capture_output=True, timeout=100, check=False)


def test_a_key_is_made_listed_and_revoked(world: World, database_url: str, tmp_path: Path) -> None:
    made = run(["create", "metrics stack"], tmp_path, database_url)
    assert (made.returncode, made.stderr) == (0, "")
    token = made.stdout.strip()
    operator = world.person(token)
    assert operator.get("/v1/organizations").status_code == 200
    listed = run(["list"], tmp_path, database_url).stdout
    (row,) = map(json.loads, listed.splitlines())
    assert (row["name"], row["revoked_at"]) == ("metrics stack", None)
    assert token.startswith(f"tcsp_{row['prefix']}_")
    assert token.rsplit("_", 1)[1] not in listed
    assert run(["revoke", row["id"]], tmp_path, database_url).stdout == f"revoked {row['prefix']}\n"
    assert operator.get("/v1/organizations").status_code == 401
    again = run(["revoke", row["prefix"]], tmp_path, database_url)
    assert (again.returncode, again.stdout) == (2, "")
    assert "no key with the id or prefix" in again.stderr


def test_the_stack_that_runs_in_the_data_directory_is_found(world: World, database_url: str, tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text(json.dumps({"url": "http://x", "database_url": database_url}))
    token = run(["create", "x"], tmp_path).stdout.strip()
    assert world.person(token).get("/v1/organizations").status_code == 200


def test_without_a_database_one_line_says_what_to_do(tmp_path: Path) -> None:
    for url, complaint in (
        ("", "start `tocsin up`, or set DATABASE_URL"),
        ("postgresql://nobody@127.0.0.1:1/none", "the database cannot be reached"),
    ):
        failed = run(["list"], tmp_path, url)
        assert (failed.returncode, failed.stdout) == (2, "")
        assert complaint in failed.stderr
        assert failed.stderr.count("\n") == 1
