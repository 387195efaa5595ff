"""Benchmarks: the whole product on one machine, measured from outside. `python -m bench --help`."""
