"""One module per channel type; base.py has the interface. The notifier delivers by them, the API checks and tries."""
