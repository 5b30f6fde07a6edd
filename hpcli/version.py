"""The one place that knows hpcli's version."""

__version__ = "0.1.0"
