"""Cut-outs of stars with weights and sub-pixel offsets."""

from psflib.stamps.build import StampResult, Stamps, StampSettings, build_stamp, build_stamps

__all__ = ["StampResult", "StampSettings", "Stamps", "build_stamp", "build_stamps"]
