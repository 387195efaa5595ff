"""What the product's SQL means: {text of a statement: its model}. A statement that is missing here is a KeyError."""

from __future__ import annotations

from tests.simulation.database import Statement
from tests.simulation.statements import bundling, incidents, judging, ledger, outbox, scheduling, settling

STATEMENTS: dict[str, Statement] = {
    **scheduling.STATEMENTS,
    **judging.STATEMENTS,
    **incidents.STATEMENTS,
    **outbox.STATEMENTS,
    **ledger.STATEMENTS,
    **bundling.STATEMENTS,
    **settling.STATEMENTS,
}
