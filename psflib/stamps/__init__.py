"""Cut-outs of stars with weights and sub-pixel offsets."""

from psflib.lazy import lazy_names

_HOMES = {
    "StampResult": "psflib.stamps.build",
    "StampSettings": "psflib.stamps.build",
    "Stamps": "psflib.stamps.build",
    "build_stamp": "psflib.stamps.build",
    "build_stamps": "psflib.stamps.build",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
