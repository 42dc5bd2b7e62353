"""Streams that deliver each event exactly once; see :class:`StreamProducer`."""

from wepeople_ingest_client.stream.blocking import BlockingStreamProducer
from wepeople_ingest_client.stream.event_json import Event
from wepeople_ingest_client.stream.metrics import ProducerMetrics
from wepeople_ingest_client.stream.producer import StreamProducer
from wepeople_ingest_client.stream.sender import OnRejected
from wepeople_ingest_client.stream.status import ProducerError
from wepeople_ingest_client.stream.tls import Tls

__all__ = [
    "BlockingStreamProducer",
    "Event",
    "OnRejected",
    "ProducerError",
    "ProducerMetrics",
    "StreamProducer",
    "Tls",
]
