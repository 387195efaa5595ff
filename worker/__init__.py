"""Worker: probes what is due, judges, and commits."""
