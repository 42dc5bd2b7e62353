"""Clients of the shared service."""

from tests.grpc_api.conftest import one_event_loop

__all__ = ["one_event_loop"]
