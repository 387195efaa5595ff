"""Connections that break, answers that get lost, silence, delay, and bytes that come one by one."""

from __future__ import annotations

from tests.chaos import proxy
from tests.chaos.faults.site import InVain, Site

LINKS = ("postgres", "redis", "sink", "api")


def reset(site: Site, link: str = "") -> None:
    """Connections are reset after some bytes, in the middle of whatever they carry."""
    _badly(site, "net-reset", proxy.RESET_AFTER(site.chance.choice((100, 2_000, 50_000))), link)


def lose_replies(site: Site, link: str = "") -> None:
    """What was asked for happens, but who asked never hears of it."""
    _badly(site, "net-lost-replies", proxy.LOSE_REPLIES, link, longest_s=5.0)


def blackhole(site: Site, link: str = "") -> None:
    """Nothing comes through, and nobody says so."""
    _badly(site, "net-blackhole", proxy.BLACKHOLE, link)


def latency(site: Site, link: str = "") -> None:
    """200 ± 100 ms each way."""
    _badly(site, "net-latency", proxy.LATENCY(0.2, 0.1), link)


def slices(site: Site, link: str = "") -> None:
    """One byte at a time."""
    _badly(site, "net-slices", proxy.SLICE, link)


def refuse(site: Site, link: str = "") -> None:
    """Nobody listens."""
    _badly(site, "net-refuse", proxy.REFUSE, link)


def cut(site: Site, link: str = "") -> None:
    """All connections are reset at once."""
    link = link or site.chance.choice(LINKS)
    gate = site.world.proxies[link]
    before = gate.touched
    gate.cut()
    if gate.touched == before:
        raise InVain(f"{link} had no connection")
    site.moment("net-cut", link)


def _badly(site: Site, name: str, mode: proxy.Mode, link: str, *, longest_s: float = 60.0) -> None:
    link = link or site.chance.choice(LINKS)
    gate, span = site.world.proxies[link], min(site.span(), longest_s)
    with site.during(name, link, f"{span:.1f} s"):
        before = gate.touched
        try:
            gate.mode(mode)
            site.sleep(span)
        finally:
            gate.mode(proxy.PASS)
        if gate.touched == before:
            raise InVain(f"nothing went through {link}")
