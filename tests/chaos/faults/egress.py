"""A worker that loses its own network, names included, while its targets live: nothing may be judged, or told.

The other worker goes on. Network, here, is what its checks, its canary and its name server need; PostgreSQL and Redis
are still there, as on a machine whose uplink is gone.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from common.domain.checks import Reason
from tests.chaos.faults.shims import restart_with, shim, without
from tests.chaos.faults.site import InVain, Site

#: Longer than a check may take: a few have to run out of time.
_LEAST_S = 5.0
_CALLS = 3
_LINGERS_S = 2.5

_BLAMED_US = "SELECT count(*) FROM results WHERE reason = %s"


def unreachable(site: Site) -> None:
    """There is no route any more."""
    _lose(site, "egress-unreachable", "unreachable")


def mute(site: Site) -> None:
    """Packets vanish."""
    with _nobody_answers() as port:
        _lose(site, "egress-mute", str(port))
        site.sleep(_LINGERS_S)  # nobody refuses what still knocks there


def _lose(site: Site, fault: str, how: str) -> None:
    world = site.world
    living = world.fleet.living("worker")
    if not living:
        raise InVain("no worker runs")
    name = site.chance.choice(living)
    order = world.kept / f"{name}.egress"
    library = shim(world.kept, "no_way_out")
    with site.during("restart", name):
        restart_with(site, name, library, CHAOS_EGRESS=str(order))
    try:
        with site.during(fault, name):
            before = _blamed_us(site)
            order.write_text(f"{how} {' '.join(map(str, world.endpoint_ports))}\n")
            site.sleep(max(_LEAST_S, site.span()))
            order.unlink()
            if _blamed_us(site) == before:
                raise InVain(f"{name} had nothing to check meanwhile")
    finally:
        order.unlink(missing_ok=True)
        without(site, name, CHAOS_EGRESS=None)


def _blamed_us(site: Site) -> int:
    """How many results say that the worker's own network failed."""
    with site.world.database() as connection:
        row = connection.execute(_BLAMED_US, (Reason.WORKER_NETWORK.value,)).fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def _nobody_answers() -> Iterator[int]:
    """A port on which a connection is never made: its queue is full, and the kernel drops what comes."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(_CALLS):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
