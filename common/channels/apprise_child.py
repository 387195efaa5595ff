"""The process that sends one message by Apprise: a job as JSON on stdin, a report as JSON on stdout, then it ends.

Before the user's URL is looked at, the process gives up what it will not need: memory and files beyond a limit, and by
an audit hook (PEP 578: it sees the actual address of every connection, and cannot be removed) all addresses that the
egress policy denies, all files but the libraries' own, all programs. Redirects are not followed.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import apprise
import requests

from common.domain.egress import EgressMode, EgressRules, judge

_MEMORY_BYTES = 512 * 1024 * 1024
_OPEN_FILES = 64
#: Before the deadline there has to be a report.
_LAST_WORDS_S = 0.5

#: Events that start programs or open other ways out.
_FORBIDDEN = frozenset(
    {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn",
     "socket.bind", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate",
     "ctypes.dlopen", "syslog.openlog", "syslog.syslog"}
)  # fmt: skip
_SENDS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_READABLE = ("/usr/share", "/usr/lib", "/etc/ssl", "/etc/localtime", "/etc/timezone", "/etc/mime.types", "/dev/null",
             "/dev/urandom")  # fmt: skip
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Denied(PermissionError):
    """The hook's answer: an OSError, so that plugins take it for a network's or file system's refusal."""


class Report:
    """What came back last, and what went wrong."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.retry_after: str | None = None
        self.trouble = ""

    def note(self, response: requests.Response) -> None:
        """An answer arrived."""
        self.status = response.status_code
        self.retry_after = response.headers.get("Retry-After")
        self.trouble = ""

    def fail(self, error: requests.RequestException) -> None:
        """There was no answer; without a connection nothing can have been sent."""
        self.status = None
        never_sent = isinstance(error, requests.exceptions.ConnectTimeout | requests.exceptions.SSLError)
        if self.trouble == "egress_denied" or never_sent or _unconnected(error):
            return
        self.trouble = "silent" if isinstance(error, requests.exceptions.ReadTimeout) else "unsure"

    def deny(self) -> None:
        """The egress policy stood in the way."""
        self.trouble = "egress_denied"


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Send one message under restraint."""
    logging.disable(logging.CRITICAL)
    report = Report()
    _watch_requests(report, time.monotonic() + float(job["seconds"]) - _LAST_WORDS_S)
    _restrain(float(job["seconds"]), _rules(job["rules"]), report.deny)
    asset = apprise.AppriseAsset(secure_logging=True, allow_templates=False, async_mode=False)
    plugin = apprise.Apprise.instantiate(job["url"], asset=asset, suppress_exceptions=True)
    if plugin is None:
        return {"sent": False, "trouble": "unknown_url"}
    sender = apprise.Apprise(asset=asset)
    sender.add(plugin)
    result = sender.notify(
        title=job["title"], body=job["body"], notify_type=job["kind"], body_format=apprise.NotifyFormat.TEXT
    )
    # The raw attempts: a URL with ?optional=yes would call every failure a success.
    attempts = [attempt.status for one in result.results for attempt in one.attempts]
    return {
        "sent": bool(attempts) and attempts[-1] == apprise.AppriseResultStatus.SUCCESS,
        "status": report.status,
        "retry_after": report.retry_after,
        "trouble": report.trouble,
    }


def _watch_requests(report: Report, deadline: float) -> None:
    """See every answer, wait for it to the deadline, follow no redirect, read no proxy or netrc."""
    original: Callable[..., requests.Response] = requests.Session.request

    def request(self: requests.Session, *args: Any, **options: Any) -> requests.Response:
        self.trust_env = False
        forced = {"allow_redirects": False, "timeout": max(1.0, deadline - time.monotonic())}
        try:
            response = original(self, *args, **{**options, **forced})
        except requests.RequestException as error:
            report.fail(error)
            raise
        report.note(response)
        return response

    requests.Session.request = request  # type: ignore[method-assign]


def _unconnected(error: requests.RequestException) -> bool:
    # requests wraps urllib3's reason: MaxRetryError(reason=NewConnectionError | NameResolutionError).
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return type(reason).__name__ in {"NewConnectionError", "NameResolutionError", "ConnectTimeoutError"}


def _restrain(seconds: float, rules: EgressRules, deny: Callable[[], None]) -> None:
    # Should our parent die, nobody else would end us.
    signal.alarm(int(seconds) + 2)
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    roots = tuple(os.path.realpath(root) for root in (sys.prefix, sys.base_prefix, *_READABLE))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _SENDS:
            if not _permitted(arguments[1], rules):
                deny()
                raise Denied("the egress policy does not allow this address")
        elif event == "open":
            if not _readable(arguments[0], arguments[1], arguments[2], roots):
                raise Denied("no files here")
        elif event in _FORBIDDEN:
            raise Denied(f"no {event} here")

    sys.addaudithook(hook)


def _permitted(address: Any, rules: EgressRules) -> bool:
    # A path is a Unix socket; None is a datagram on a connection that was judged before.
    if address is None:
        return True
    return isinstance(address, tuple) and judge(str(address[0]), rules) is None


def _readable(path: Any, mode: Any, flags: Any, roots: tuple[str, ...]) -> bool:
    if isinstance(path, int):
        return True
    writes = any(letter in (mode or "") for letter in "wax+") or bool(isinstance(flags, int) and flags & _WRITES)
    real = os.path.realpath(os.fsdecode(path))
    return not writes and any(real == root or real.startswith(f"{root}{os.sep}") for root in roots)


def _rules(given: dict[str, Any]) -> EgressRules:
    allow, deny = (tuple(ipaddress.ip_network(cidr) for cidr in given[name]) for name in ("allow", "deny"))
    return EgressRules(EgressMode(given["mode"]), allow=allow, deny=deny)


if __name__ == "__main__":
    answer = run(json.loads(sys.stdin.buffer.read()))
    sys.stdout.write(json.dumps(answer))
