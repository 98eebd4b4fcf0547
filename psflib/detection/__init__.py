"""Candidates on a difference."""
