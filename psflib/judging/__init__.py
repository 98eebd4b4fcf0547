"""Numbers that judge products and methods."""

from psflib.judging.comparison import compare_methods

__all__ = ["compare_methods"]
