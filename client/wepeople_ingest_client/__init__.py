"""The client of the WePeople ingest service, over REST and gRPC."""
