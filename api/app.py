"""The API's composition root: `create_app` puts everything together, `python -m api.app` serves it."""

from __future__ import annotations

import sys
from itertools import chain
from threading import Event

from flask import Flask
from pydantic import SecretStr

from api import (
    acknowledge,
    alerts,
    api_keys,
    auth,
    channels,
    compat_alertmanager,
    compat_pagerduty,
    errors,
    health,
    incidents,
    locations,
    monitors,
    notifications,
    organizations,
    parsing,
    requests,
    results,
    sessions,
)
from api.context import Services, provide
from api.docs import docs
from api.platform import Platform
from api.routing import Route, mount
from api.server import serve
from api.trials import Trials
from common import log, process
from common.broker import make_broker
from common.channels.wiring import open_context
from common.clock import utc_now
from common.domain.errors import SettingsError, Unavailable
from common.http.wiring import egress_rules
from common.passwords import Passwords
from common.settings import Settings
from common.store import locations as stored_locations
from common.store import readiness
from common.store.engine import Database, DatabaseRole
from common.vault import Vault

#: Every route under /v1 and the operations beside it.
ROUTES: tuple[Route, ...] = tuple(
    chain(
        sessions.routes,
        api_keys.routes,
        monitors.routes,
        results.routes,
        incidents.routes,
        channels.routes,
        alerts.routes,
        compat_alertmanager.routes,
        compat_pagerduty.routes,
        organizations.routes,
        notifications.routes,
        locations.routes,
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
    requests.watch_requests(app)
    errors.register_errors(app)
    provide(app.extensions, services)
    mount(app, chain(ROUTES, acknowledge.routes, docs(ROUTES)))
    return app


def open_services(settings: Settings) -> Services:
    """Everything that the API talks to; nothing connects yet."""
    database_url, redis_url = process.require_urls(settings)
    vault = Vault(_required(settings.encryption_keys, "TOCSIN_ENCRYPTION_KEYS"))
    return Services(
        settings=settings,
        database=Database(database_url, DatabaseRole.API, application="api", pool_size=settings.api_threads),
        broker=make_broker(redis_url),
        vault=vault,
        passwords=Passwords(),
        egress=egress_rules(settings),
        platform=Platform(Database(database_url, DatabaseRole.WORKER, application="api platform", pool_size=4)),
        trials=Trials(lambda: open_context(settings, vault, utc_now, max_handles=4)),
    )


def run(settings: Settings, _stop: Event) -> int:
    """Serve until told to stop; what is missing is said before the first request."""
    process.require_urls(settings)
    _required(settings.jwt_key, "TOCSIN_JWT_KEY")
    Vault(_required(settings.encryption_keys, "TOCSIN_ENCRYPTION_KEYS"))
    return serve(_start, settings)


def _start(settings: Settings) -> Flask:
    services = open_services(settings)
    _ensure_location(services)
    return create_app(services)


def _ensure_location(services: Services) -> None:
    """Know our own location; the migration has made it too, so a database that is away now does no harm."""
    if readiness.check(services.database) is not readiness.Readiness.OK:
        log.get_logger().warning("started_without_database")
        return
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
