"""The HTTP door: translates JSON requests to the core and its answers back."""
