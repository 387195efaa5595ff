"""A probe that somebody waits for: asked for by the API, made by one worker of the location, answered through Redis.

In the queue travels an id. What is to be probed lies beside it under a key of its own, sealed, for as long as a worker
may still begin, and whoever takes it takes it away: so it is made once at most, a late one is not made at all, and
nothing of it can end among the dead letters. The answer is sealed as well: it may show what the target said.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from typing import Any

from common.broker import BLOCK_S, QueueBroker, enqueue_probe, withdraw_probe
from common.clock import monotonic_s
from common.domain.checks import FailedAssertion, Observation, Phases, Reason, Verdict
from common.vault import Vault

#: Version of what is asked and answered; another one is not read.
_VERSION = 1

#: A worker takes a question within so long, or not at all (seconds). It stays a little longer, so that taking it back
#: tells whether anybody has begun; should whoever asked have died, it goes away by itself.
BEGIN_WITHIN_S = 3.0
_QUESTION_KEPT_MS = 6_000
_ANSWER_KEPT_S = 30


class Detail(IntEnum):
    """How much is told of what was seen. Sent as numbers, never renumber: what is told must be understood, too."""

    RESULT = 0  # what a monitor's result holds
    CERTIFICATE = 1  # and when the certificate expires
    FACTS = 2  # and all that is noted beside


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """What is to be probed. `options` and `assertions` are as a monitor's are stored, `secrets` its in plain text."""

    org_id: str
    type: str
    target: str
    timeout_s: float
    options: Mapping[str, Any]
    secrets: Mapping[str, str]
    assertions: Sequence[Mapping[str, Any]]
    detail: Detail = Detail.RESULT


@dataclass(frozen=True, slots=True)
class Ticket:
    """What an answer is fetched with, or the question taken back."""

    id: str
    location: str
    message_id: str


class ProbeRequests:
    """Both ends of it. Whatever Redis does to us is Unavailable."""

    def __init__(self, broker: QueueBroker, vault: Vault) -> None:
        self._broker = broker
        self._vault = vault

    def ask(self, location: str, request: ProbeRequest) -> Ticket:
        """Have it probed by a worker of the location."""
        id_ = secrets.token_hex(16)
        sealed = self._vault.seal(_owner("question", id_), [_VERSION, _asked(request)])
        self._broker.ask(lambda: self._broker.client.set(self._key(id_, "question"), sealed, px=_QUESTION_KEPT_MS))
        return Ticket(id_, location, enqueue_probe(self._broker, location, id_))

    def wait(self, ticket: Ticket, timeout_s: float) -> Observation | None:
        """The answer, as soon as it is there; None when it is not in time."""
        key, until_s = self._key(ticket.id, "answer"), monotonic_s() + timeout_s
        while (left_s := until_s - monotonic_s()) > 0:
            found = self._look(key, min(left_s, BLOCK_S))
            if found is not None:
                return _decoded(self._vault.open(_owner("answer", ticket.id), found))
        return None

    def withdraw(self, ticket: Ticket) -> bool:
        """Take the question back; whether nobody had begun with it (and now nobody will)."""
        unread = self._broker.ask(lambda: bool(self._broker.client.delete(self._key(ticket.id, "question"))))
        if unread:
            withdraw_probe(self._broker, ticket.location, ticket.message_id)
        return unread

    def take(self, id_: str) -> ProbeRequest | None:
        """What to probe; None when it was taken already, taken back or is too old. Raises SecretUnreadable."""
        sealed: Any = self._broker.ask(lambda: self._broker.client.getdel(self._key(id_, "question")))
        if sealed is None:
            return None
        version, fields = self._vault.open(_owner("question", id_), sealed.decode())
        return _read(fields) if version == _VERSION else None

    def answer(self, id_: str, observation: Observation) -> None:
        """Tell whoever waits what was seen."""
        sealed, key = self._vault.seal(_owner("answer", id_), _encoded(observation)), self._key(id_, "answer")

        def put() -> None:
            with self._broker.client.pipeline(transaction=True) as pipe:
                pipe.rpush(key, sealed)
                pipe.expire(key, _ANSWER_KEPT_S)
                pipe.execute()

        self._broker.ask(put)

    def _look(self, key: str, timeout_s: float) -> str | None:
        # Never 0, which would wait for ever.
        found: Any = self._broker.ask(lambda: self._broker.waiting.blpop([key], timeout=max(0.01, timeout_s)))
        return None if found is None else str(found[1], "ascii")

    def _key(self, id_: str, what: str) -> str:
        return f"{self._broker.namespace}:probe:{id_}:{what}"


def _owner(what: str, id_: str) -> str:
    """Neither can stand in the other's place, nor in another probe's."""
    return f"probe {what}:{id_}"


def told_of(observation: Observation, detail: Detail) -> Observation:
    """No more than whoever asked can read."""
    return replace(
        observation,
        expires_s=observation.expires_s if detail >= Detail.CERTIFICATE else None,
        facts=observation.facts if detail >= Detail.FACTS else None,
    )


def _asked(request: ProbeRequest) -> dict[str, Any]:
    """As a worker of the version before reads it too: to it `certificate` is yes or no, and absent is no."""
    fields = asdict(request)
    detail = int(fields.pop("detail"))
    return {**fields, "certificate": detail} if detail else fields


def _read(fields: dict[str, Any]) -> ProbeRequest:
    # int: an API of the version before says true.
    detail = Detail(min(int(fields.pop("certificate", 0)), max(Detail)))
    return ProbeRequest(**fields, detail=detail)


def _encoded(observation: Observation) -> dict[str, Any]:
    told = {**asdict(observation), "verdict": int(observation.verdict), "reason": int(observation.reason)}
    # What is younger than the first version of this is there only for those who asked for it.
    return {key: value for key, value in told.items() if value is not None or key not in {"expires_s", "facts"}}


def _decoded(document: dict[str, Any]) -> Observation:
    failed = document["failed_assertion"]
    return Observation(
        **{
            **document,
            "verdict": Verdict(document["verdict"]),
            "reason": Reason(document["reason"]),
            "phases": Phases(**document["phases"]),
            "failed_assertion": None if failed is None else FailedAssertion(**failed),
        }
    )
