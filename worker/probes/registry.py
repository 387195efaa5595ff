"""The index of protocols: a new one is one file beside this and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from worker.probes import dns, http, icmp, postgres, redis, smtp, tcp, tls, websocket
from worker.probes.base import Probe

#: Monitor type → its probe.
PROBES: Mapping[str, Probe] = MappingProxyType(
    {
        "http": http.probe,
        "tcp": tcp.probe,
        "tls": tls.probe,
        "dns": dns.probe,
        "icmp": icmp.probe,
        "websocket": websocket.probe,
        "smtp": smtp.probe,
        "postgres": postgres.probe,
        "redis": redis.probe,
    }
)
