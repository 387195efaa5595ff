"""`tocsin demo`: one outage on a real stack, from failure to webhook, told as it happens."""
