"""The client of the WePeople ingest service, over REST and gRPC."""

from wepeople_ingest_client.codes import Retry
from wepeople_ingest_client.models import (
    AcceptedEvent,
    Actor,
    App,
    BatchResult,
    DetailedMetric,
    Event,
    EventCategory,
    Metric,
    MetricUnit,
    PingResult,
    RejectedEvent,
    Snapshot,
    SnapshotResult,
    Worker,
)
from wepeople_ingest_client.rest.async_client import AsyncClient
from wepeople_ingest_client.rest.client import Client
from wepeople_ingest_client.rest.errors import (
    ApiError,
    AuthenticationError,
    ForbiddenEventTypeError,
    IngestError,
    InternalError,
    InvalidRequestError,
    NoAnswerError,
    PlanDisabledError,
    QuotaExceededError,
    RateLimitedError,
    WorkerNotFoundError,
)
from wepeople_ingest_client.rest.retries import Retries
from wepeople_ingest_client.stream import (
    BlockingStreamProducer,
    ProducerError,
    ProducerMetrics,
    StreamProducer,
    Tls,
)

__all__ = [
    "AcceptedEvent",
    "Actor",
    "ApiError",
    "App",
    "AsyncClient",
    "AuthenticationError",
    "BatchResult",
    "BlockingStreamProducer",
    "Client",
    "DetailedMetric",
    "Event",
    "EventCategory",
    "ForbiddenEventTypeError",
    "IngestError",
    "InternalError",
    "InvalidRequestError",
    "Metric",
    "MetricUnit",
    "NoAnswerError",
    "PingResult",
    "PlanDisabledError",
    "ProducerError",
    "ProducerMetrics",
    "QuotaExceededError",
    "RateLimitedError",
    "RejectedEvent",
    "Retries",
    "Retry",
    "Snapshot",
    "SnapshotResult",
    "StreamProducer",
    "Tls",
    "Worker",
    "WorkerNotFoundError",
]
