"""Tests of psflib.report."""
