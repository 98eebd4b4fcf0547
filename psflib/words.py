"""Words in columns of tables: an empty one is read back as masked, and is like no other."""

import numpy as np

NONE = "none"  # no reason, no problem, no note


def spoken(texts, otherwise: str = NONE) -> np.ndarray:
    """Texts (n,) as str, with a word for those that say nothing."""
    return np.array([str(text) or otherwise for text in texts], dtype=str)


def check_spoken(table) -> None:
    """ValueError if a column of a product would hold an empty word."""
    for name in table.colnames:
        column = table[name]
        if getattr(column, "dtype", np.dtype(float)).kind in "US" and np.any(column == ""):
            raise ValueError(f"column {name} has empty words: write {NONE!r} or what they mean")
