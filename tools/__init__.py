"""Generators for what stands in the documents; a test holds each against its source."""
