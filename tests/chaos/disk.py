"""A small disk of its own for the servers' data, so that it can be filled without harm to anybody else."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Self

#: What the file system itself may need of it while we take the rest (bytes).
_MARGIN = 1 << 20


class SmallDisk:
    """A file with a file system, mounted at `folder` while used with `with`; only root may do that."""

    def __init__(self, folder: Path, image: Path, size_mb: int) -> None:
        self._folder = folder
        self._image = image
        self._size_mb = size_mb
        self._filler = folder / "filler"
        self.problem = "this run has none"

    def __enter__(self) -> Self:
        self.problem = self._mount()
        return self

    def __exit__(self, *_: object) -> None:
        if not self.problem:
            self.relieve()
            subprocess.run(("umount", "--lazy", str(self._folder)), check=False, capture_output=True)

    def fill(self) -> None:
        """Take all that is left."""
        with self._filler.open("wb", buffering=0) as file, suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(self._folder).free - _MARGIN)
            file.seek(0, os.SEEK_END)
            while True:
                file.write(bytes(4096))

    def free(self) -> int:
        """Bytes that are left of it."""
        return shutil.disk_usage(self._folder).free

    def relieve(self) -> None:
        """Give it back."""
        self._filler.unlink(missing_ok=True)

    def _mount(self) -> str:
        """Why it cannot be had; empty when it is there."""
        if os.geteuid() != 0:
            return "only root can mount one"
        self._folder.mkdir()
        with self._image.open("wb") as file:
            file.truncate(self._size_mb << 20)
        for command in (
            ("mkfs.ext4", "-q", "-m", "0", str(self._image)),
            ("mount", "-o", "loop", str(self._image), str(self._folder)),
        ):
            try:
                done = subprocess.run(command, check=False, capture_output=True, text=True)
            except FileNotFoundError:
                return f"there is no {command[0]}"
            if done.returncode:
                return f"{command[0]}: {done.stderr.strip().splitlines()[-1:]}"
        self._folder.chmod(0o711)
        return ""
