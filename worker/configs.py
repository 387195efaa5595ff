"""Monitor configurations in memory, by number and version; misses are fetched together, in one query."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from common import log
from common.domain.checks import Check
from common.domain.flapping import TURNS, flap_of
from common.domain.health import Policy
from common.domain.monitors import Assertion, MonitorConfig
from common.domain.options import read_options
from common.domain.redaction import shown_forms
from common.store import monitor_configs
from common.store.engine import Database
from common.store.monitor_configs import StoredConfig
from common.vault import SecretUnreadable, Vault

#: Configurations that one process keeps; about 700 bytes each.
CAPACITY = 200_000


class ConfigCache:
    """The newest known configuration of each monitor. `get` belongs to the event loop, `fetch` to any thread.

    With so many `flap_turns` a monitor flaps; 0: none ever does.
    """

    def __init__(self, database: Database, vault: Vault, *, flap_turns: int = TURNS, capacity: int = CAPACITY) -> None:
        self._database = database
        self._vault = vault
        self._capacity = capacity
        self._flap_turns = flap_turns
        self._configs: OrderedDict[int, MonitorConfig] = OrderedDict()
        self._shared: dict[Any, Any] = {}
        self._logger = log.get_logger()

    def get(self, check: Check) -> MonitorConfig | None:
        """The configuration to probe by: the check's version or a newer one; None when it has to be fetched."""
        config = self._configs.get(check.monitor_no)
        if config is None or config.config_version < check.config_version:
            return None
        return config

    def fetch(self, checks: Iterable[Check]) -> list[MonitorConfig]:
        """Read configurations; paused and deleted monitors are absent. Raises Unavailable."""
        with self._database.begin() as connection:
            rows = monitor_configs.load(connection, [check.monitor_no for check in checks])
        return [config for row in rows if (config := self.build(row)) is not None]

    def keep(self, configs: Iterable[MonitorConfig]) -> None:
        """Remember what was fetched; the least recently fetched go when there are too many."""
        for config in configs:
            self._configs[config.monitor_no] = config
            self._configs.move_to_end(config.monitor_no)
        while len(self._configs) > self._capacity:
            self._configs.popitem(last=False)

    def build(self, row: StoredConfig) -> MonitorConfig | None:
        """The configuration in a row; one that cannot be read costs only its own monitor."""
        try:
            return self._read(row)
        except SecretUnreadable as error:
            # No traceback: it says which key is missing, and there may be many.
            self._logger.error(  # noqa: TRY400
                "monitor_secrets_unreadable", monitor_id=row.monitor_id, error=error.message
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            self._logger.exception("monitor_config_unreadable", monitor_id=row.monitor_id)
        return None

    def _read(self, row: StoredConfig) -> MonitorConfig:
        secrets = self._vault.open(f"monitor:{row.org_id}:{row.monitor_id}", row.secrets) if row.secrets else {}
        options = read_options(row.type, row.options, secrets)
        # Credentials travel as a header that no row holds.
        headers = [value for name, value in getattr(options, "headers", ()) if name == "Authorization"]
        flap = flap_of(self._flap_turns, row.interval_s)
        policy = Policy(row.failure_threshold, row.recovery_threshold, row.retry_interval_s, row.quorum, flap)
        return MonitorConfig(
            monitor_no=row.monitor_no,
            monitor_id=row.monitor_id,
            org_id=self._share(row.org_id),
            config_version=row.config_version,
            type=self._share(row.type),
            name=row.name,
            target=row.target,
            interval_s=row.interval_s,
            timeout_s=row.timeout_s,
            policy=self._share(policy),
            locations=self._share(tuple(row.location_ids)),
            assertions=self._share_assertions(tuple(_assertion(item) for item in row.assertions)),
            options=self._share(options),
            secrets=shown_forms([*secrets.values(), *headers]) if secrets else (),
        )

    def _share(self, value: Any) -> Any:
        """One copy of equal values: thousands of monitors have the same policy and options."""
        return self._share_by(value, value)

    def _share_assertions(self, assertions: tuple[Assertion, ...]) -> tuple[Assertion, ...]:
        shared: tuple[Assertion, ...] = self._share_by(repr(assertions), assertions)
        return shared

    def _share_by(self, key: Any, value: Any) -> Any:
        if len(self._shared) >= self._capacity:
            self._shared.clear()  # what monitors had before their edits, secrets too; who needs one keeps its copy
        return self._shared.setdefault(key, value)


def _assertion(item: dict[str, Any]) -> Assertion:
    return Assertion(
        source=item["source"],
        op=item["op"],
        value=item.get("value"),
        name=item.get("name") or "",
        on_fail=item.get("on_fail") or "down",
        path=item.get("path") or "",
    )
