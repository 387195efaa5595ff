"""A receiver of webhooks that misbehaves, whichever it is: friendly ones have bad hours too."""

from __future__ import annotations

from tests.chaos.faults.site import InVain, Site
from tests.chaos.receiver import CAPPED, COOLED, FALLBACK, FRIENDLY, GROUPED, HOSTILE
from tests.chaos.world import World


def misbehave(site: Site, treatment: str) -> None:
    """The receiver of groups and one other treat most requests so for a while."""
    paths = (GROUPED, site.chance.choice((*FRIENDLY, FALLBACK, CAPPED, COOLED)))
    with site.during(f"sink-{treatment}", " ".join(paths)):
        try:
            for path in paths:
                site.world.receiver.treat(path, {treatment: 3, "take": 1})
            before = site.world.receiver.mistreated
            site.sleep(site.span())
        finally:
            for path in paths:
                site.world.receiver.treat(path, None)
        if site.world.receiver.mistreated == before:
            raise InVain("nothing was sent there")


def heal(world: World) -> None:
    """All of them take everything, but for the one that never does."""
    for path in (*FRIENDLY, HOSTILE, GROUPED, FALLBACK, CAPPED, COOLED):
        world.receiver.treat(path, None)
