"""``wepeople-ingest produce``: files of events into the service."""
