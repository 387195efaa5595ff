-- Votes know when the probe behind them began: what was seen before it does not overrule it, whatever its slot.
SET LOCAL ROLE tocsin_owner;

-- A constant default: nothing is rewritten. The version before leaves it as it is, and every result is newer than that.
ALTER TABLE votes ADD COLUMN observed_at timestamptz NOT NULL DEFAULT 'epoch';

RESET ROLE;
