"""Many organizations with many routes, and a stream of alerts for them: made data, the same for the same seed."""
