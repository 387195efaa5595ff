"""The whole API as its own document describes it: no 5xx, no status, type or body that the document does not name.

schemathesis makes requests up from /openapi.json (examples, limits, noise, and sequences in which what one creates is
used and deleted by the next) and sends them to a real API over HTTP. The seed is fixed: a failure comes again.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from common.store import platform_keys
from tests.conftest import Databases
from tests.integration.test_api_process import environment, run, serving
from tests.targets import free_port

SEED = "20261121"

#: What an answer must keep to. Not among them: whether every refused body is wrong by the document's schemas (rules
#: between fields are not in them), and whether every accepted one is right by them.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "missing_required_header",
    "ignored_auth",
    "use_after_free",
)

#: They send to whatever target was made up, or go on until somebody leaves: each has tests of its own.
LEFT_OUT = ("test_channel", "probe_target", "probe_for_prometheus", "open_stream")


@dataclass(frozen=True, slots=True)
class Api:
    """A running API, its owner's key, and its operator's."""

    url: str
    key: str
    operator: str


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("schemathesis")


@pytest.fixture
def api(databases: Databases, database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Api]:
    port = free_port()
    env = environment(
        database_url, redis_url, tmp_path,
        TOCSIN_PORT=str(port),
        TOCSIN_RATE_LIMIT_WRITES="0",
        TOCSIN_RATE_LIMIT_AUTH="0",
        TOCSIN_LOG_LEVEL="error",
        # Nothing that is made up may be looked up or reached.
        TOCSIN_DNS_SERVERS="127.0.0.1:9",
        TOCSIN_EGRESS_DENY="0.0.0.0/0,::/0",
    )  # fmt: skip
    assert run("migrations.run", env).returncode == 0
    operator = platform_keys.NewPlatformKey("operator")
    with databases.owner.begin() as connection:
        platform_keys.add(connection, operator)
    key = json.loads((tmp_path / "credentials.json").read_text())["api_key"]
    with serving(env, port):
        yield Api(f"http://127.0.0.1:{port}", key, operator.token)


def schemathesis(api: Api, key: str, folder: Path, *options: str) -> str:
    """Run it; what it said. Fails with that when it found something."""
    program = Path(sys.executable).parent / "schemathesis"
    done = subprocess.run(
        [
            str(program), "--no-color", "run", f"{api.url}/openapi.json", "--header", f"Authorization: Bearer {key}",
            "--checks", ",".join(CHECKS), "--seed", SEED, "--generation-database", "none", "--workers", "1",
            "--request-timeout", "60", "--continue-on-failure", "--no-shrink", "--warnings", "off",
            *(option for name in LEFT_OUT for option in ("--exclude-operation-id", name)),
            *options,
        ],
        cwd=folder, env={**os.environ, "PYTHONHASHSEED": "0"}, text=True, capture_output=True, timeout=1100,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(1_200)  # a monitor has nine types of options, and every field of each is tried
def test_an_owner_meets_only_what_is_documented(api: Api, folder: Path) -> None:
    said = schemathesis(api, api.key, folder, "--max-examples", "15")
    operations = re.search(r"Selected: (\d+)/(\d+)", said)
    assert operations is not None, said
    assert int(operations[2]) - int(operations[1]) == len(LEFT_OUT)
    print(said)


@pytest.mark.timeout(1_200)
def test_the_operator_meets_only_what_is_documented(api: Api, folder: Path) -> None:
    print(
        schemathesis(api, api.operator, folder, "--include-path-regex", "organizations|alerts", "--max-examples", "20")
    )
