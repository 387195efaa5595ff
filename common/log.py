"""Structured logs on stdout: readable on a terminal, JSON elsewhere; never a secret in them.

Call `configure` once per process, then `get_logger()`. `bind(correlation_id=…)` puts a value on every line that
the same thread or task logs afterwards.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

#: A key with one of these in its name is never logged with its value.
_SECRET_WORDS = ("password", "secret", "token", "authorization", "api_key", "cookie")
_MASK = "[hidden]"

#: Libraries whose INFO lines say nothing to an operator.
_QUIET = ("dramatiq", "alembic", "urllib3", "werkzeug", "sqlalchemy")

bind = structlog.contextvars.bind_contextvars
unbind = structlog.contextvars.unbind_contextvars
bound = structlog.contextvars.bound_contextvars
clear = structlog.contextvars.clear_contextvars


def get_logger() -> structlog.stdlib.BoundLogger:
    """The process's logger; events are snake_case names, everything else is a key."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger()
    return logger


def configure(role: str, *, level: str = "info", style: str = "auto") -> None:
    """Set up logging for this process. `style` is auto, json or console."""
    console = style == "console" or (style == "auto" and sys.stdout.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        _with_role(role),
        mask_secrets,
    ]
    renderer: Any = (
        # Plain tracebacks: the pretty ones show local variables, and some of those are secrets.
        structlog.dev.ConsoleRenderer(pad_event_to=28, exception_formatter=structlog.dev.plain_traceback)
        if console
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    tail = [] if console else [structlog.processors.format_exc_info]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    # A connection that the server ended is told by whoever needed it; the pool would add a traceback for each.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)


def mask_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide every value whose key names a secret, nested ones too."""
    for key in list(event):
        event[key] = _masked(key, event[key])
    return event


def _masked(key: str, value: Any) -> Any:
    if any(word in key.lower() for word in _SECRET_WORDS):
        return _MASK
    if isinstance(value, Mapping):
        return {inner: _masked(str(inner), item) for inner, item in value.items()}
    return value


def _with_role(role: str) -> Any:
    def add(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("role", role)
        return event

    return add
