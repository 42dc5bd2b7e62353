"""The client for exactly-once streams; see :class:`StreamProducer`. It needs no server module."""

from grpc_api.producer.event_json import Event
from grpc_api.producer.metrics import ProducerMetrics
from grpc_api.producer.producer import StreamProducer
from grpc_api.producer.sender import OnRejected
from grpc_api.producer.status import ProducerError
from grpc_api.producer.tls import Tls

__all__ = ["Event", "OnRejected", "ProducerError", "ProducerMetrics", "StreamProducer", "Tls"]
