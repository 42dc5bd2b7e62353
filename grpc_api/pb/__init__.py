"""Generated from proto/wepeople/ingest/v1 by `make gen`. Do not edit."""
