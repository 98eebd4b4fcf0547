"""Objects found in any epoch of a field, and their light in every epoch."""
