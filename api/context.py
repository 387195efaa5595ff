"""What views work with: the app's services, and who is calling. Set by app.py and auth.py, read everywhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app, g

from api.heartbeats_intake import PingIntake
from api.mailing import Mailer
from api.oidc_provider import OidcProvider
from api.platform import Platform
from api.probe_desk import ProbeDesk
from api.streams import Streams
from api.summary_cache import SummaryCache
from api.trials import Trials
from api.uptime_ratios import UptimeRatios
from common.broker import QueueBroker
from common.domain.egress import EgressRules
from common.incident_cache import IncidentCache
from common.passwords import Passwords
from common.settings import Settings
from common.store.engine import Database
from common.tracing import Tracing
from common.vault import Vault

_NAME = "tocsin"


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that is opened once per process."""

    settings: Settings
    database: Database
    broker: QueueBroker
    vault: Vault
    passwords: Passwords
    egress: EgressRules
    platform: Platform
    trials: Trials
    probes: ProbeDesk
    pings: PingIntake
    incident_cache: IncidentCache
    summaries: SummaryCache
    streams: Streams
    uptimes: UptimeRatios
    mailer: Mailer
    oidc: OidcProvider | None  # None: nobody logs in through a provider
    tracing: Tracing | None = None  # None: nobody wants traces


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes this request. `user_id` or `key_id` is set; `family_id` is the user's session; `scopes` limit a key.

    The operator, who sends a platform key, has no organization: `org_id` is "".
    """

    org_id: str
    role: str
    user_id: str | None = None
    key_id: str | None = None
    family_id: str | None = None
    email: str = ""
    name: str = ""
    scopes: tuple[str, ...] | None = None

    @property
    def actor(self) -> str:
        """As timelines name them."""
        if self.user_id:
            return f"user:{self.user_id}"
        return f"api-key:{self.key_id}" if self.org_id else f"platform-key:{self.key_id}"


def provide(extensions: dict[str, object], services: Services) -> None:
    """Give an app its services."""
    extensions[_NAME] = services


def services() -> Services:
    """The services of the app that serves this request."""
    return cast("Services", current_app.extensions[_NAME])


def caller() -> Caller:
    """Who makes this request; only behind a permission."""
    return cast("Caller", g.caller)


def request_id() -> str:
    """The id of this request."""
    return cast("str", g.request_id)
