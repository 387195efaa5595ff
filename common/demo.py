"""An outage from failure to webhook, on a real stack, as it happens."""
