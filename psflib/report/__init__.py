"""A page a field, and a row of numbers an epoch."""
