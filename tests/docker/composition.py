"""The composition of docker-compose.yml, built and started under a name of its own; only `make test-docker` uses it.

What docker needs here beyond a user's `docker build` comes from the environment: DOCKER_BUILD_ARGS, like
`--network host --secret id=pip_conf,src=pip.conf`.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import requests
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = "tocsin-test"
IMAGE = "tocsin:test"

#: What is watched, and who is told: two more containers on the composition's network.
_TARGET = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=8080, bind='0.0.0.0')"
_RECEIVER = """
import http.server as h
class Receiver(h.BaseHTTPRequestHandler):
    def do_POST(self):
        print("webhook", self.rfile.read(int(self.headers["Content-Length"])).decode(), flush=True)
        self.send_response(204); self.end_headers()
    def log_message(self, *_): pass
h.HTTPServer(("0.0.0.0", 8080), Receiver).serve_forever()
"""


def wait_until(condition: Callable[[], object], within_s: float, what: str) -> float:
    """How many seconds it took until the condition came true; fails when it does not."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < within_s, f"{what} did not happen within {within_s} s"
        time.sleep(0.1)
    return time.monotonic() - started


def docker(*words: str, check: bool = True, **options: Any) -> str:
    """The output of a docker command."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False, timeout=540, **options)
    assert not check or done.returncode == 0, f"docker {' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def build(tag: str = IMAGE, *more: str) -> None:
    """Build the image as DOCKER_BUILD_ARGS says."""
    docker("build", *shlex.split(os.environ.get("DOCKER_BUILD_ARGS", "")), *more, "-t", tag, str(ROOT))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Composition:
    """A copy of what a user deploys, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.mail_port, self.prometheus_port = free_port(), free_port(), free_port()
        shutil.copy(ROOT / "docker-compose.yml", folder)
        shutil.copytree(ROOT / "infra" / "prometheus", folder / "infra" / "prometheus")
        passwords = ("POSTGRES_PASSWORD", "VALKEY_PASSWORD", "GRAFANA_PASSWORD")
        self.set(
            docker("run", "--rm", IMAGE, "keygen").strip(),
            *(f"{name}={secrets.token_hex(24)}" for name in passwords),
            *(f"IMAGE={IMAGE}", f"PUBLISH_API=127.0.0.1:{self.port}", f"PUBLISH_MAIL=127.0.0.1:{self.mail_port}"),
            f"PUBLISH_PROMETHEUS=127.0.0.1:{self.prometheus_port}",
            "TOCSIN_SMTP_URL=smtp://mail:1025?tls=none",
            "TOCSIN_MAIL_FROM=tocsin@example.com",
        )
        common = {"image": IMAGE, "stop_grace_period": "1s", "init": True}
        override = {
            "services": {
                name: {
                    **common,
                    "entrypoint": ["python", "-u", "-c", code],
                    "healthcheck": {"test": ["CMD", "true"], "interval": "1s"},
                }
                for name, code in (("target", _TARGET), ("receiver", _RECEIVER))
            }
        }
        (folder / "docker-compose.override.yml").write_text(yaml.safe_dump(override))

    def set(self, *lines: str) -> None:
        """Add lines to .env."""
        with (self.folder / ".env").open("a") as file:
            file.write("".join(f"{line}\n" for line in lines))

    def __call__(self, *words: str, check: bool = True, **options: Any) -> str:
        return docker("compose", "-p", PROJECT, "--profile", "mail", *words, check=check, cwd=self.folder, **options)

    def piped(self, *words: str, **streams: IO[bytes]) -> None:
        """A command with a file at one of its ends."""
        argv = ["docker", "compose", "-p", PROJECT, "--profile", "mail", *words]
        subprocess.run(argv, cwd=self.folder, check=True, timeout=120, **streams)

    def up(self, *services: str) -> float:
        """Start it and wait until it is healthy; how many seconds that took."""
        started = time.monotonic()
        self("up", "-d", "--wait", "--wait-timeout", "120", *services)
        return time.monotonic() - started

    def inspect(self, service: str) -> list[dict[str, Any]]:
        """What Docker knows of a service's containers."""
        ids = self("ps", "-aq", service).split()
        return list(json.loads(docker("inspect", *ids))) if ids else []

    def ids(self) -> dict[str, str]:
        """Container id by name."""
        found = (json.loads(line) for line in self("ps", "-a", "--format", "json").splitlines())
        return {row["Name"]: row["ID"] for row in found}

    def inside(self, container: str, *words: str, check: bool = True) -> str:
        return docker("exec", container, *words, check=check)

    def metrics(self, container: str) -> str:
        """What a role other than the API counts."""
        ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9464/metrics').read().decode())"
        return self.inside(container, "python", "-c", ask)

    def leaders(self) -> list[str]:
        """Names of the schedulers that lead."""
        running = [c["Name"].strip("/") for c in self.inspect("scheduler") if c["State"]["Running"]]
        epochs = {
            name: [
                line.split()[-1] for line in self.metrics(name).splitlines() if line.startswith("tocsin_leader_epoch")
            ]
            for name in running
        }
        return [name for name, values in epochs.items() if any(float(value) > 0 for value in values)]

    def credentials(self) -> dict[str, str]:
        """What the first start wrote down, read as docs/deploy-compose.md says."""
        reading = ("run", "--rm", "--no-deps", "--entrypoint", "cat", "migrate", "/var/lib/tocsin/credentials.json")
        return dict(json.loads(self(*reading)))

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """A request to the API with the first key."""
        if not hasattr(self, "_key"):
            self._key = self.credentials()["api_key"]
        answer = requests.request(
            method, f"http://127.0.0.1:{self.port}{path}", json=body, timeout=10,
            headers={"Authorization": f"Bearer {self._key}"},
        )  # fmt: skip
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def mails(self) -> list[dict[str, Any]]:
        """What the mail catcher has."""
        return list(requests.get(f"http://127.0.0.1:{self.mail_port}/api/v1/messages", timeout=5).json()["messages"])

    def webhooks(self) -> list[dict[str, Any]]:
        """What the receiver got."""
        lines = docker("logs", f"{PROJECT}-receiver-1").splitlines()
        return [json.loads(line.split(" ", 1)[1]) for line in lines if line.startswith("webhook ")]
