"""A client of the stream for programs that send many events; see :class:`StreamProducer`."""

from grpc_api.producer.producer import (
    Event,
    OnRejected,
    ProducerError,
    ProducerMetrics,
    StreamProducer,
)

__all__ = ["Event", "OnRejected", "ProducerError", "ProducerMetrics", "StreamProducer"]
