"""Operations: alive, ready, metrics. None of it asks who is calling; /livez and /health depend on nothing."""

from __future__ import annotations

from typing import Any, Literal

from flask import Response, request
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel

from api.context import services
from api.replies import reply
from api.routing import Routes
from common import telemetry
from common.store import readiness
from common.store.readiness import Readiness

routes = Routes("operations")


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class Ready(BaseModel):
    """Whether requests can be served, and by what that is decided."""

    status: Literal["ready", "not ready"]
    checks: dict[str, str]


@routes.get("/livez", answer=Alive)
def livez() -> dict[str, Any]:
    """Whether the process answers."""
    return {"status": "ok"}


@routes.get("/health", answer=Alive)
def health() -> dict[str, Any]:
    """The same as /livez."""
    return livez()


@routes.get("/healthz", answer=Alive)
def healthz() -> dict[str, Any]:
    """The same as /livez."""
    return livez()


@routes.get("/readyz", answer=Ready, own_errors=(503,))
def readyz() -> Response:
    """Whether requests can be served: PostgreSQL is needed; without Redis the API works, degraded."""
    return _ready(needs_redis=False)


@routes.get("/ready", answer=Ready, own_errors=(503,))
def ready() -> Response:
    """The strict one: PostgreSQL and Redis are needed."""
    return _ready(needs_redis=True)


@routes.get("/metrics")
def metrics() -> Response:
    """Prometheus metrics, as text or OpenMetrics by Accept."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(encode(telemetry.registry(services().settings.metrics_dir)), content_type=content_type)


def _ready(*, needs_redis: bool) -> Response:
    postgres = readiness.check(services().database)
    redis_ok = services().broker.answers()
    is_ready = postgres is Readiness.OK and (redis_ok or not needs_redis)
    checks = {"postgres": postgres, "redis": "ok" if redis_ok else "degraded"}
    response = reply({"status": "ready" if is_ready else "not ready", "checks": checks}, 200 if is_ready else 503)
    if not is_ready:
        response.headers["Retry-After"] = "5"
    return response
