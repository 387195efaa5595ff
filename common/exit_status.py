"""What every command's exit status means, and which one an error has."""

from __future__ import annotations

from enum import IntEnum

from common.client_errors import (
    BadAddress,
    Collision,
    Foreign,
    Missing,
    NotLetIn,
    Refused,
    ServerTrouble,
    Stale,
    TooMany,
    Unreachable,
)
from common.domain.errors import TocsinError


class ExitStatus(IntEnum):
    """Stable: scripts rely on it."""

    OK = 0
    NOT_WELL = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_LET_IN = 4
    NO_ANSWER = 5
    STALE_PLAN = 6
    REFUSED = 7
    INTERRUPTED = 130


#: What each means, for the documentation.
MEANINGS = {
    ExitStatus.OK: "All is well.",
    ExitStatus.NOT_WELL: "What was asked about is not well, or not as it should be: `check` found no `up`, "
    "`plan --exit-code` found changes, `apply` was answered with no.",
    ExitStatus.USAGE: "The command line, a file, or a setting is wrong; the server found a field wrong.",
    ExitStatus.NOT_FOUND: "There is no such monitor, incident or notification in your organization.",
    ExitStatus.NOT_LET_IN: "Not logged in, no longer, or your role does not allow it.",
    ExitStatus.NO_ANSWER: "The server cannot be reached, is not Tocsin, or cannot answer at the moment.",
    ExitStatus.STALE_PLAN: "The monitors have changed since the plan was made; nothing was done.",
    ExitStatus.REFUSED: "It does not go together with how things are, or there were too many requests.",
    ExitStatus.INTERRUPTED: "Ctrl-C.",
}

#: The first that fits.
_STATUSES: tuple[tuple[type[TocsinError], ExitStatus], ...] = (
    (Missing, ExitStatus.NOT_FOUND),
    (NotLetIn, ExitStatus.NOT_LET_IN),
    (Stale, ExitStatus.STALE_PLAN),
    (Collision, ExitStatus.REFUSED),
    (TooMany, ExitStatus.REFUSED),
    (ServerTrouble, ExitStatus.NO_ANSWER),
    (Unreachable, ExitStatus.NO_ANSWER),
    (Foreign, ExitStatus.NO_ANSWER),
    (BadAddress, ExitStatus.USAGE),
)

#: Codes of 400 that say nothing against the request itself.
_AS_THINGS_ARE = frozenset({"INVALID_STATUS_TRANSITION"})

_THEN = {
    ExitStatus.NOT_LET_IN: "log in with `tocsin login`",
    ExitStatus.STALE_PLAN: "look again with `tocsin plan`",
}


class CommandError(TocsinError):
    """What a command itself finds wrong; says its own exit status."""

    code = "COMMAND_ERROR"

    def __init__(self, message: str, status: ExitStatus = ExitStatus.USAGE) -> None:
        super().__init__(message)
        self.status = status


def status_of(error: TocsinError) -> ExitStatus:
    """The exit status of an error; 2 for what is wrong on this side."""
    if isinstance(error, CommandError):
        return error.status
    if error.code in _AS_THINGS_ARE:
        return ExitStatus.REFUSED
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), ExitStatus.USAGE)


def one_line(error: TocsinError) -> str:
    """What, where, and what to do."""
    text = error.message.rstrip(".")
    if error.details:
        text += ": " + "; ".join(f"{item.field} {item.message}".strip() for item in error.details)
    if isinstance(error, Refused):
        text += _aside(error)
    return clean(text)


def _aside(error: Refused) -> str:
    """What to do then, and by what the server's log is searched."""
    if error.retry_after_s:
        return f"; try again in {error.retry_after_s:.0f} s"
    if isinstance(error, NotLetIn) and error.code == "UNAUTHORIZED":
        return f"; {_THEN[ExitStatus.NOT_LET_IN]}"
    if isinstance(error, Stale):
        return f"; {_THEN[ExitStatus.STALE_PLAN]}"
    if isinstance(error, ServerTrouble) and error.request_id:
        return f" (request {error.request_id})"
    return ""


def clean(text: str) -> str:
    """One line without control characters: what others wrote must not move the cursor."""
    return " ".join("".join(c if c.isprintable() or c == " " else "\n" for c in text).split())
