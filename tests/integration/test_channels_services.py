"""Out to a real Alertmanager, and Apprise's long tail at work under restraint."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from bench.packages import find
from common.channels.apprise import AppriseChannel
from common.channels.base import Destination, Unsendable
from common.domain.delivery import Outcome
from common.domain.egress import EgressMode, EgressRules
from tests.integration.test_alertmanager_peer import free_ports, program
from tests.receivers import AppriseReceiver
from tests.sink import Answer, Sink
from tests.stack import wait_until
from tests.telling import INCIDENT, claim, message, open_context, send

_CONFIGURATION = """
route: {{receiver: ours, group_wait: 0s, group_interval: 1s, group_by: [incident_id]}}
receivers: [{{name: ours, webhook_configs: [{{url: "{url}", send_resolved: true}}]}}]
"""


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


@pytest.fixture
def alertmanager(tmp_path: Path, sink: Sink) -> Iterator[str]:
    """A real one, which tells the sink; its URL."""
    binary = find("prometheus-alertmanager", "prometheus-alertmanager", print)
    if binary is None:
        pytest.skip("Debian's package prometheus-alertmanager is not installed")
    (tmp_path / "am.yml").write_text(_CONFIGURATION.format(url=sink.url("/am")))
    (port,) = free_ports(1)
    arguments = [
        binary, "--config.file=am.yml", "--storage.path=am", "--cluster.listen-address=",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with program(arguments, port, tmp_path):
        yield f"http://127.0.0.1:{port}"


def _alerts(url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = requests.get(f"{url}/api/v2/alerts", timeout=60).json()
    return found


def _told(sink: Sink) -> list[tuple[str, str]]:
    """(incident, status) of every alert that Alertmanager's own receiver was told."""
    return [
        (alert["labels"]["incident_id"], alert["status"])
        for request in sink.received
        for alert in request.json["alerts"]
    ]


def test_a_real_alertmanager_fires_and_resolves_what_it_is_told(alertmanager: str, sink: Sink) -> None:
    where = Destination(str(uuid4()), {"url": alertmanager}, {})
    first, second = claim("opened", 1), claim("opened", 2)
    (attempt,) = send("alertmanager", where, message(first, second))
    assert (attempt.outcome, attempt.status_code) == (Outcome.DELIVERED, 200)
    wait_until(lambda: len(set(_told(sink))) >= 2, 60, "two alerts")
    # It tells it again where it heard no answer in time.
    assert set(_told(sink)) == {(one.incident_id, "firing") for one in (first, second)}
    shown = {alert["labels"]["incident_id"]: alert for alert in _alerts(alertmanager)}
    assert shown.keys() == {first.incident_id, second.incident_id}
    one = shown[first.incident_id]
    assert one["labels"]["alertname"] == "Shop" and one["labels"]["severity"] == "critical"
    assert one["startsAt"].startswith("2026-08-01T11:58:00") and one["endsAt"] > "2027"
    assert one["generatorURL"] == f"https://tocsin.example/v1/incidents/{first.incident_id}"
    assert one["annotations"]["cause"] == "status 500"

    ended = claim("resolved", 1, status="resolved", resolved_at="2026-08-01T12:00:00+00:00")
    (attempt,) = send("alertmanager", where, message(ended))
    assert attempt.outcome is Outcome.DELIVERED
    wait_until(lambda: (first.incident_id, "resolved") in _told(sink), 60, "the end of the first")
    assert [alert["labels"]["incident_id"] for alert in _alerts(alertmanager)] == [second.incident_id]


def test_a_real_alertmanager_sees_an_escalation_as_one_alert_that_got_worse(alertmanager: str) -> None:
    where = Destination(str(uuid4()), {"url": alertmanager}, {})
    send("alertmanager", where, message(claim("opened", severity="warning")))
    assert [alert["labels"]["severity"] for alert in _alerts(alertmanager)] == ["warning"]
    milder = {**INCIDENT, "severity": "warning", "monitor": "Shop"}
    (attempt,) = send("alertmanager", where, message(replace(claim("escalated"), earlier=[milder])))
    assert attempt.outcome is Outcome.DELIVERED

    def severities() -> list[str]:
        return [alert["labels"]["severity"] for alert in _alerts(alertmanager)]

    wait_until(lambda: severities() == ["critical"], 60, "the worse one alone")


def _apprise(url: str, **options: Any) -> Any:
    return send("apprise", Destination(str(uuid4()), {}, {"url": url}), **options)[0]


