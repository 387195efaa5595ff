"""Write docs/checks.md from the registry, the options' models and the sources: `python -m tools.check_table`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from api.schemas_options import OPTIONS_IN
from common.domain.checks import Reason
from common.domain.operators import OPS
from common.domain.sources import SOURCES, TABLE
from tools.check_reasons import ABOUT, OURS
from worker.probes.registry import PROBES

PATH = Path(__file__).parent.parent / "docs" / "checks.md"

_HEAD = """\
# Checks

Made from the registry of probes, the models of their options and the table of sources by `python -m tools.check_table`;
a test holds this file to them.

A monitor has a `type`, a `target`, options under the name of its type, and `assertions`. Each check resolves the
target's name, judges every address by the egress policy, connects to exactly the address that was judged, and ends at
`timeout_seconds`, look-up and last byte included. A failing target is a verdict with one of the
[reasons](#reasons) below; what is our own fault is `unknown` and pages nobody.

What a target sends is bounded: of http 10 MiB, of which assertions see the first MiB, of everything else 256 KiB. Where
strangers choose the targets (`TOCSIN_EGRESS=public`), a dns monitor must name a public resolver. icmp needs a kernel
that lets the worker send echo requests: `net.ipv4.ping_group_range` with the worker's group in it, or CAP_NET_RAW.
"""

_SECRETS = """\
Fields marked *secret* are sent as `{"secret": "…"}`, stored encrypted and read back as null; null keeps what is stored,
`{"secret": ""}` removes it. They are hidden in results and incidents, should a target send them back. Certificates are
PEM. A stored secret does not follow a monitor to another target or proxy, nor to other `ca_certificates`, another
`server_name`, or less of `verify_tls`, `tls` or `security` than before: it has to be sent again.
"""

_ASSERTIONS = """\
All assertions must hold. The first that does not and says `"on_fail": "down"` (the default) decides; without one, the
first that says `"degraded"`. What was expected and seen is kept with the result, cut to 200 characters. Patterns are
[RE2](https://github.com/google/re2/wiki/Syntax). An http monitor without an assertion on `status` requires 200 to 299;
a dns monitor without one on `rcode` requires NOERROR, and without any on its answer at least one record.
"""

_SETS = """\
Of `answers`, `eq` means exactly these (a text or a list), `in` only these, `contains` and `matches` any of them; of
`headers`, one that fits is enough. A `value` that reads as a number is compared as one. A path leads to one value by
`.name`, `['name']` and `[0]` (`[-1]` is the last).\
"""

#: type → (what its target is, what it does, one example)
_TYPES: Mapping[str, tuple[str, str, dict[str, Any]]] = MappingProxyType(
    {
        "http": (
            "a URL",
            "one request, redirects followed and judged hop by hop",
            {
                "target": "https://shop.example/health",
                "http": {"username": "probe", "password": {"secret": "…"}},
                "assertions": [
                    {"source": "status", "op": "in", "value": ["200-299"]},
                    {"source": "json", "path": "$.db.status", "op": "eq", "value": "up"},
                    {"source": "cert_days", "op": "gt", "value": 14, "on_fail": "degraded"},
                ],
            },
        ),
        "tcp": (
            "`host:port`",
            "a connection; with TLS, a text sent, a pattern awaited, if wanted",
            {"target": "mail.example:143", "tcp": {"starttls": "imap", "send": "a2 NOOP\r\n", "expect": "a2 OK"}},
        ),
        "tls": (
            "`host` or `host:port` (443)",
            "a handshake: chain, host name, version, days left",
            {
                "target": "shop.example",
                "assertions": [{"source": "chain_days", "op": "gt", "value": 14, "on_fail": "degraded"}],
            },
        ),
        "dns": (
            "the name to ask for (PTR: an address)",
            "one question to one name server",
            {
                "target": "shop.example",
                "dns": {"record_type": "A", "resolver": "192.0.2.53"},
                "assertions": [{"source": "answer", "op": "eq", "value": ["192.0.2.1", "192.0.2.2"]}],
            },
        ),
        "icmp": (
            "a host",
            "echo requests, one after the other",
            {
                "target": "gateway.example",
                "icmp": {"count": 5},
                "assertions": [{"source": "packet_loss", "op": "lte", "value": 20, "on_fail": "degraded"}],
            },
        ),
        "websocket": (
            "a `ws://` or `wss://` URL",
            "the handshake; a text sent, a message awaited, if wanted",
            {"target": "wss://shop.example/live", "websocket": {"send": "ping", "expect": "^pong"}},
        ),
        "smtp": (
            "`host` or `host:port` (25)",
            "greeting, EHLO, TLS if wanted, QUIT; no mail",
            {
                "target": "mail.example:587",
                "smtp": {"security": "starttls"},
                "assertions": [{"source": "extension", "op": "contains", "value": "AUTH"}],
            },
        ),
        "postgres": (
            "`host` or `host:port` (5432)",
            "login (SCRAM-SHA-256, MD5; a password in the clear over TLS only) and one query",
            {
                "target": "db.example",
                "postgres": {
                    "username": "probe",
                    "password": {"secret": "…"},
                    "query": "SELECT count(*) FROM jobs WHERE state = 'stuck'",
                },
                "assertions": [{"source": "value", "op": "lt", "value": 10}],
            },
        ),
        "redis": (
            "`host` or `host:port` (6379)",
            "login and one command; Redis, Valkey",
            {
                "target": "cache.example",
                "redis": {"command": ["LLEN", "queue"]},
                "assertions": [{"source": "value", "op": "lt", "value": 1000}],
            },
        ),
        "heartbeat": (
            "none",
            "nothing: it waits to be pinged, and says so when no ping comes",
            {
                "interval_seconds": 300,
                "heartbeat": {"cron": "0 3 * * *", "timezone": "Europe/Berlin", "grace_seconds": 1800},
            },
        ),
    }
)

_HEARTBEATS = """\
A `heartbeat` monitor is not checked: something out there pings it, as it would ping healthchecks.io or Uptime Kuma.
`GET /v1/monitors/{id}/heartbeat` shows the addresses to whoever may write monitors; `POST …/heartbeat/renew` replaces
them. No API key is needed, the UUID in them is the secret.

| address | means |
|---|---|
| `/ping/<uuid>` | success |
| `/ping/<uuid>/start` | a run begins; the next success or failure ends it and has its duration |
| `/ping/<uuid>/fail` | failure: down at once, unless failures are tolerated |
| `/ping/<uuid>/<exit status>` | 0 is success, 1 to 255 is failure |
| `/ping/<uuid>/log` | something to keep, nothing else |
| `/api/push/<uuid>?status=up&msg=OK&ping=` | success, or failure when `status` is not `up`; `ping` is in ms |

By GET, HEAD or POST; of a body the first 10,000 bytes are kept. `?rid=<uuid>` tells runs apart that overlap. The answer
is `OK` (`{"ok":true}`) once the ping is committed, 404 for an unknown address, 503 when it could not be stored: use a
client that tries again (`curl -fsS -m 10 --retry 5`). More than 600 pings of one monitor in a minute are answered with
429 and `Retry-After`, by each API process for itself. `GET /v1/monitors/{id}/pings` lists the last 100, with the
network that each came from.

The next ping is expected `period_seconds` after the last success or failure (default: the interval), or when the `cron`
expression says so in its `timezone`; in the hour that clocks skip or repeat, as cron does it. `grace_seconds` later it
is missed, and the monitor is down. A run that has not ended `grace_seconds` after its start is down as well. A new
monitor is pending until its first success or failure, and nothing but a run that does not end makes it down before; one
that was resumed has a whole period again.

Every `interval_seconds` a result says how it stands, which is what uptime is counted by; `failure_threshold` (here 1
by default) counts failures and such results alike: with 2, one failure is down at the next such result unless a success
came before it.

**So many in a time.** With `at_least` n, n successes are expected in any `period_seconds`, whenever they come. The
monitor is down when the n-th last success is older than the period and its grace, and up again when that many have come
in such a time: the first ping after an outage is not enough. "n of the last m" of a job is n in m of its periods; a
cron expression does not go with it. Counting begins with the first success or failure, and anew with a monitor that was
resumed, as if all n had come at that moment. Another `at_least` or `period_seconds` is judged at once
by the successes that are known, the newest n; of more than that, the missing ones count as come with the oldest.

**Failures that may happen.** With `tolerate_failures` a failure, by `/fail`, exit status or push, is no more than a
success that has not come: it is listed, ends its run, and moves no deadline. A run that does not end is down all the
same, and only a success ends that. Without `at_least` this is one success in any period, or by each time of the cron
expression and its grace.

| wanted | `at_least` | `period_seconds` | `tolerate_failures` |
|---|---|---|---|
| of a daily job, two of any three runs succeed | 2 | 259200 | `true` |
| an hourly job may fail twice in a row, not three times | 1 | 10800 | `true` |
| five machines ping one address each night | 5 | 86400 | `false` |
| of 24 runs a day, nine in ten succeed | 22 | 86400 | `true` |

`grace_seconds` is then how much the times of two runs may differ, of a success and of the one that takes its place.

A maintenance window holds back what is told of a monitor; its pings are counted in it as ever.

Our own fault is never an outage: a ping that may have come while no API was there to hear it is not missed. Until the
next one is due, the monitor is `unknown` (`heartbeat_unheard`), and pings make it up again. That has its price:

- A spell without an API that comes within the grace of when a ping was due, before it or after, moves the deadline to
  the next time. For a job of once a month this is a month: what failed to run in that hour is not told before.
- With `at_least`, a ping is due a period after each that is counted, and those that were due within the grace of a
  spell count as come at its end. A job that pings at no set times needs a grace as wide as they spread, a client that
  tries again, or one success more than is asked for. Until as many have come for the first time, a spell begins
  counting anew, for at most two periods.
- While no API runs at all, heartbeats are unknown, and no incident of ours tells it. Let something else watch the API's
  `/ready`, another Tocsin for example.
"""


def examples() -> dict[str, dict[str, Any]]:
    """One whole monitor of each type."""
    return {type_: {"type": type_, "name": f"my {type_} check", **rest} for type_, (_, _, rest) in _TYPES.items()}


def render() -> str:
    """The file's text."""
    parts = [_HEAD, *_types(), "", "## Options", "", _SECRETS]
    for type_ in _TYPES:
        parts += [f"### {type_}", "", *_options(type_), "", *_example(type_), ""]
    parts += ["## Heartbeats", "", _HEARTBEATS]
    parts += ["## Assertions", "", _ASSERTIONS, *_sources(), "", *_operators(), "", "## Reasons", "", *_reasons(), ""]
    return "\n".join(parts)


def _types() -> Iterator[str]:
    yield "| type | target | what a check does | assertions on |"
    yield "|---|---|---|---|"
    for type_, (target, does, _) in _TYPES.items():
        sources = ", ".join(f"`{name}`" for name in SOURCES.get(type_, ()))
        yield f"| [`{type_}`](#{type_}) | {target} | {does} | {sources} |"


def _options(type_: str) -> Iterator[str]:
    model = OPTIONS_IN[type_]
    schema = model.model_json_schema()
    yield "| option | default | |"
    yield "|---|---|---|"
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)  # type: ignore[call-arg]
        about = _about(schema["properties"][name], secret=name in model.SECRETS)
        yield f"| `{name}` | `{json.dumps(default)}` | {about} |"


def _about(schema: Mapping[str, Any], *, secret: bool) -> str:
    if secret:
        return "*secret*"
    inner = next((each for each in schema.get("anyOf", ()) if each.get("type") != "null"), schema)
    facts = {**inner, **{key: value for key, value in schema.items() if key != "anyOf"}}
    words = []
    if "enum" in facts:
        words.append(", ".join(f"`{value}`" for value in facts["enum"]))
    if "minimum" in facts and "maximum" in facts:
        words.append(f"{facts['minimum']} to {facts['maximum']}")
    words += [f"at most {facts[key]} {unit}" for key, unit in _LIMITS if key in facts]
    words.append(str(facts.get("description", "")).rstrip("."))
    return "; ".join(word for word in words if word).replace("|", "\\|")


_LIMITS = (("maxLength", "characters"), ("maxItems", "items"), ("maxProperties", "members"))


def _example(type_: str) -> Iterator[str]:
    yield "```json"
    yield json.dumps(examples()[type_], ensure_ascii=False)
    yield "```"


def _sources() -> Iterator[str]:
    yield "| source | what it is | kind | types | reason |"
    yield "|---|---|---|---|---|"
    for name, source in TABLE.items():
        types = "all" if source.types == tuple(PROBES) else ", ".join(source.types)
        yield f"| `{name}` | {source.about} | {source.kind} | {types} | `{source.reason.label}` |"


def _operators() -> Iterator[str]:
    yield "| kind | op |"
    yield "|---|---|"
    for kind, ops in OPS.items():
        yield f"| {kind} | {', '.join(f'`{op}`' for op in ops)} |"
    yield ""
    yield _SETS


def _reasons() -> Iterator[str]:
    yield "| reason | what it means | verdict |"
    yield "|---|---|---|"
    for reason in Reason:
        if reason is not Reason.NONE:
            verdict = "unknown" if reason in OURS else "down, or as `on_fail` says"
            yield f"| `{reason.label}` | {ABOUT[reason]} | {verdict} |"


if __name__ == "__main__":
    PATH.write_text(render(), encoding="utf-8")
