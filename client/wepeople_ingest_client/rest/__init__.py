"""The REST API: see :class:`wepeople_ingest_client.Client` and its twin for asyncio."""
