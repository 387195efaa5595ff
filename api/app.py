"""The API's composition root: `create_app` puts everything together, `python -m api.app` serves it."""

from __future__ import annotations

import sys
from functools import partial
from itertools import chain
from threading import Event

from flask import Flask
from pydantic import SecretStr
from werkzeug.middleware.proxy_fix import ProxyFix

from api import (
    acknowledge,
    alerts,
    api_keys,
    audit_log,
    auth,
    channels,
    compat_alertmanager,
    compat_pagerduty,
    errors,
    health,
    heartbeats,
    heartbeats_ping,
    incidents,
    intake,
    invites,
    limits,
    locations,
    maintenance,
    memberships,
    monitor_lists,
    monitor_plans,
    monitors,
    monitors_bulk,
    notifications,
    oidc,
    organization,
    organizations,
    parsing,
    passwords,
    probes,
    prometheus,
    queues,
    registration,
    reports,
    requests,
    results,
    routes,
    security_headers,
    series,
    server_spans,
    sessions,
    silences,
    stream,
    summaries,
    uptime,
    users,
)
from api.context import Services, provide
from api.docs import docs
from api.heartbeats_intake import PingIntake
from api.heartbeats_short import ShortWay
from api.mailing import open_mailer
from api.oidc_provider import open_provider
from api.platform import Platform
from api.probe_desk import ProbeDesk
from api.routing import Route, mount
from api.server import Served, serve
from api.stream_feed import StreamFeed
from api.streams import Streams
from api.summary_cache import SummaryCache
from api.trials import Trials
from api.uptime_ratios import UptimeRatios
from common import log, process
from common.broker import make_request_broker
from common.channels.wiring import open_context
from common.clock import monotonic_s, utc_now
from common.domain.errors import SettingsError, Unavailable
from common.http.wiring import egress_rules
from common.incident_cache import IncidentCache
from common.passwords import Passwords
from common.probe_requests import ProbeRequests
from common.settings import Settings, telemetry_variables
from common.store import locations as stored_locations
from common.store import readiness
from common.store.engine import Database, DatabaseRole
from common.tracing import open_tracing
from common.vault import Vault

#: What a look of the stream may take.
_FEED_S = 10.0

#: Every route under /v1 and the operations beside it.
ROUTES: tuple[Route, ...] = tuple(
    chain(
        sessions.routes,
        registration.routes,
        passwords.routes,
        oidc.routes,
        api_keys.routes,
        organization.routes,
        users.routes,
        memberships.routes,
        invites.routes,
        monitors.routes,
        monitor_lists.routes,
        monitors_bulk.routes,
        monitor_plans.routes,
        probes.routes,
        results.routes,
        heartbeats.routes,
        heartbeats_ping.routes,
        uptime.routes,
        reports.routes,
        series.routes,
        summaries.routes,
        incidents.routes,
        channels.routes,
        routes.routes,
        silences.routes,
        maintenance.routes,
        alerts.routes,
        compat_alertmanager.routes,
        compat_pagerduty.routes,
        organizations.routes,
        notifications.routes,
        queues.routes,
        locations.routes,
        audit_log.routes,
        stream.routes,
        prometheus.routes,
        health.routes,
    )
)


def create_app(services: Services) -> Flask:
    """The API over these services."""
    app = Flask("tocsin", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = parsing.MAX_BODY_BYTES
    # Errors are answered in one place, in tests as well.
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.url_map.strict_slashes = False
    auth.configure_tokens(app, _required(services.settings.jwt_key, "TOCSIN_JWT_KEY"))
    app.wsgi_app = ShortWay(app.wsgi_app, services.pings)  # type: ignore[method-assign]
    trust_proxies(app, services.settings.trusted_proxies)
    requests.watch_requests(app)
    if services.tracing is not None:
        server_spans.tell_requests(app, services.tracing)
    security_headers.guard_browsers(app, services.settings)
    limits.limit_requests(app, services.settings)
    errors.register_errors(app)
    provide(app.extensions, services)
    mount(app, chain(ROUTES, acknowledge.routes, docs(ROUTES)))
    return app


def trust_proxies(app: Flask, hops: int) -> None:
    """Believe so many proxies what they say of the client, and nobody else."""
    if hops:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=0)  # type: ignore[method-assign]


def open_services(settings: Settings) -> Services:
    """Everything that the API talks to; nothing connects yet."""
    database_url, redis_url = process.require_urls(settings)
    vault = Vault(_required(settings.encryption_keys, "TOCSIN_ENCRYPTION_KEYS"))
    broker = make_request_broker(redis_url)
    # One connection more than requests: uptimes are counted beside them.
    database = Database(database_url, DatabaseRole.API, application="api", pool_size=settings.api_threads + 1)
    return Services(
        settings=settings,
        database=database,
        broker=broker,
        vault=vault,
        passwords=Passwords(),
        egress=egress_rules(settings),
        platform=Platform(Database(database_url, DatabaseRole.WORKER, application="api platform", pool_size=4)),
        trials=Trials(lambda: open_context(settings, vault, utc_now, max_handles=4)),
        probes=ProbeDesk(ProbeRequests(broker, vault), at_once=max(2, settings.api_threads // 4)),
        pings=PingIntake(
            Database(database_url, DatabaseRole.WORKER, application="api pings", pool_size=1), monotonic_s
        ),
        incident_cache=IncidentCache(redis_url),
        summaries=SummaryCache(),
        streams=Streams(
            settings.streams, settings.streams_per_credential, lambda streams: _feed(streams, database_url)
        ),
        uptimes=UptimeRatios(database),
        mailer=open_mailer(settings),
        oidc=open_provider(settings),
        tracing=open_tracing("api", telemetry_variables()),
    )


def run(settings: Settings, _stop: Event) -> int:
    """Serve until told to stop; what is missing is said before the first request."""
    process.require_urls(settings)
    _required(settings.jwt_key, "TOCSIN_JWT_KEY")
    Vault(_required(settings.encryption_keys, "TOCSIN_ENCRYPTION_KEYS"))
    return serve(_start, settings)


def _feed(streams: Streams, database_url: str) -> process.Step:
    """Connections of its own, with patience of its own: streams wait for no request, and requests for no stream."""
    tenants, overview = (
        Database(database_url, role, application="api stream", pool_size=1, statement_timeout_s=_FEED_S)
        for role in (DatabaseRole.API, DatabaseRole.WORKER)
    )
    return StreamFeed(streams, tenants, overview).step


def _start(settings: Settings) -> Served:
    services = open_services(settings)
    _ensure_location(services)
    intake.watch(services.database, Event())
    services.pings.start()
    return Served(create_app(services), services.streams.stop, partial(_close, services))


def _close(services: Services) -> None:
    services.streams.close()
    services.pings.close()
    if services.tracing is not None:
        services.tracing.close()


def _ensure_location(services: Services) -> None:
    """Know our own location; the migration has made it too, so a database that is away now does no harm."""
    found = readiness.check(services.database)
    if found is readiness.Readiness.UNREACHABLE:
        log.get_logger().warning("started_without_database")
    if found is not readiness.Readiness.OK:
        return  # that it is not migrated, the first of our loops says
    try:
        with services.database.begin() as connection:
            stored_locations.ensure(connection, services.settings.location)
    except Unavailable:
        log.get_logger().warning("started_without_database")


def _required(secret: SecretStr | None, variable: str) -> str:
    if secret is None:
        raise SettingsError(f"{variable} must be set to start the API by itself; `tocsin up` generates it")
    return secret.get_secret_value()


if __name__ == "__main__":
    sys.exit(process.main("api", run))
