"""The smtp probe: greeting, EHLO, TLS where it is wanted, and goodbye; no mail is sent."""

from __future__ import annotations

from common.domain.checks import Observation, Reason
from common.domain.monitors import MonitorConfig
from common.domain.operators import shortened
from common.domain.options import SmtpOptions
from common.http.dial import Trouble
from common.http.wire import Wire
from worker.probes.base import ProbeContext, options_of
from worker.probes.conversation import Session, converse, plan_to

#: Of one reply; a line has at most 8 KiB.
_MAX_LINES = 100


async def probe(
    config: MonitorConfig,
    deadline_s: float,
    ctx: ProbeContext,
    _trace_id: str | None = None,
    /,
) -> Observation:
    """Talk as far as EHLO, over TLS when the monitor says so; `code` is the last reply's."""
    options = options_of(config, SmtpOptions)

    async def talk(session: Session) -> None:
        wire = session.wire
        session.values["banner"] = (await _reply(session, 220, "greeting"))[0]
        extensions = await _greet(session, options.ehlo)
        if options.security == "starttls":
            if "STARTTLS" not in map(str.upper, extensions):
                raise Trouble(Reason.TLS_NOT_OFFERED, f"{wire.where} does not offer STARTTLS")
            await wire.send(b"STARTTLS\r\n")
            await _reply(session, 220, "answer to STARTTLS")
            await session.secure()
            # What was said before TLS may have been said by anybody.
            extensions = await _greet(session, options.ehlo)
        session.values["extension"] = extensions
        await wire.send(b"QUIT\r\n")

    plan = plan_to("smtp", config.target, options, secure_at_once=options.security == "tls")
    return await converse(config, deadline_s, ctx, plan, talk)


async def _greet(session: Session, name: str) -> list[str]:
    """Say EHLO; what the server offers."""
    await session.wire.send(f"EHLO {name}\r\n".encode("ascii", "replace"))
    return (await _reply(session, 250, "answer to EHLO"))[1:]


async def _reply(session: Session, wanted: int, what: str) -> list[str]:
    """The lines of one reply without their code. Raises Trouble for another code than the wanted one."""
    wire: Wire = session.wire
    lines: list[str] = []
    while len(lines) < _MAX_LINES:
        line = await wire.read_line()
        code, mark, text = line[:3], line[3:4], line[4:].decode("utf-8", "replace")
        if not code.isdigit() or len(code) < 3 or mark not in (b"", b" ", b"-"):
            raise Trouble(Reason.PROTOCOL_ERROR, f"what {wire.where} says is not SMTP")
        lines.append(text)
        if mark != b"-":
            session.code = int(code)
            if session.code != wanted:
                said = shortened(f"{session.code} {text}")
                raise Trouble(Reason.ANSWER_MISMATCH, f"expected a {what} of {wire.where} with {wanted}, got {said!r}")
            return lines
    raise Trouble(Reason.PROTOCOL_ERROR, f"{wire.where} sent more than {_MAX_LINES} lines in one reply")
