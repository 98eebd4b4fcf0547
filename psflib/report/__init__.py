"""A page an image, an index of them, and a row of numbers an epoch."""
