"""One module per protocol; base.py has the interface."""
