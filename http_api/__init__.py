"""The HTTP API: translates JSON requests to the core and its answers back."""
