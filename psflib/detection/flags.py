"""What speaks against a candidate: one bit each, the same in words, and whether there is nothing."""

import enum

import numpy as np


class CandidateFlag(enum.IntFlag):
    """Bits of the column `flag` of candidates."""

    MASKED = 1  # much of its PSF is masked
    SHAPE = 2  # does not look like the PSF
    SHARP = 4  # narrower than the PSF: a cosmic ray
    HALO = 8  # in the halo of a saturated star
    DIPOLE = 16  # a twin of the other sign beside it: misregistration
    BAD_EPOCH = 32  # of a difference that cannot be believed
    STREAK = 64  # on the trail of a satellite


CLEAN = "clean"  # the word for no flag


def words(flag) -> np.ndarray:
    """The flags (n,) of int in words (n,) of str: "masked,halo", "clean" where there are none."""
    flag = np.asarray(flag, int)
    said = {
        value: ",".join(f.name.lower() for f in CandidateFlag if value & f) or CLEAN
        for value in np.unique(flag).tolist()
    }
    return np.array([said[value] for value in flag.tolist()], dtype=str)


def set_flags(table, flag) -> None:
    """Write the columns `flag` (int32 bits), `flags` (words) and `clean` (bool) of a table.

    Parameters
    ----------
    table : QTable
        Of candidates; changed in place.
    flag : ndarray (n,) of int
        Sums of `CandidateFlag`.
    """
    flag = np.asarray(flag, np.int32)
    table["flag"], table["flags"], table["clean"] = flag, words(flag), flag == 0
