"""Every way in which a target fails has a reason of its own, as the API shows it."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from tests.e2e.endpoint import Endpoint
from tests.e2e.stack import Api, Stack, wait_for
from tests.targets import answer, drip, free_port, hang, make_authority, raw, redirect, reset

#: What the target does (a path of the endpoint) → the reason.
ACTS = {
    "an error status": (answer(500), "status_mismatch"),
    "no answer in time": (hang, "timeout"),
    "an endless body": (drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1_000_000, 0), "body_too_large"),
    "a body that trickles": (drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x", 0.1), "timeout"),
    "garbage": (raw(b"\x00\xffthis is not HTTP\r\n\r\n"), "protocol_error"),
    "nothing": (raw(b""), "empty_reply"),
    "a reset": (reset, "connection_reset"),
    "a redirect in a circle": (redirect(302, "/a-redirect-in-a-circle"), "too_many_redirects"),
    "a redirect to the cloud's metadata": (redirect(302, "http://169.254.169.254/"), "egress_denied"),
}
#: Names, as the zones in conftest.py have them. Without canaries and below 20 failing targets DNS silence counts.
HOSTS = {"unknown.test": "dns_not_found", "broken.test": "dns_failed", "mute.test": "dns_timeout"}


def path(name: str) -> str:
    return "/" + name.replace(" ", "-").replace("'", "")


@pytest.fixture(scope="module")
def monitors(stack: Stack, endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """All monitors of this module at once, so that their timeouts pass together: {what: id}."""
    api = stack.api()
    targets = {name: endpoint.url(path(name)) for name in ACTS}
    endpoint.paths.update({path(name): act for name, (act, _) in ACTS.items()})
    targets.update({host: f"http://{host}/" for host in HOSTS})
    targets["refused"] = f"http://127.0.0.1:{free_port()}/"
    targets.update(_tls_targets(endpoint, tmp_path_factory.mktemp("tls")))
    fields = {"timeout_seconds": 1.0, "failure_threshold": 1}
    return {name: api.add_monitor(target, name=name, **fields) for name, target in targets.items()}


def _tls_targets(endpoint: Endpoint, folder: Path) -> dict[str, str]:
    authority = make_authority(folder)
    self_signed = authority.context("127.0.0.1", self_signed=True)
    unknown = authority.context("127.0.0.1")
    no_tls = endpoint.talking(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    return {
        "self-signed": endpoint.also({}, self_signed).url("/"),
        "an unknown authority": endpoint.also({}, unknown).url("/"),
        "no TLS": f"https://127.0.0.1:{no_tls}/",
    }


TABLE = [
    *((name, reason) for name, (_, reason) in ACTS.items()),
    *HOSTS.items(),
    ("refused", "connect_refused"),
    ("self-signed", "tls_certificate_untrusted"),
    ("an unknown authority", "tls_certificate_untrusted"),
    ("no TLS", "tls_handshake"),
]


@pytest.mark.parametrize(("what", "reason"), TABLE, ids=[what for what, _ in TABLE])
def test_a_failing_target_is_down_for_its_own_reason(
    stack: Stack, monitors: dict[str, str], what: str, reason: str
) -> None:
    api, monitor = stack.api(), monitors[what]
    # One that a busy machine made unknown says nothing about the target.
    (result, *_) = wait_for(lambda: api.items(f"/monitors/{monitor}/results?verdict=up,degraded,down"), f"{what}")
    assert (result["verdict"], result["reason"]) == ("down", reason), result["message"]
    incident = api.await_incident(monitor, "open")
    assert incident["cause"]["reason"] == reason
    wait_for(lambda: api.state(monitor)["reason"] == reason, f"the state's reason {reason}")
    assert result["message"]


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest/meta-data", "http://[fe80::1]/"])
def test_a_target_that_may_never_be_reached_is_refused_at_creation(stack: Stack, target: str) -> None:
    api: Api = stack.api()
    body = {"type": "http", "name": "metadata", "target": target}
    response = requests.post(f"{api.url}/v1/monitors", json=body, headers=dict(api.session.headers), timeout=60)
    assert (response.status_code, response.json()["code"]) == (400, "EGRESS_DENIED")
