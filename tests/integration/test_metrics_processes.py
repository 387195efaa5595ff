"""Metrics of several processes are the sum of all, whichever of them answers."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import requests

from tests.integration.test_api_process import ROOT, environment, free_port
from tests.stack import wait_until


def samples(base: str, name: str) -> list[float]:
    lines = requests.get(f"{base}/metrics", timeout=60).text.splitlines()
    return [float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)]


def test_an_api_of_several_processes_counts_them_together(database_url: str, redis_url: str, tmp_path: Path) -> None:
    port = free_port()
    env = environment(
        database_url,
        redis_url,
        tmp_path,
        TOCSIN_PORT=str(port),
        TOCSIN_API_WORKERS="3",
        TMPDIR=str(tmp_path),
        TOCSIN_RATE_LIMIT_WRITES="0",
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "common.cli", "api"], env=env, cwd=ROOT, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    base, asked = f"http://127.0.0.1:{port}", 0
    counted = 'tocsin_api_requests_total{method="GET",route="/v1/locations",status="401"}'

    def answers() -> bool:
        try:
            return requests.get(f"{base}/livez", timeout=1).ok
        except requests.RequestException:
            return False

    try:
        wait_until(answers, 60, "the API")
        time.sleep(1)  # so that all three are there
        until = time.monotonic() + 60
        while asked < 40 or len(list(tmp_path.glob("tocsin-metrics-*/counter_*.db"))) < 2:
            assert time.monotonic() < until, "one process answered everything: nothing is proved"
            # A connection of its own: whichever process accepts it answers.
            requests.get(f"{base}/v1/locations", timeout=60, headers={"Connection": "close"})
            asked += 1
        assert {tuple(samples(base, counted)) for _ in range(10)} == {(float(asked),)}
        killed = psutil.Process(process.pid).children()
        killed[0].kill()
        wait_until(lambda: len(set(psutil.Process(process.pid).children()) - set(killed)) == 1, 60, "its successor")
        # What it counted is not lost, and nothing that it measured is left behind.
        assert {tuple(samples(base, counted)) for _ in range(10)} == {(float(asked),)}
        assert not list(tmp_path.glob(f"tocsin-metrics-*/gauge_live*_{killed[0].pid}.db"))
        assert samples(base, 'tocsin_build_info{role="api"') == [1.0]
    finally:
        process.terminate()
        process.wait(60)
