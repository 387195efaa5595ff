"""Targets with names: a name server that knows them, nginx behind them with and without TLS, and one that hangs.

Every monitor has a name of its own, as in life; names share sixteen loopback addresses, so that thousands of fresh
connections a second do not run out of ports.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.asyncio_target import ADDRESSES
from bench.authority import Authority, make_authority
from bench.packages import find
from bench.plan import BenchError
from bench.stack import ROOT, end
from bench.target import Target, await_answer, free_port, nginx_version
from common.spawn import spawn

ZONE = "bench.test"
#: How long an answer may be kept (seconds): short enough that names are asked for all the time.
TTL_S = 60

_NGINX_CONF = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  default_type application/json;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
{listens}
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    location / {{ return 200 '{{"status": "ok", "db": {{"state": "up", "lag": 3}}}}'; }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Named:
    """What runs: ports by what answers there, and who vouches for the certificate."""

    plain: int
    secure: int
    silent: int
    dns: int
    authority: Authority
    processes: Mapping[str, subprocess.Popen[bytes]]

    def url(self, number: int, *, secure: bool = False, silent: bool = False) -> str:
        """The URL of monitor `number`: a name of its own in one of sixteen zones."""
        scheme, port = ("https", self.secure) if secure else ("http", self.silent if silent else self.plain)
        return f"{scheme}://w{number}.z{number % len(ADDRESSES)}.{ZONE}:{port}/health/{number}"

    def start(self, _kind: str, folder: Path, env: Mapping[str, str], root: Path, say: Callable[[str], None]) -> Target:
        """nginx, as a stack starts its target."""
        nginx = find("nginx", "nginx-light", say)
        if nginx is None:
            raise BenchError("nginx is not installed and could not be: install it")
        folder.mkdir()
        certificate, key = self.authority.certificate(folder, [f"*.z{n}.{ZONE}" for n in range(len(ADDRESSES))])
        listens = "\n".join(
            f"    listen {address}:{self.plain} backlog=4096;\n    listen {address}:{self.secure} ssl backlog=4096;"
            for address in ADDRESSES
        )
        config = folder / "nginx.conf"
        config.write_text(
            _NGINX_CONF.format(folder=folder, listens=listens, certificate=certificate, key=key), encoding="utf-8"
        )
        argv = [nginx, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(config)]
        with (folder / "target.log").open("wb") as log:
            process = spawn(argv, env=env, cwd=root, stdout=log.fileno())
        await_answer(process, self.plain, folder)
        return Target(nginx_version(nginx), self.plain, folder, process)


@contextmanager
def named(folder: Path, env: Mapping[str, str], say: Callable[[str], None]) -> Iterator[Named]:
    """The name server and what hangs, for the length of a scenario; nginx is started with each stack."""
    program = find("dnsmasq", "dnsmasq-base", say)
    if program is None:
        raise BenchError("dnsmasq is not installed and could not be: install dnsmasq-base")
    dns, silent = free_port(), free_port()
    addresses = [f"--address=/z{n}.{ZONE}/{address}" for n, address in enumerate(ADDRESSES)]
    commands = {
        "dnsmasq": [
            program, "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--no-poll",
            "--user=", f"--port={dns}", "--listen-address=127.0.0.1", "--bind-interfaces", "--pid-file=",
            f"--local=/{ZONE}/", f"--local-ttl={TTL_S}", *addresses,
        ],
        "silent": [sys.executable, "-m", "bench.silent_target", str(silent)],
    }  # fmt: skip
    with ExitStack() as undo:
        processes: dict[str, subprocess.Popen[bytes]] = {}
        undo.callback(lambda: end(processes.values()))
        for name, port in (("dnsmasq", dns), ("silent", silent)):
            with (folder / "target.log").open("wb") as log:
                processes[name] = spawn(commands[name], env=env, cwd=ROOT, stdout=log.fileno())
            await_answer(processes[name], port, folder, "127.0.0.1")
        yield Named(free_port(), free_port(), silent, dns, make_authority(), processes)
