"""`tocsin seed`: fill an installation with made data, to try out what size does to it.

Either organizations with channels and routes, or (with --monitors) monitors of one organization with their past.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from common.clock import monotonic_s
from common.domain.errors import StackError
from common.keys import with_keys
from common.operating import transaction
from common.seed.fill import fill, refuse_wrong
from common.seed.plant import plant
from common.seed.universe import CHANNELS_PER_ROUTE, ORGANIZATIONS, ROUTES, Plan, Universe
from common.seed.watched import NOWHERE, WatchPlan
from common.settings import load_settings
from common.store import seeding
from common.store.engine import Connection
from common.vault import Vault


def seed(  # noqa: PLR0913 - the options of a command
    *,
    seed: Annotated[int, typer.Option(help="The same number makes the same data.")] = 1,
    organizations: Annotated[int, typer.Option(help="How many organizations.")] = ORGANIZATIONS,
    routes: Annotated[int, typer.Option(help="How many routes, over all organizations.")] = ROUTES,
    channels_per_route: Annotated[int, typer.Option(help="How many channels each route leads to.")] = (
        CHANNELS_PER_ROUTE
    ),
    endpoint: Annotated[str, typer.Option(help="Where the channels' webhooks go (a path of its own each).")] = NOWHERE,
    monitors: Annotated[
        int, typer.Option(help="Instead, make so many monitors in one organization; --endpoint says what they watch.")
    ] = 0,
    results: Annotated[int, typer.Option(help="How many results they have, 0 for 100 each.")] = 0,
    incidents: Annotated[
        int, typer.Option(help="How many of their incidents are over, -1 for one in five monitors.")
    ] = -1,
    days: Annotated[int, typer.Option(help="How far the results reach back.")] = 7,
    interval: Annotated[int, typer.Option(help="Seconds between two checks of a monitor.")] = 60,
    organization: Annotated[str, typer.Option(help="Whose the monitors are, by name or id; the first one's.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Add it to an installation that holds data.")] = False,
) -> None:
    """Make organizations with channels and routes, of which every alert of their kind concerns 1 to 10.

    With --monitors: monitors with results, outages and incidents instead, all in one organization.
    """
    if monitors:
        over = monitors // 5 if incidents < 0 else incidents
        fill(
            WatchPlan(seed, monitors, results or 100 * monitors, over, days, interval),
            organization,
            endpoint,
            force=force,
        )
        return
    plan = Plan(seed, organizations, routes, channels_per_route)
    began_s = monotonic_s()
    with transaction("seed") as connection:
        _refuse(connection, plan, endpoint, force=force)
        universe = Universe(plan)
        settings = load_settings()
        keys = (settings if settings.encryption_keys else with_keys(settings)).encryption_keys
        _plant(connection, universe, endpoint, Vault(keys.get_secret_value() if keys else ""))
    sys.stdout.write(
        f"made in {monotonic_s() - began_s:.1f} s from seed {plan.seed}:\n"
        f"  {plan.organizations:,} organizations, {universe.organizations[0][1]} to {universe.organizations[-1][1]}\n"
        f"  {plan.routes:,} routes to {plan.routes * plan.channels_per_route:,} channels at {endpoint}\n"
        f"  {len(universe.services):,} services, each watched by 1 to 10 of them; "
        f"source backbone concerns {universe.fan_out:,}\n"
        "alerts for all of them need a platform key: tocsin platform-key create <name>\n"
    )


def _refuse(connection: Connection, plan: Plan, endpoint: str, *, force: bool) -> None:
    refuse_wrong(plan.problem(), endpoint)
    present = {} if force else seeding.present(connection)
    if present:
        found = ", ".join(f"{count:,} {kind}" for kind, count in present.items())
        raise StackError(f"this installation is in use ({found}); --force adds to it all the same")


def _plant(connection: Connection, universe: Universe, endpoint: str, vault: Vault) -> None:
    base = endpoint.rstrip("/")
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("routes", total=universe.plan.routes)
        for done in plant(connection, universe, endpoint=lambda number: f"{base}/{number}", vault=vault):
            progress.update(task, completed=done)
