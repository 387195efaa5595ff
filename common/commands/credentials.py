"""The remembered login: one file, readable by its owner only, changed under a lock.

A refresh token is good once. Two commands that used the same one would look like a theft, and the server would end the
session: who refreshes holds the lock and looks first whether another command has done it.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from common.exit_status import CommandError
from common.keys import write_private

_FILE = "credentials.json"


@dataclass(frozen=True, slots=True)
class Login:
    """An API and by what to be let in: an API key, or the tokens of a session."""

    url: str
    api_key: str = field(default="", repr=False)
    access_token: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)

    @property
    def token(self) -> str:
        """What to send."""
        return self.api_key or self.access_token


class Store:
    """The file in the directory of commands' settings."""

    def __init__(self, config_dir: Path) -> None:
        self._directory = config_dir
        self.path = config_dir / _FILE

    def read(self) -> Login | None:
        """The login, if there is one. Raises CommandError for a file that others can read, or that is none."""
        document = read_private(self.path)
        if document is None:
            return None
        values = {name: str(document.get(name, "")) for name in Login.__slots__}
        if not values["url"]:
            raise CommandError(f"{self.path} is not what `tocsin login` writes: log in again")
        return Login(**values)

    def write(self, login: Login) -> None:
        """Remember it. Raises CommandError."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private(self.path, {name: value for name, value in asdict(login).items() if value})
        except OSError as error:
            raise CommandError(f"the login cannot be kept in {self.path}: {error.strerror}") from None

    def forget(self) -> None:
        """Remove it."""
        self.path.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with the file."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self._directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CommandError(f"{self._directory} cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def read_private(path: Path) -> dict[str, object] | None:
    """A JSON object out of a file that only its owner can read; None where there is none.

    Raises CommandError for one that others can read or may have written: its content would decide where secrets go.
    """
    try:
        with path.open(encoding="utf-8") as file:
            found = os.fstat(file.fileno())
            if stat.S_IMODE(found.st_mode) & 0o077:
                raise CommandError(f"others can read {path}: chmod 600 {path}, and change what is in it")
            if found.st_uid not in (os.geteuid(), 0):
                raise CommandError(f"{path} belongs to somebody else: it is not used")
            document = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise CommandError(f"{path} belongs to another user") from None
    except (OSError, ValueError):
        raise CommandError(f"{path} cannot be read as JSON: remove it and log in again") from None
    return document if isinstance(document, dict) else {}
