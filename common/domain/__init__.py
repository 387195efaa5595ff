"""Pure decisions: no I/O, no clock, no randomness; time comes in as `now`."""
