"""The version, stamped into every product."""

__version__ = "0.1.0"
