"""Capacity planning: loads, yardsticks and the report of `wepeople-ingest bench`."""
