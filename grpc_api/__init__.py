"""The gRPC door: translates protobuf messages to the core and its answers back."""
