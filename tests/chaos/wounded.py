"""A role of the product with wounds: `python -m tests.chaos.wounded <process> <folder> <role>`.

It behaves as the role does until `<folder>/armed/<process>` names a failpoint: then, with the chance given there, it
kills itself with SIGKILL at that point, once, and leaves `<folder>/fell/<pid>` with the failpoint's name. The product
has no such hooks: they are put around its own parts here.
"""

from __future__ import annotations

import importlib
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import common.broker
from common.broker import QueueBroker
from common.domain.delivery import Attempt
from common.process import main
from common.store.engine import Connection, Database
from common.store.notifications import Claimed
from notifier.deliver import Deliverer

#: Where a process can be told to die. A commit's failpoint is of its loop, and only of commits that wrote something.
FAILPOINTS = {
    "scheduler": (
        "before_commit@lease", "after_commit@lease", "before_enqueue", "after_enqueue",
    ),
    "worker": (
        "before_commit@writer", "after_commit@writer", "before_commit@heartbeats", "after_commit@heartbeats",
        "after_fetch", "before_ack", "after_ack",
    ),
    "notifier": (
        "before_commit@relay", "after_commit@relay", "before_commit@claim", "after_commit@claim",
        "before_send", "after_send", "before_commit@settle", "after_commit@settle",
        "before_commit@silences", "after_commit@silences", "before_commit@reminders", "after_commit@reminders",
        "before_commit@cooldowns", "after_commit@cooldowns", "before_commit@maintenance", "after_commit@maintenance",
        "before_commit@acknowledgements", "after_commit@acknowledgements",
        "before_enqueue", "after_enqueue", "after_fetch", "before_ack", "after_ack",
    ),
    "api": (
        "before_commit@api", "after_commit@api", "before_commit@pings", "after_commit@pings",
    ),
}  # fmt: skip

_WROTE = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL"


class Wounds:
    """Knows whether this process is to die, and does it."""

    def __init__(self, process: str, folder: Path) -> None:
        self._order = folder / "armed" / process
        self._fell = folder / "fell"
        self._chance = random.Random(f"{process} {os.getpid()}")
        self._api = process.startswith("api")

    def at(self, point: str) -> None:
        """Die here if that was asked for."""
        if self.armed(point):
            self.fall()

    def fall(self) -> None:
        """Die."""
        note = self._fell / str(os.getpid())
        try:
            self._order.rename(note)  # one of our threads is first, and nobody dies of this order again
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    def armed(self, point: str) -> bool:
        """Whether the order is for this point, and chance wants it now. One failed `stat` when there is none."""
        try:
            wanted, chance = self._order.read_text().split()
        except (FileNotFoundError, ValueError):
            return False
        return wanted == point and self._chance.random() < float(chance)

    def loop(self) -> str:
        """Which of the process's loops the caller is: the name of its thread, without a pool's number."""
        name = threading.current_thread().name.split("_")[0]
        return "api" if self._api and name != "pings" else name


def wound(wounds: Wounds) -> None:
    """Put the failpoints around the product's parts."""
    _wound_commits(wounds)
    _wound_queue(wounds)
    _wound_sends(wounds)


def _wound_commits(wounds: Wounds) -> None:
    begin = Database.begin

    @contextmanager
    def wounded(self: Database, org_id: str = "") -> Iterator[Connection]:
        loop = wounds.loop()
        with begin(self, org_id) as connection:
            yield connection
            before, after = f"before_commit@{loop}", f"after_commit@{loop}"
            dies_before, dies_after = wounds.armed(before), wounds.armed(after)
            wrote = (dies_before or dies_after) and connection.exec_driver_sql(_WROTE).scalar_one()
            if wrote and dies_before:
                wounds.fall()
        if wrote and dies_after:
            wounds.fall()

    _replace(Database, "begin", wounded)


def _wound_queue(wounds: Wounds) -> None:
    enqueue = QueueBroker.enqueue
    consumer: Any = common.broker._Consumer  # nothing public stands between a process and its queue
    ack, fetch = consumer.ack, consumer.__next__

    def wounded_enqueue(self: QueueBroker, message: Any, **options: Any) -> Any:
        wounds.at("before_enqueue")
        answer = enqueue(self, message, **options)
        wounds.at("after_enqueue")
        return answer

    def wounded_ack(self: Any, message: Any) -> None:
        wounds.at("before_ack")
        ack(self, message)
        wounds.at("after_ack")

    def wounded_fetch(self: Any) -> Any:
        message = fetch(self)
        if message is not None:
            wounds.at("after_fetch")
        return message

    _replace(QueueBroker, "enqueue", wounded_enqueue)
    _replace(consumer, "ack", wounded_ack)
    _replace(consumer, "__next__", wounded_fetch)


def _wound_sends(wounds: Wounds) -> None:
    send = Deliverer.send

    async def wounded(self: Deliverer, claim: Claimed) -> Attempt:
        wounds.at("before_send")
        attempt = await send(self, claim)
        wounds.at("after_send")
        return attempt

    _replace(Deliverer, "send", wounded)


def _replace(owner: type, name: str, function: Any) -> None:
    setattr(owner, name, function)


def _write_to(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def run_wounded(process: str, folder: Path, role: str) -> int:
    """Run the role as its own module would; the exit status."""
    _write_to(folder / f"{process}.log")
    wound(Wounds(process, folder))
    return main(role, importlib.import_module(f"{role}.app").run)


if __name__ == "__main__":
    sys.exit(run_wounded(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
