"""The gRPC API: translates protobuf messages to the core and its answers back."""
