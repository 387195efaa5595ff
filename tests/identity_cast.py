"""What tests about people share: more members, an API with other settings, and its mails."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from api.app import create_app
from api.mailing import open_mailer
from api.oidc_provider import open_provider
from common.store import accounts
from tests import api_cast
from tests.api_cast import Person, World, password_hash
from tests.receivers import MailReceiver

NEW_PASSWORD = "a quiet lantern hums 7"


def with_settings(world: World, **changed: Any) -> World:
    """The same world behind an API that was started with other settings."""
    settings = world.services.settings.model_copy(update=changed)
    services = replace(world.services, settings=settings, mailer=open_mailer(settings), oidc=open_provider(settings))
    client = create_app(services).test_client()

    def moved(person: Person) -> Person:
        other = Person(client)
        other.headers = person.headers
        return other

    people = {name: moved(getattr(world, name)) for name in ("alice", "bob", "charlie", "nobody")}
    return replace(world, services=services, client=client, **people)


def with_mail(world: World, receiver: MailReceiver, **changed: Any) -> World:
    """The same with a mail server, as the operator names it."""
    from pydantic import SecretStr

    url = f"smtp://{receiver.config['host']}:{receiver.config['port']}?tls=none"
    return with_settings(world, smtp_url=SecretStr(url), mail_from="tocsin@example.com", **changed)


def add_member(world: World, name: str, role: str, org: str = "a") -> Person:
    """A user with a session in an organization."""
    with world.databases.owner.begin() as connection:
        world.users[name] = accounts.add_user(
            connection, email=f"{name}@example.com", name=name.title(), password_hash=password_hash()
        )
        accounts.add_member(connection, org_id=world.users[org], user_id=world.users[name], role=role)
    return world.person(api_cast.session(world, name, org))


def letters_to(receiver: MailReceiver, count: int) -> list[str]:
    """The texts of the mails, once there are as many."""
    deadline = time.monotonic() + 60
    while len(receiver.envelopes) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    found = [mail.get_body(("plain",)) for mail in receiver.parsed()]
    assert len(found) == count
    return [part.get_content() for part in found if part is not None]


def token_in(letter: str) -> str:
    (token,) = re.findall(r"^ {4}([A-Za-z0-9_=-]{20,})\r?$", letter, re.MULTILINE)
    return token


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What the calls answer when all are made at the same moment."""
    barrier, answers = threading.Barrier(len(calls)), [None] * len(calls)

    def run(index: int) -> None:
        barrier.wait()
        answers[index] = calls[index]()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
