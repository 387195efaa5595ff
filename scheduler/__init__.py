"""Scheduler: computes due slots and enqueues them while it holds the lease."""
