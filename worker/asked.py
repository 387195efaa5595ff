"""Probes that somebody waits for: taken once, made as a monitor's check is, answered, and kept nowhere.

What comes too late or cannot be answered is dropped: whoever waited has given up by then, and may ask again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from itertools import count
from typing import Any

from common import log, telemetry
from common.broker import decode_probe
from common.domain.checks import Observation, Phases, Reason
from common.domain.errors import Unavailable
from common.domain.monitors import MonitorConfig
from common.probe_requests import ProbeRequest, ProbeRequests, told_of
from common.store.monitor_configs import StoredConfig
from common.vault import SecretUnreadable, Vault
from worker.configs import ConfigCache
from worker.probes.base import NOBODY, failed

Look = Callable[[MonitorConfig], Awaitable[Observation]]

#: A probe has no schedule, but a configuration has an interval: the longest, within which every timeout is.
_INTERVAL_S = 86_400


class AskedProbes:
    """Answers the questions of a location. Event loop only; Redis is spoken to in other threads."""

    def __init__(
        self, requests: ProbeRequests, configs: ConfigCache, vault: Vault, *, look: Look, blocking: Executor
    ) -> None:
        self._requests = requests
        self._configs = configs
        self._vault = vault
        self._look = look
        self._blocking = blocking
        self._versions = count(1)
        self._logger = log.get_logger()

    async def run(self, payload: Any) -> None:
        """One message. Raises UnreadableMessage, and nothing else: none of these is ever made twice."""
        id_ = decode_probe(payload)
        loop = asyncio.get_running_loop()
        try:
            request = await loop.run_in_executor(self._blocking, self._requests.take, id_)
            if request is None:
                telemetry.PROBES_ASKED.labels("late").inc()
                return
            observation = told_of(await self._observe(id_, request), request.detail)
            await loop.run_in_executor(self._blocking, self._requests.answer, id_, observation)
        except (Unavailable, SecretUnreadable) as error:
            telemetry.PROBES_ASKED.labels("dropped").inc()
            self._logger.warning("asked_probe_dropped", error=error.message)
        else:
            telemetry.PROBES_ASKED.labels("answered").inc()

    async def _observe(self, id_: str, request: ProbeRequest) -> Observation:
        config = self._configs.build(self._row(id_, request))
        if config is None:
            return _own_fault("what is to be probed cannot be read")
        probing = asyncio.ensure_future(self._look(config))
        await asyncio.wait({probing})
        if probing.cancelled() or (error := probing.exception()) is None:
            return probing.result()
        self._logger.error("probe_failed", correlation_id=id_, exc_info=error)
        return _own_fault("the check failed inside Tocsin")

    def _row(self, id_: str, request: ProbeRequest) -> StoredConfig:
        """As if it were a monitor's row, so that it means what a monitor's would."""
        sealed = self._vault.seal(f"monitor:{request.org_id}:{id_}", dict(request.secrets)) if request.secrets else None
        return StoredConfig(
            monitor_no=NOBODY,  # versions tell one probe from the next, in what is kept by it
            monitor_id=id_,
            org_id=request.org_id,
            config_version=next(self._versions),
            type=request.type,
            name="probe",
            target=request.target,
            interval_s=_INTERVAL_S,
            timeout_s=request.timeout_s,
            failure_threshold=1,
            recovery_threshold=1,
            retry_interval_s=1,
            quorum=None,
            location_ids=[],
            options=dict(request.options),
            assertions=[dict(item) for item in request.assertions],
            secrets=sealed,
        )


def _own_fault(why: str) -> Observation:
    return failed(Reason.INTERNAL, f"not judged, {why}", Phases())
