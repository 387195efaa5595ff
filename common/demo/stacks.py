"""The stack that the demo plays on: the one that runs in this data directory, or a temporary one."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from common.demo.api import Api, Away, DemoFailed
from common.domain.errors import StackError
from common.settings import Settings, child_environment
from common.spawn import spawn
from common.up import stack_file

_START_WITHIN_S = 90.0
_STOP_WITHIN_S = 35.0


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack that answers."""

    url: str
    database_url: str = field(repr=False)
    temporary: bool = False


def find(settings: Settings) -> Stack | None:
    """The stack that `tocsin up` runs in this data directory, if it really answers."""
    try:
        said = json.loads(stack_file(settings.data_dir).read_text(encoding="utf-8"))
        found = Stack(said["url"], said["database_url"])
        return found if Api(found.url).get("/ready")["status"] == "ready" else None
    except PermissionError as error:
        raise StackError(f"{error.filename} belongs to another user: run the demo as the one who runs Tocsin") from None
    except (OSError, ValueError, KeyError, TypeError, Away, DemoFailed):
        return None  # none there, or only what a killed one left behind


@contextmanager
def temporary(console: Console) -> Iterator[Stack]:
    """A stack of our own in a directory of its own; both are gone afterwards. Raises StackError."""
    folder = Path(tempfile.mkdtemp(prefix="tocsin-demo-"))
    folder.chmod(0o711)  # the database's user has to pass through
    # Defaults only: with the settings around us it might reach somebody's real database.
    settings = Settings(data_dir=folder / "data", port=_free_port(), workers=1, log_format="json", log_level="warning")
    try:
        with _running(settings, folder, console) as stack:
            yield stack
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(settings: Settings, folder: Path, console: Console) -> Iterator[Stack]:
    said = folder / "up.log"
    with said.open("wb") as log:
        argv = [sys.executable, "-m", "common.cli", "up"]
        child = spawn(argv, env=child_environment(settings), stdout=log.fileno(), cwd=folder)
    try:
        started = time.monotonic()
        stack = _await_ready(settings, said, child, console)
        console.print(f"[dim]started a temporary stack in {time.monotonic() - started:.1f} s[/dim]", highlight=False)
        yield stack
    finally:
        with console.status("stopping the temporary stack"):
            _stop(child)


def _await_ready(settings: Settings, said: Path, child: subprocess.Popen[bytes], console: Console) -> Stack:
    deadline = time.monotonic() + _START_WITHIN_S
    last = ""
    with console.status("starting a temporary stack") as status:
        while time.monotonic() < deadline:
            last = _last_line(said) or last
            if child.poll() is not None:
                raise StackError(f"the temporary stack did not start: {last.removeprefix('tocsin up: ')}")
            if found := find(settings):
                return Stack(found.url, found.database_url, temporary=True)
            status.update(f"starting a temporary stack  [dim]{last}[/dim]")
            time.sleep(0.05)
    raise StackError(f"the temporary stack was not ready within {_START_WITHIN_S:.0f} s: {last}")


def _last_line(said: Path) -> str:
    lines = said.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip() and line[0] not in "{╭│╰"), "")


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        child.kill()  # its children hear of it from the kernel
        child.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
