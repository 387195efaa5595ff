"""What the monitors watch: nginx on loopback, or a small uvloop server where nginx cannot be had.

Sixteen loopback addresses, so that thousands of fresh connections a second do not run out of ports. The paths
/flaky/<n> answer 503 while a file named <n> lies in the toggles' directory: that is how outages are made.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.asyncio_target import ADDRESSES
from bench.packages import find
from bench.plan import BenchError
from common.spawn import spawn

_READY_WITHIN_S = 10.0

#: (kind, folder of its own, environment, the code's root, who is told) → the running target.
StartTarget = Callable[[str, Path, Mapping[str, str], Path, Callable[[str], None]], "Target"]

_NGINX_CONF = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  default_type text/plain;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
{listens}
    location / {{ return 200 "ok"; }}
    location ~ ^/flaky/(?<number>[0-9]+)$ {{
      if (-f {toggles}/$number) {{ return 503 "down"; }}
      return 200 "ok";
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Target:
    """A running target."""

    name: str
    port: int
    toggles: Path
    process: subprocess.Popen[bytes]

    def url(self, number: int, *, flaky: bool = False) -> str:
        """The URL of monitor `number`: each has its own, as in life, so that no cache does better than it would."""
        return f"http://{ADDRESSES[number % len(ADDRESSES)]}:{self.port}/{'flaky' if flaky else 'page'}/{number}"

    def break_path(self, number: int) -> None:
        """Make /flaky/<number> fail from now on."""
        (self.toggles / str(number)).touch()

    def mend_path(self, number: int) -> None:
        """Make /flaky/<number> answer 200 again."""
        (self.toggles / str(number)).unlink()


def start_target(kind: str, folder: Path, env: Mapping[str, str], root: Path, say: Callable[[str], None]) -> Target:
    """Start the wanted target (nginx, asyncio, auto) and return when it answers. Raises BenchError."""
    folder.mkdir()
    toggles = folder / "toggles"
    toggles.mkdir()
    port = free_port()
    nginx = None if kind == "asyncio" else find("nginx", "nginx-light", say)
    if kind == "nginx" and nginx is None:
        raise BenchError("nginx is not installed and could not be: install it, or use --target asyncio")
    if nginx is not None:
        argv, name = _nginx_command(nginx, folder, toggles, port), nginx_version(nginx)
    else:
        if kind == "auto":
            say("nginx cannot be had: the target is a small uvloop server, which takes more CPU than nginx would")
        argv, name = [sys.executable, "-m", "bench.asyncio_target", str(port), str(toggles)], "uvloop"
    with (folder / "target.log").open("wb") as log:
        process = spawn(argv, env=env, cwd=root, stdout=log.fileno())
    await_answer(process, port, folder)
    return Target(name, port, toggles, process)


def _nginx_command(nginx: str, folder: Path, toggles: Path, port: int) -> list[str]:
    listens = "\n".join(f"    listen {address}:{port} backlog=4096;" for address in ADDRESSES)
    config = folder / "nginx.conf"
    config.write_text(_NGINX_CONF.format(folder=folder, toggles=toggles, listens=listens), encoding="utf-8")
    return [nginx, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(config)]


def nginx_version(nginx: str) -> str:
    """Its name and version, as it says them."""
    done = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=False, timeout=10)
    return done.stderr.strip().rpartition(": ")[2] or "nginx"


def free_port() -> int:
    """A port that nobody has right now."""
    with socket.socket() as probe:
        probe.bind((ADDRESSES[0], 0))
        return int(probe.getsockname()[1])


def await_answer(process: subprocess.Popen[bytes], port: int, folder: Path, address: str = ADDRESSES[-1]) -> None:
    """Return when the target answers. Raises BenchError when it ends or does not in time."""
    deadline = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BenchError(f"the target ended at once: {(folder / 'target.log').read_text()[-500:].strip()}")
        try:
            socket.create_connection((address, port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise BenchError(f"the target did not answer within {_READY_WITHIN_S:.0f} s")
