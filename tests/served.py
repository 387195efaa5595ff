"""The real API of a `world` over HTTP, and the `tocsin` command as its users run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

ROOT = Path(__file__).parents[1]


class _Quiet(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        pass


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    """The app on a free port; its URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(60)
        server.server_close()


@dataclass
class Shell:
    """Runs `tocsin` in a home of its own, with what it has in its environment and nothing else."""

    home: Path
    environment: dict[str, str]

    def __call__(self, *words: str, feed: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """The command to its end; `feed` is its standard input, which is no terminal."""
        return subprocess.run(
            [sys.executable, "-m", "common.cli", *words],
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), **self.environment, **environment},
            cwd=ROOT,
            input=feed,
            text=True,
            capture_output=True,
            timeout=100,
            check=False,
        )

    def json(self, *words: str, feed: str = "") -> Any:
        """What it says to programs; it has to succeed."""
        done = self(*words, "--json", feed=feed)
        assert done.returncode == 0, f"{words}: {done.returncode} {done.stderr}"
        return json.loads(done.stdout)

    def fails(self, *words: str, feed: str = "", **environment: str) -> tuple[int, str]:
        """Exit status and the one line that it says."""
        done = self(*words, feed=feed, **environment)
        assert done.returncode != 0, f"{words} succeeded: {done.stdout}"
        *beside, line = done.stderr.splitlines() or [""]
        assert line.startswith("tocsin"), done.stderr
        assert not any(one.startswith(("Traceback", "tocsin")) for one in beside), done.stderr
        return done.returncode, line
