"""One module per channel type; base.py has the interface."""
