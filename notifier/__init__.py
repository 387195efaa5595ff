"""Notifier: leads committed events to channels and proves the delivery."""
