"""One engine from the settings, for every process that sends to an address a user gave."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from common.domain.egress import EgressMode, EgressRules
from common.http.engine import HttpEngine
from common.http.resolver import Resolver
from common.settings import Settings

USER_AGENT = "Tocsin/0.1"


@dataclass(frozen=True, slots=True)
class WayOut:
    """The engine with what it works by, for protocols that connect themselves."""

    engine: HttpEngine
    resolver: Resolver
    rules: EgressRules


def egress_rules(settings: Settings) -> EgressRules:
    """The operator's egress policy."""
    return EgressRules(
        EgressMode(settings.egress),
        allow=tuple(ipaddress.ip_network(cidr) for cidr in settings.egress_allow_networks),
        deny=tuple(ipaddress.ip_network(cidr) for cidr in settings.egress_deny_networks),
    )


def way_out(settings: Settings, *, max_handles: int) -> WayOut:
    """An engine for the loop that uses it first, with at most `max_handles` requests under way."""
    rules = egress_rules(settings)
    resolver = Resolver(settings.dns_server_list)
    return WayOut(HttpEngine(resolver, rules, user_agent=USER_AGENT, max_handles=max_handles), resolver, rules)
