"""The client of the WePeople ingest service, over REST and gRPC."""

from wepeople_ingest_client.stream import (
    BlockingStreamProducer,
    ProducerError,
    ProducerMetrics,
    StreamProducer,
    Tls,
)

__all__ = [
    "BlockingStreamProducer",
    "ProducerError",
    "ProducerMetrics",
    "StreamProducer",
    "Tls",
]
