"""The notifier's process with one wound: `python -m tests.notifier_driver <failpoint> <mark>`.

It kills itself with SIGKILL at the failpoint, once: the mark is a file that says that it has happened.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from common.domain.delivery import Attempt
from common.process import main
from common.store.notifications import Claimed
from common.store.settlements import Settlement
from notifier.app import run
from notifier.deliver import Deliverer

POINT, MARK = sys.argv[1], Path(sys.argv[2])


def die(at: str) -> None:
    if at == POINT and not MARK.exists():
        MARK.touch()
        os.kill(os.getpid(), signal.SIGKILL)


class Wounded(Deliverer):
    def claim(self, ids: Sequence[str] | None) -> list[Claimed]:
        if ids is not None:
            die("before_claim")
        claims = super().claim(ids)
        if claims:
            die("after_claim")
        return claims

    async def send(self, claim: Claimed) -> Attempt:
        attempt = await super().send(claim)
        die("after_send")
        return attempt

    async def settle(self, settlement: Settlement) -> bool:
        die("before_settle")
        more = await super().settle(settlement)
        die("after_settle")
        return more


if __name__ == "__main__":
    sys.exit(main("notifier", lambda settings, stop: run(settings, stop, Wounded)))
