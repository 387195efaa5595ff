"""CI runs what developers run: its commands are real targets, its actions are pinned, its rights few."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.settings import Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / ".github/workflows/ci.yml").read_text()
WORKFLOW: dict[Any, Any] = yaml.safe_load(TEXT)
JOBS: dict[str, dict[str, Any]] = WORKFLOW["jobs"]
#: YAML 1.1 reads the key `on` as a truth.
TRIGGERS: dict[str, Any] = WORKFLOW[True]


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, job in JOBS.items():
        for step in job["steps"]:
            yield name, step


COMMANDS = sorted({line for _, step in steps() for line in step.get("run", "").splitlines()})


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_a_target_that_make_would_run(command: str) -> None:
    assert command.startswith("make "), "say it in the Makefile, so that developers can run it as well"
    dry = subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert dry.returncode == 0, dry.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_file_that_a_target_names_exists(command: str) -> None:
    dry = subprocess.check_output([*command.split(), "--dry-run", "--always-make"], cwd=ROOT, text=True)
    named = set(
        re.findall(r"(?<![\w/])(?:tests|tools|infra)/[\w/.-]+\.(?:py|sh|cjs)|requirements[\w-]*\.(?:txt|in)", dry)
    )
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_readmes_test_command_is_all_of_it() -> None:
    dry = subprocess.check_output(["make", "test", "--dry-run"], cwd=ROOT, text=True)
    for part in ("ruff check", "mypy", "lint-imports", "pytest -n 2"):
        assert part in dry
    assert {"make check", "make pytest"} <= set(COMMANDS)


def test_no_test_is_skipped_there_for_want_of_a_package() -> None:
    dry = subprocess.check_output(["make", "peers", "servers", "--dry-run"], cwd=ROOT, text=True)
    texts = "".join(path.read_text() for path in sorted((ROOT / "tests").rglob("*.py")))
    said = re.findall(r"Debian's packages? ([a-z -]+) (?:is|are) not installed", texts)
    wanted = {name for names in said for name in names.split(" and ")}
    packages = {"nginx": "nginx-light", "dnsmasq": "dnsmasq-base", "exim4": "exim4-daemon-light"}
    packages["dovecot"] = "dovecot-imapd"
    wanted |= {packages.get(name, name) for name in re.findall(r'program\("([\w-]+)"\)', texts)}
    assert {"prometheus", "prometheus-alertmanager", "nginx-light", "dnsmasq-base"} <= wanted
    assert [name for name in sorted(wanted) if f" {name}" not in dry] == []
    runs = [step.get("run") for step in JOBS["tests"]["steps"]]
    assert max(runs.index("make peers"), runs.index("make servers")) < runs.index("make pytest")


def test_what_takes_long_or_needs_more_than_python_is_run_there_all_the_same() -> None:
    assert {"make test-docker", "make check-terraform", "make image IMAGE=tocsin:ci"} <= set(COMMANDS)


def test_every_python_that_is_promised_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pythons = JOBS["tests"]["strategy"]["matrix"]["python"]
    assert project["requires-python"] == f">={pythons[0]}"
    assert pythons == ["3.11", "3.12", "3.13"]


def test_every_postgresql_that_is_promised_is_tested() -> None:
    versions = [int(version) for version in JOBS["postgres"]["strategy"]["matrix"]["postgres"]]
    assert f"PostgreSQL {versions[0]} or newer" in (Settings.model_fields["database_url"].description or "")
    assert versions == list(range(versions[0], 19))


def test_the_service_is_the_one_that_the_tests_are_told_of() -> None:
    job = JOBS["postgres"]
    password = job["services"]["postgres"]["env"]["POSTGRES_PASSWORD"]
    assert job["env"]["TEST_DATABASE_URL"] == f"postgresql://postgres:{password}@127.0.0.1:5432/postgres"
    assert "TEST_DATABASE_URL" in (ROOT / "tests/conftest.py").read_text()


def test_actions_are_pinned_by_commit_with_their_version_beside() -> None:
    uses = re.findall(r"uses: (\S+)(.*)", TEXT)
    assert uses
    for action, comment in uses:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r"  # v\d+\.\d+\.\d+", comment), action
    assert len({action for action, _ in uses}) == len({action.split("@")[0] for action, _ in uses}), "one pin each"


def test_rights_are_to_read_and_no_credential_stays_behind() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in JOBS.values())
    assert "secrets." not in TEXT
    assert "pull_request_target" not in TRIGGERS
    for name, step in steps():
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False, name


def test_no_text_of_others_reaches_a_shell() -> None:
    # A title or a branch's name put into a command is a command.
    assert all("${{" not in command for command in COMMANDS)


def test_every_job_ends_and_a_newer_push_ends_the_older_run() -> None:
    assert all(job["timeout-minutes"] <= 90 for job in JOBS.values())
    assert "cancel-in-progress" in WORKFLOW["concurrency"]


def test_what_is_uploaded_is_what_make_writes() -> None:
    (upload,) = (step for _, step in steps() if "upload-artifact" in step.get("uses", ""))
    assert f"--output-file {upload['with']['path']}" in (ROOT / "Makefile").read_text()


def test_dependabot_watches_what_is_pinned() -> None:
    updates = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"pip", "github-actions", "docker", "docker-compose"}
    assert all((ROOT / "." / update["directory"].lstrip("/")).is_dir() for update in updates)
    for name in ("requirements.txt", "Dockerfile", "docker-compose.yml"):
        assert (ROOT / name).exists()


def test_the_extra_is_what_is_locked() -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["otlp"]
    lines = (ROOT / "requirements-otlp.in").read_text().splitlines()
    assert extra == [line for line in lines if line and not line.startswith("#")]
    locked = _pins("requirements-otlp.txt")
    assert {line.split(">")[0] for line in extra} <= locked.keys()
    for name, version in _pins("requirements.txt").items():
        assert locked.get(name, version) == version, f"{name}: one version, whether with traces or without"


def _pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==(\S+)", (ROOT / name).read_text(), re.MULTILINE))
