"""``wepeople-ingest``: the operator's command line."""
