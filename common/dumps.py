"""A database as one file, and back again: by PostgreSQL's own pg_dump, pg_restore and psql."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from psycopg.pq import Conninfo

from common.domain.errors import StackError
from common.embedded_programs import client_program
from common.store import restoring
from common.store.engine import Database, DatabaseRole

#: What pg_restore of 17 and newer tells every server, and servers before 17 refuse; within the script's first lines.
_TOO_NEW = b"SET transaction_timeout = 0;\n"
_HEAD_LINES = 50

_PIECE_BYTES = 1 << 20


def dump(url: str, file: Path, *, skip: Sequence[str] = ()) -> int:
    """Write a database to a file that only its owner may read, whole or not at all; its bytes. Raises StackError."""
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise StackError(f"{file} cannot be written ({error.strerror})") from error
    try:
        left_out = [f"--exclude-table-data=public.{name}" for name in skip]
        line = [_program("pg_dump"), "--no-password", "--format=custom", f"--file={unfinished}", *left_out]
        done = subprocess.run(line, env=environment(url), stderr=subprocess.PIPE, check=False)  # noqa: S603 - our words
        if done.returncode:
            raise StackError(f"pg_dump failed: {_first_line(done.stderr)}")
        size = unfinished.stat().st_size
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
    return size


def fill(url: str, file: Path) -> None:
    """Restore a file in one transaction into a database without a schema. Raises StackError."""
    database = Database(url, DatabaseRole.OWNER, application="restore", pool_size=1)
    try:
        restoring.make_roles(database)
    finally:
        database.dispose()
    reads = [_program("pg_restore"), "--file=-", str(file)]
    writes = [_program("psql"), "--no-password", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
    with (
        tempfile.TemporaryFile() as read_said,
        tempfile.TemporaryFile() as written_said,
        subprocess.Popen(reads, stdout=subprocess.PIPE, stderr=read_said) as reader,  # noqa: S603 - our words
        subprocess.Popen(  # noqa: S603 - the same
            writes, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=written_said, env=environment(url)
        ) as writer,
    ):
        heard = _replay(reader, writer)
        # Who stopped listening had a reason; who spoke to them failed by that alone.
        if heard and reader.wait():
            raise _failure("pg_restore", read_said)
        if writer.wait() or not heard:
            raise _failure("psql", written_said)


def _replay(reader: subprocess.Popen[bytes], writer: subprocess.Popen[bytes]) -> bool:
    """The script from one to the other; false when the other stopped listening.

    psql rolls back what has no COMMIT at the end, and that is said only when pg_restore has read the whole file.
    """
    assert reader.stdout is not None
    assert writer.stdin is not None
    try:
        writer.stdin.write(b"BEGIN;\n")
        _copy(reader.stdout, writer.stdin)
        if reader.wait() == 0:
            writer.stdin.write(b"COMMIT;\n")
        writer.stdin.close()
    except BrokenPipeError:
        reader.stdout.close()
        with suppress(BrokenPipeError):
            writer.stdin.close()
        return False
    return True


def _copy(script: IO[bytes], into: IO[bytes]) -> None:
    for _, line in zip(range(_HEAD_LINES), script, strict=False):
        if line != _TOO_NEW:
            into.write(line)
    shutil.copyfileobj(script, into, _PIECE_BYTES)


def environment(url: str) -> Mapping[str, str]:
    """A connection URL as libpq's environment variables: a password on the command line is seen by all."""
    given = Conninfo.parse(url.encode())
    return {option.envvar.decode(): option.val.decode() for option in given if option.envvar and option.val}


def _program(name: str) -> str:
    path = client_program(name) or shutil.which(name)
    if path is None:
        raise StackError(f"{name} is not installed: it comes with PostgreSQL's client programs")
    return str(path)


def _failure(name: str, said: IO[bytes]) -> StackError:
    said.seek(0)
    return StackError(f"{name} failed: {_first_line(said.read())}")


def _first_line(said: bytes) -> str:
    return next((line for line in said.decode(errors="replace").splitlines() if line.strip()), "no message")
