"""A receiver of webhooks that misbehaves, whichever it is: friendly ones have bad hours too."""

from __future__ import annotations

from tests.chaos.faults.site import Site
from tests.chaos.receiver import FRIENDLY, HOSTILE
from tests.chaos.world import World


def misbehave(site: Site, treatment: str) -> None:
    """One channel's receiver treats most requests so for a while."""
    path = site.chance.choice(FRIENDLY)
    with site.during(f"sink-{treatment}", path):
        try:
            site.world.receiver.treat(path, {treatment: 3, "take": 1})
            site.sleep(site.span())
        finally:
            site.world.receiver.treat(path, None)


def heal(world: World) -> None:
    """All of them take everything."""
    for path in (*FRIENDLY, HOSTILE):
        world.receiver.treat(path, None)
