"""The one place that knows hpcli's version."""

__version__ = "0.2.0"
