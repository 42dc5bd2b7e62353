"""The documents the service serves: OpenAPI and the reference page."""
