"""Messages to send in tests, and a context to send them in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import uvloop

from common.channels.base import Context, Destination, MailServer, Message, Network
from common.channels.links import Links
from common.channels.registry import CHANNELS
from common.domain.delivery import Attempt
from common.domain.egress import EgressMode, EgressRules
from common.http.engine import HttpEngine
from common.http.resolver import Resolver
from common.store.notifications import Claimed
from common.vault import Vault, generate_key
from notifier.messages import build

NOW = datetime(2026, 8, 1, 12, 0, 0, 123456, tzinfo=UTC)
BASE_URL = "https://tocsin.example"
VAULT = Vault(generate_key())
ORG_ID = str(UUID(int=1))

INCIDENT: dict[str, Any] = {
    "id": str(UUID(int=7)), "monitor_id": str(UUID(int=9)), "source": "monitor", "dedup_key": "monitor:9",
    "title": "Shop is down", "description": "", "severity": "critical", "priority": "P1", "status": "open",
    "opened_at": "2026-08-01T11:58:00+00:00", "acknowledged_at": None, "resolved_at": None,
    "cause": {"reason": "assertion_failed", "message": "status 500", "expected": "200-299", "seen": "500"},
    "labels": {"team": "shop", "k8s.io/pod": "a-1"}, "reopened_from": None, "version": 1,
}  # fmt: skip
MONITOR = {
    "id": str(UUID(int=9)), "key": "shop", "name": "Shop", "type": "http", "target": "https://shop.example/health",
    "severity": "critical", "labels": {"team": "shop"},
}  # fmt: skip

CLAIM = Claimed(
    id=str(UUID(int=3)), org_id=ORG_ID, incident_id=INCIDENT["id"], channel_id=str(UUID(int=5)), event_type="opened",
    number=1, first_attempt_at=NOW, lease_token="t", channel_type="webhook", channel_config={}, channel_secrets=None,
    failures=0, failing_since=None, event_id="e", event_at=NOW, snapshot={"incident": INCIDENT, "monitor": MONITOR},
    correlation_id="c" * 32,
)  # fmt: skip


def claim(event_type: str = "opened", number: int = 0, **incident: Any) -> Claimed:
    """A claimed notification of incident `number`."""
    told = {**INCIDENT, "id": str(UUID(int=7 + number)), **incident}
    return replace(
        CLAIM, event_type=event_type, incident_id=told["id"], snapshot={"incident": told, "monitor": MONITOR}
    )


def message(*claims: Claimed) -> Message:
    """The message of these claims, or of an opening."""
    return build(claims or (CLAIM,))


def send(
    type_: str, destination: Destination, *messages: Message, rules: EgressRules | None = None,
    mail: MailServer | None = None,
) -> list[Attempt]:  # fmt: skip
    """Send messages one after the other on a loop of their own."""

    async def run() -> list[Attempt]:
        with_rules = rules or EgressRules(EgressMode.INTERNAL)
        context = open_context(with_rules, mail)
        attempts = [await CHANNELS[type_].send(one, destination, context) for one in messages or (message(),)]
        context.http.close()  # type: ignore[attr-defined]
        context.network.resolver.close()
        return attempts

    return _run(run())


def send_all(pairs: Sequence[tuple[str, Destination]]) -> list[tuple[Attempt, float]]:
    """Send an opening to all of these at once; each attempt with its seconds."""

    async def one(type_: str, destination: Destination, context: Context) -> tuple[Attempt, float]:
        loop = asyncio.get_running_loop()
        started = loop.time()
        attempt = await CHANNELS[type_].send(message(), destination, context)
        return attempt, loop.time() - started

    async def run() -> list[tuple[Attempt, float]]:
        context = open_context(EgressRules(EgressMode.INTERNAL), None)
        found = await asyncio.gather(*(one(type_, destination, context) for type_, destination in pairs))
        context.http.close()  # type: ignore[attr-defined]
        return list(found)

    return _run(run())


def open_context(rules: EgressRules, mail: MailServer | None) -> Context:
    """A context with the product's own engine, resolver and links."""
    resolver = Resolver()
    engine = HttpEngine(resolver, rules, user_agent="test")
    return Context(engine, lambda: NOW, BASE_URL, Network(resolver, rules), Links(VAULT, BASE_URL), mail)


def _run(coroutine: Any) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)
