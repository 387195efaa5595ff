"""Mail over a real SMTP server: TLS, passwords, threads, whose server it is, and what a half-refused mail means."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.channels import smtp
from common.channels.base import Destination, MailServer, Unsendable
from common.domain.delivery import Attempt, Outcome
from common.domain.egress import EgressMode, EgressRules
from tests.certificate import make_certificate
from tests.receivers import Behaviour, MailReceiver
from tests.telling import INCIDENT, claim, message, send


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(certificate: tuple[Path, Path]) -> Iterator[MailReceiver]:
    with MailReceiver(certificate) as server:
        yield server


@pytest.fixture
def plain_server(certificate: tuple[Path, Path]) -> Iterator[MailReceiver]:
    with MailReceiver(certificate, starttls=False) as server:
        yield server


def told(server: MailReceiver, *claims: Any, **config: Any) -> Attempt:
    where = server.destination
    wanted = {name: value for name, value in {**where.config, **config}.items() if value is not None}
    (attempt,) = send("email", replace(where, config=wanted), message(*claims))
    return attempt


def test_a_mail_says_what_happened_in_text_and_html(server: MailReceiver) -> None:
    assert told(server, claim("opened", title="Shop & <b>more</b> is down")).outcome is Outcome.DELIVERED
    (mail,) = server.parsed()
    assert mail["Subject"] == "[critical] Opened: Shop & <b>more</b> is down"
    assert (server.envelopes[0].mail_from, server.envelopes[0].rcpt_tos) == (
        "tocsin@example.com", ["ops@example.com", "oncall@example.com"],
    )  # fmt: skip
    text, html = (mail.get_body((kind,)).get_content() for kind in ("plain", "html"))
    for said in ("status 500", "200-299", "500", "2026-08-01 11:58:00 UTC", "Shop", "https://shop.example/health"):
        assert said in text and said in html
    for link in (f"https://tocsin.example/v1/incidents/{INCIDENT['id']}", "https://tocsin.example/ack/"):
        assert link in text and link in html
    assert "<b>more</b>" in text and "<b>more</b>" not in html and "&lt;b&gt;more" in html
    assert "http://" not in html and "src=" not in html


def test_all_mails_of_an_incident_are_one_thread(server: MailReceiver) -> None:
    for event in ("opened", "acknowledged", "resolved"):
        assert told(server, replace(claim(event), id=f"0000000{len(event)}-0000-0000-0000-000000000000")).error == ""
    told(server, claim("opened", 1))
    *thread, other = server.parsed()
    assert len({mail["References"] for mail in thread}) == 1
    assert len({mail["Message-ID"] for mail in thread}) == 3
    assert other["References"] != thread[0]["References"]
    assert all(mail["In-Reply-To"] == mail["References"].split()[0] for mail in (*thread, other))


def test_the_password_goes_over_tls_and_a_wrong_one_is_refused(server: MailReceiver) -> None:
    assert told(server).outcome is Outcome.DELIVERED
    assert server.logins == [("tocsin", server.config["password"])]
    where = server.destination
    (attempt,) = send("email", replace(where, secrets={"password": "wrong"}))
    assert (attempt.outcome, attempt.status_code) == (Outcome.REJECTED, 535)
    assert "wrong" not in attempt.error


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(server: MailReceiver) -> None:
    attempt = told(server, verify_tls=None)
    assert attempt.outcome is Outcome.FAILED
    assert attempt.error.startswith("TLS failed at")
    assert server.logins == [] and server.messages == []


def test_a_certificate_of_the_systems_own_authority_is_trusted(
    server: MailReceiver, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    smtp._context.cache_clear()
    try:
        assert told(server, verify_tls=None).outcome is Outcome.DELIVERED
        # The name is checked too: this certificate is for 127.0.0.1, not for the name of the same address.
        assert told(server, verify_tls=None, host="127.0.0.1").outcome is Outcome.DELIVERED
        assert told(server, verify_tls=None, host="127.0.0.2").outcome is Outcome.FAILED
    finally:
        smtp._context.cache_clear()


def test_a_server_without_starttls_never_sees_the_password(plain_server: MailReceiver) -> None:
    attempt = told(plain_server)
    assert attempt.outcome is Outcome.FAILED
    assert plain_server.logins == [] and plain_server.messages == []
    assert told(plain_server, tls="none", username=None).outcome is Outcome.DELIVERED


def test_tls_from_the_first_byte(certificate: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with MailReceiver(certificate, starttls=False, ssl_context=context) as server:
        assert told(server, tls="tls", username=None).outcome is Outcome.DELIVERED
        server.check()


def test_a_mail_that_some_recipients_get_is_delivered_and_says_who_did_not(server: MailReceiver) -> None:
    server.refuse = {"oncall@example.com": "550 no such user"}
    attempt = told(server)
    assert (attempt.outcome, attempt.error) == (Outcome.DELIVERED, "1 of 2 recipients were refused")
    assert server.envelopes[0].rcpt_tos == ["ops@example.com"]
    # While one of them may be taken later, it is not over.
    server.refuse = {"oncall@example.com": "550 no such user", "ops@example.com": "450 later"}
    assert told(server).outcome is Outcome.FAILED


def test_without_a_server_of_its_own_a_channel_uses_the_installations(plain_server: MailReceiver) -> None:
    where = Destination("00000000-0000-0000-0000-000000000005", {"to": plain_server.config["to"]}, {})
    ours = MailServer("127.0.0.1", plain_server.port, "none", "tocsin@example.com")
    # The operator chose it, so it may stand beside us even where users' own servers may not.
    for mode in EgressMode:
        (attempt,) = send("email", where, rules=EgressRules(mode), mail=ours)
        assert attempt.outcome is Outcome.DELIVERED, mode
    plain_server.check()
    metadata = replace(ours, host="169.254.169.254")
    assert send("email", where, mail=metadata)[0].error.startswith("egress_denied")
    with pytest.raises(Unsendable):
        send("email", where)


def test_a_name_that_means_a_denied_address_is_denied(server: MailReceiver) -> None:
    where = server.destination
    where = replace(where, config={**where.config, "host": "localhost"})
    (attempt,) = send("email", where, rules=EgressRules(EgressMode.PUBLIC))
    assert attempt.error.startswith("egress_denied")
    assert server.messages == []


def test_a_broken_off_conversation_is_unsure_only_after_the_mail_was_sent(server: MailReceiver) -> None:
    server.behave(Behaviour.RESETS)
    assert told(server).outcome is Outcome.UNKNOWN
    server.reply = ("RCPT", "")
    assert told(server).outcome is Outcome.FAILED
