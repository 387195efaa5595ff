"""The long tail (Teams, Discord, Telegram, ntfy, Opsgenie …): one Apprise URL, sent by a process of its own.

Apprise's hundred plugins are given a URL that a user wrote. They run where they can do no harm: a child without our
environment, files or database, that can be killed at the deadline and judges every address at the connection itself
(apprise_child.py). A thread could not be killed, and would keep what the URL's host makes it hold.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from common.channels.base import Context, Destination, Message, Unsendable, text_of
from common.channels.http import judge_status, retry_after_s
from common.channels.settings import ChannelSettings, Secret
from common.channels.story import Story, headline, tell
from common.clock import monotonic_s
from common.domain.delivery import SEND_DEADLINE_S, Attempt, Outcome, Poison
from common.domain.egress import EgressRules
from common.domain.errors import FieldError

#: Children at a time, in all and for one channel: a receiver that hangs holds up itself only.
_CHILDREN = 8
_CHILDREN_PER_CHANNEL = 2

_SCHEME = re.compile(r"[a-z][a-z0-9]{1,30}://\S+")
_LISTED = 20
_KINDS: Mapping[str, str] = {"resolved": "success", "acknowledged": "info"}

#: Nothing of ours: no keys, no database, no proxies.
_ENVIRONMENT = {"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"}


class AppriseSettings(ChannelSettings):
    """An Apprise URL (github.com/caronc/apprise lists them); it is the secret."""

    LEADS: ClassVar[frozenset[str]] = frozenset()

    url: Secret

    def problems(self) -> Iterator[FieldError]:
        """One URL; whether Apprise knows its scheme shows when the channel is tried."""
        if not _SCHEME.fullmatch(self.url):
            yield FieldError("url", "must be one Apprise URL, like ntfy://topic or discord://id/token")


class AppriseChannel:
    """`secrets.url` is everything."""

    settings = AppriseSettings
    keeps_incidents = False

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_CHILDREN, thread_name_prefix="apprise")
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def send(self, message: Message, destination: Destination, context: Context) -> Attempt:
        """Have a child send it, and judge what it reports."""
        url = text_of(destination.secrets, "url")
        stories = tell(message, destination.channel_id, context)
        kind = _KINDS.get(stories[0].event_type, "failure") if len(stories) == 1 else "warning"
        job = {
            "url": url,
            "title": headline(stories),
            "body": _text(stories),
            "kind": kind,
            "rules": _rules(context.network.rules),
        }
        report = await self._in_child(job, destination.channel_id)
        return report if isinstance(report, Attempt) else _judge(report, context)

    async def _in_child(self, job: dict[str, Any], channel_id: str) -> dict[str, Any] | Attempt:
        deadline = monotonic_s() + SEND_DEADLINE_S
        turn = self._turns.setdefault(channel_id, asyncio.Semaphore(_CHILDREN_PER_CHANNEL))
        try:
            async with asyncio.timeout(SEND_DEADLINE_S), turn:
                future = self._threads.submit(_run, job, deadline)
                try:
                    return await asyncio.wrap_future(future)
                finally:
                    future.cancel()
        except TimeoutError:
            return Attempt(Outcome.FAILED, error="timeout: too many messages are being sent this way")


def _run(job: dict[str, Any], deadline: float) -> dict[str, Any] | Attempt:
    """Run a child to its end, in a thread; it is killed when its time is over."""
    # A moment before the one who waits gives up, so that it learns whether anything may have been sent.
    left_s = deadline - monotonic_s() - 0.5
    if left_s <= 1.0:
        return Attempt(Outcome.FAILED, error="timeout: too many messages are being sent this way")
    command = [sys.executable, "-I", "-m", "common.channels.apprise_child"]
    given = json.dumps({**job, "seconds": left_s}).encode()
    try:
        child = subprocess.run(  # noqa: S603 - our own module
            command, input=given, capture_output=True, timeout=left_s, env=_ENVIRONMENT, check=False
        )
    except subprocess.TimeoutExpired:
        return Attempt(Outcome.UNKNOWN, error="timeout: the service did not answer in time")
    try:
        report: dict[str, Any] = json.loads(child.stdout)
    except ValueError:
        # Killed by one of its limits, or a bug of ours: what it wrote to stderr may hold the URL.
        return Attempt(Outcome.UNKNOWN, error=f"internal: the sending process ended with status {child.returncode}")
    return report


def _judge(report: dict[str, Any], context: Context) -> Attempt:
    """What a child reports: {"sent", "status", "retry_after", "trouble"}; the last answer decides when it failed."""
    status, trouble = report.get("status"), str(report.get("trouble") or "")
    if report.get("sent") is True:
        return Attempt(Outcome.DELIVERED, status)
    if trouble == "unknown_url":
        raise Unsendable(Poison.CHANNEL_INVALID, "Apprise does not understand the channel's URL")
    if trouble == "egress_denied":
        return Attempt(Outcome.FAILED, error="egress_denied: the egress policy does not allow this host")
    if trouble == "silent":
        return Attempt(Outcome.UNKNOWN, error="timeout: the service did not answer in time")
    if trouble == "unsure":
        return Attempt(Outcome.UNKNOWN, error="the connection broke before there was an answer")
    if isinstance(status, int) and status >= 300:
        return judge_status(status, retry_after_s(report.get("retry_after"), context.now()))
    return Attempt(Outcome.FAILED, status, "the service did not take it" if status else "no connection to the service")


def _rules(rules: EgressRules) -> dict[str, Any]:
    return {
        "mode": rules.mode.value,
        "allow": [str(network) for network in rules.allow],
        "deny": [str(network) for network in rules.deny],
    }


def _text(stories: list[Story]) -> str:
    parts = [_card(story, alone=len(stories) == 1) for story in stories[:_LISTED]]
    if len(stories) > _LISTED:
        parts.append(f"… and {len(stories) - _LISTED} more")
    return "\n\n".join(parts)


def _card(story: Story, *, alone: bool) -> str:
    lines = [] if alone else [story.headline]
    lines += [f"{name}: {value}" for name, value in story.facts]
    lines.append(f"Incident: {story.link}")
    if story.acknowledge:
        lines.append(f"Acknowledge: {story.acknowledge}")
    return "\n".join(lines)
