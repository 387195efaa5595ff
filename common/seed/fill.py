"""The part of `tocsin seed` that fills one organization with monitors and their past."""

from __future__ import annotations

import sys
from datetime import timedelta
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import Progress

from common.clock import monotonic_s, utc_now
from common.domain.errors import StackError
from common.operating import transaction
from common.seed.plant_watched import plant_watched
from common.seed.watched import NOWHERE, WatchPlan
from common.settings import load_settings
from common.store import locations, seeding_watched
from common.store.engine import Connection


def fill(plan: WatchPlan, organization: str, endpoint: str, *, force: bool) -> None:
    """Make what the plan says, and tell of it."""
    began_s = monotonic_s()
    with transaction("seed") as connection:
        org_id, name = _organization(connection, plan, organization, endpoint, force=force)
        location = locations.ensure(connection, load_settings().location)
        base = endpoint.rstrip("/")
        making = plant_watched(connection, plan, org_id, location, lambda number: f"{base}/{number}")
        with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
            task = progress.add_task("results", total=plan.results)
            for done in making:
                progress.update(task, completed=done)
        pieces = seeding_watched.refill(connection, utc_now() - timedelta(days=plan.days + 1))
    sys.stdout.write(
        f"made in {monotonic_s() - began_s:.1f} s from seed {plan.seed}, in the organization {name}:\n"
        f"  {plan.monitors:,} monitors at {plan.interval_s} s that watch {endpoint}, a few of them down or degraded\n"
        f"  {plan.results:,} results of the past {plan.days} days, {plan.incidents:,} incidents that are over\n"
        f"a scheduler makes figures of it beside the present ({pieces:,} pieces), the newest day first\n"
    )


def refuse_wrong(problem: str | None, endpoint: str) -> None:
    """Raise StackError for what is wrong with a plan or its endpoint."""
    if problem is not None:
        raise StackError(problem)
    if urlsplit(endpoint).scheme not in ("http", "https") or not urlsplit(endpoint).hostname:
        raise StackError("--endpoint must be an http(s) URL")


def _organization(
    connection: Connection, plan: WatchPlan, wanted: str, endpoint: str, *, force: bool
) -> tuple[str, str]:
    """(id, name) of the one to fill. Raises StackError where that is not to be."""
    refuse_wrong(plan.problem(), endpoint)
    if endpoint.rstrip("/") == NOWHERE:
        raise StackError(f"say with --endpoint what the monitors watch: nobody listens at {NOWHERE}")
    found = seeding_watched.organization(connection, wanted)
    if found is None:
        raise StackError(
            f"no organization, or more than one, has the name or id {wanted}" if wanted else "no organization yet"
        )
    present = 0 if force else seeding_watched.present(connection, found[0])
    if present:
        raise StackError(f"the organization {found[1]} has {present:,} monitors; --force adds to them all the same")
    return found