def test_apprise_speaks_a_services_own_language(sink: Sink) -> None:
    attempt = _apprise(f"ntfy://127.0.0.1:{sink.port}/alerts")
    assert (attempt.outcome, attempt.status_code) == (Outcome.DELIVERED, 200)
    (received,) = sink.received
    assert (received.json["topic"], received.json["title"]) == ("alerts", "Opened: Shop is down")
    assert f"/v1/incidents/{INCIDENT['id']}" in received.json["message"]


def test_apprise_tells_a_refusal_from_a_failure_by_the_services_answer(sink: Sink) -> None:
    # Even where the URL calls every failure a success.
    url = f"ntfy://127.0.0.1:{sink.port}/alerts?optional=yes"
    for status, outcome in ((404, Outcome.REJECTED), (500, Outcome.FAILED), (302, Outcome.REJECTED)):
        sink.default["/"] = Answer(status, {"Location": "/elsewhere"})
        attempt = _apprise(url)
        assert (attempt.outcome, attempt.status_code) == (outcome, status)
    assert [received.path for received in sink.received] == ["/"] * 3


@pytest.mark.parametrize("url", ["nosuchservice://x", "json://", "discord://"])
def test_a_url_that_apprise_does_not_understand_can_never_be_sent_to(url: str) -> None:
    with pytest.raises(Unsendable):
        _apprise(url)


@pytest.mark.parametrize(
    "url",
    [
        "json://169.254.169.254/latest",
        "json://2852039166/latest",
        "json://[::ffff:169.254.169.254]/latest",
        "rsyslog://169.254.169.254",  # UDP
    ],
)
def test_apprise_reaches_no_address_that_is_denied(url: str) -> None:
    assert _apprise(url).error.startswith("egress_denied")


def test_apprise_is_held_to_the_policy_at_the_connection_itself(sink: Sink) -> None:
    """By name, too: what the name means is judged when it is connected to."""
    for host in ("localhost", "127.0.0.1"):
        attempt = _apprise(f"json://{host}:{sink.port}/", rules=EgressRules(EgressMode.PUBLIC))
        assert attempt.error.startswith("egress_denied")
    assert sink.received == []


def test_apprise_reads_no_file_and_writes_to_no_local_service(tmp_path: Path, sink: Sink) -> None:
    secret = tmp_path / "keys.json"
    secret.write_text('{"text": "c4n4ry"}')
    # A plugin that sends a file of the user's choice as its message.
    assert _apprise(f"workflows://127.0.0.1:{sink.port}/wf/signature/?template={secret}").outcome is Outcome.FAILED
    assert not any(b"c4n4ry" in received.body for received in sink.received)
    with pytest.raises(Unsendable):
        _apprise("syslog://")


def test_apprise_sends_in_a_process_without_our_environment(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    started: list[dict[str, Any]] = []
    original = subprocess.run

    def run(*arguments: Any, **options: Any) -> Any:
        started.append({"arguments": arguments, **options})
        return original(*arguments, **options)

    monkeypatch.setattr(subprocess, "run", run)
    assert _apprise(f"json://127.0.0.1:{sink.port}/c4n4ry").outcome is Outcome.DELIVERED
    (one,) = started
    assert one["env"].keys() == {"LANG", "PATH"}
    # The URL is a secret: not on the command line, where everybody on the machine sees it.
    assert "c4n4ry" not in repr(one["arguments"]) and b"c4n4ry" in one["input"]


def test_a_receiver_that_hangs_holds_up_no_other_apprise_channel(sink: Sink) -> None:
    sink.default["/hangs"] = Answer(wait_s=60)
    channel, hung = AppriseChannel(), str(uuid4())
    others: list[Outcome] = []

    async def one(path: str, channel_id: str) -> Outcome:
        where = Destination(channel_id, {}, {"url": f"json://127.0.0.1:{sink.port}/{path}"})
        attempt = await channel.send(message(), where, open_context(EgressRules(EgressMode.INTERNAL), None))
        return attempt.outcome

    async def run() -> None:
        hanging = [asyncio.ensure_future(one("hangs", hung)) for _ in range(12)]
        await asyncio.sleep(0.2)
        others.extend([await one("fine", str(uuid4())) for _ in range(3)])
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)

    asyncio.run(run())
    # Whoever waited for one that hangs would be given up together with it.
    assert others == [Outcome.DELIVERED] * 3


def test_the_receivers_contract_is_the_apprise_json_one(sink: Sink) -> None:
    with AppriseReceiver() as receiver:
        send("apprise", receiver.destination)
        (body,) = (json.loads(one) for one in receiver.messages)
    assert body["type"] == "failure"
