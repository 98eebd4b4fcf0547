"""White noise again: what noise is there, which filter follows, what it does to the difference."""
