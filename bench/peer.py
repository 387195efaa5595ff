"""Prometheus with blackbox_exporter, as people run them: every target scraped through /probe at its interval.

What it held is read from its own database: the samples of probe_success that lie in the window and say 1.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import psutil
import requests

from bench.packages import find
from bench.plan import BenchError, Plan
from bench.processes import MemoryPeaks, read_cpu
from bench.target import Target
from common.spawn import spawn

_READY_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.5
#: The last scrapes are in the database a moment after the window's end.
_GRACE_S = 2.0

_BLACKBOX = """
modules:
  http_2xx:
    prober: http
    timeout: 1s
    http: {{preferred_ip_protocol: ip4}}
"""
_PROMETHEUS = """
global: {{scrape_interval: {interval}s, scrape_timeout: {interval}s}}
scrape_configs:
  - job_name: blackbox
    metrics_path: /probe
    params: {{module: [http_2xx]}}
    file_sd_configs: [{{files: ["{targets}"]}}]
    relabel_configs:
      - {{source_labels: [__address__], target_label: __param_target}}
      - {{source_labels: [__param_target], target_label: instance}}
      - {{target_label: __address__, replacement: "127.0.0.1:{blackbox}"}}
"""


@dataclass(frozen=True, slots=True)
class PeerMeasurement:
    """One window of the peer: checks due and done (an answer in time, success stored), and what they cost."""

    monitors: int
    interval_s: int
    seconds: int
    due: int
    done: int
    failed: int
    cpu_s: dict[str, float]
    memory_peak_mb: dict[str, float]
    versions: dict[str, str]

    @property
    def coverage(self) -> float:
        """Done ÷ due."""
        return self.done / self.due if self.due else 0.0

    @property
    def own_cpu_s(self) -> float:
        """CPU seconds of Prometheus and blackbox_exporter."""
        return self.cpu_s["prometheus"] + self.cpu_s["blackbox_exporter"]

    def as_json(self) -> dict[str, Any]:
        """All numbers, the derived ones too."""
        return {
            **asdict(self),
            "coverage": self.coverage,
            "done_per_s": self.done / self.seconds,
            "checks_per_cpu_s": self.done / self.own_cpu_s if self.own_cpu_s else 0.0,
        }


class Peer:
    """Both processes for one load, in a directory of their own. Use it with `with`, in the main thread."""

    def __init__(
        self, plan: Plan, target: Target, folder: Path, env: Mapping[str, str], say: Callable[[str], None]
    ) -> None:
        self._plan = plan
        self._target = target
        self._folder = folder
        self._env = env
        self._say = say
        self._undo = ExitStack()
        self._session = requests.Session()
        self._session.trust_env = False

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _start(self) -> None:
        programs = {
            "prometheus": find("prometheus", "prometheus", self._say),
            "blackbox_exporter": find("prometheus-blackbox-exporter", "prometheus-blackbox-exporter", self._say),
        }
        missing = [name for name, path in programs.items() if path is None]
        if missing:
            raise BenchError(f"{' and '.join(missing)} cannot be had: install Debian's packages prometheus and "
                             "prometheus-blackbox-exporter, or run another scenario")  # fmt: skip
        self._folder.mkdir(parents=True)
        prometheus, blackbox = str(programs["prometheus"]), str(programs["blackbox_exporter"])
        self.versions = {name: _version(str(path)) for name, path in programs.items()}
        self._port, blackbox_port = _free_port(), _free_port()
        config = self._configure(blackbox_port)
        self._say("starting Prometheus and blackbox_exporter")
        self._processes = {
            "blackbox_exporter": self._spawn(
                [blackbox, f"--config.file={config['blackbox']}", f"--web.listen-address=127.0.0.1:{blackbox_port}"]
            ),
            "prometheus": self._spawn(
                [prometheus, f"--config.file={config['prometheus']}", f"--storage.tsdb.path={self._folder / 'data'}",
                 f"--web.listen-address=127.0.0.1:{self._port}", "--log.level=error"]
            ),
        }  # fmt: skip
        self._await_ready()

    def measure(self, tick: Callable[[str, float], None]) -> PeerMeasurement:
        """Warm up, then one window; `tick` is told what happens and how much of it is done (0 to 1)."""
        pids = {name: process.pid for name, process in self._processes.items()}
        pids["target"] = self._target.process.pid
        peaks = MemoryPeaks()
        self._watch(pids, peaks, self._plan.warmup_s, lambda done: tick("warming up", done))
        before, began = read_cpu(pids), time.time()
        self._watch(pids, peaks, self._plan.seconds, lambda done: tick("measuring", done))
        after, ended = read_cpu(pids), time.time()
        self._watch(pids, peaks, _GRACE_S, lambda _done: None)
        seconds = ended - began
        counted = self._count(f"sum(count_over_time(probe_success[{round(seconds * 1000)}ms]))", ended)
        done = self._count(f"sum(sum_over_time(probe_success[{round(seconds * 1000)}ms]))", ended)
        return PeerMeasurement(
            monitors=self._plan.monitors,
            interval_s=self._plan.interval_s,
            seconds=self._plan.seconds,
            due=self._plan.monitors * self._plan.seconds // self._plan.interval_s,
            done=done,
            failed=counted - done,
            cpu_s={name: round(after.roles[name] - used, 2) for name, used in before.roles.items()},
            memory_peak_mb={name: round(size, 1) for name, size in peaks.peaks_mb.items()},
            versions=self.versions,
        )

    def _configure(self, blackbox_port: int) -> dict[str, Path]:
        targets = self._folder / "targets.json"
        urls = [self._target.url(number) for number in range(self._plan.monitors)]
        targets.write_text(json.dumps([{"targets": urls}]), encoding="utf-8")
        config = {name: self._folder / f"{name}.yml" for name in ("blackbox", "prometheus")}
        config["blackbox"].write_text(_BLACKBOX.format(), encoding="utf-8")
        config["prometheus"].write_text(
            _PROMETHEUS.format(interval=self._plan.interval_s, targets=targets, blackbox=blackbox_port),
            encoding="utf-8",
        )
        return config

    def _spawn(self, argv: list[str]) -> subprocess.Popen[bytes]:
        with (self._folder / f"{Path(argv[0]).name}.log").open("wb") as log:
            process = spawn(argv, env=self._env, cwd=self._folder, stdout=log.fileno())
        self._undo.callback(_end, process)
        return process

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _READY_WITHIN_S
        while time.monotonic() < deadline:
            self._check_alive()
            try:
                if self._session.get(f"http://127.0.0.1:{self._port}/-/ready", timeout=2).ok:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.1)
        raise BenchError(f"Prometheus was not ready within {_READY_WITHIN_S:.0f} s")

    def _check_alive(self) -> None:
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise BenchError(f"{name} ended with status {process.returncode}: see its log in {self._folder}")

    def _watch(
        self, pids: Mapping[str, int], peaks: MemoryPeaks, seconds: float, tick: Callable[[float], None]
    ) -> None:
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            self._check_alive()
            peaks.look(pids, postgres=False)
            tick(passed / seconds)
            time.sleep(max(0.0, min(_LOOK_EVERY_S, seconds - passed)))

    def _count(self, query: str, at: float) -> int:
        answer = self._session.get(
            f"http://127.0.0.1:{self._port}/api/v1/query", params={"query": query, "time": f"{at:.3f}"}, timeout=60
        )
        found = answer.json()["data"]["result"]
        return round(float(found[0]["value"][1])) if found else 0


def _version(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=10)
    words = (done.stdout or done.stderr).split()
    return words[words.index("version") + 1] if "version" in words else "unknown"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except (subprocess.TimeoutExpired, psutil.Error):
        process.kill()
        process.wait()
