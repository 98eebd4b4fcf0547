"""Which candidates of different epochs are one object."""

import dataclasses

import numpy as np
from scipy import spatial

from psflib.detection.flags import CandidateFlag

NOT_FOUND = -1  # candidate of an object in an epoch that did not find it


@dataclasses.dataclass(frozen=True, eq=False)
class Objects:
    """Objects of a field, those found clean most often first; m objects, e epochs.

    Parameters
    ----------
    place : ndarray (m, 3)
        Unit vectors towards them on the sky, or (x, y, 0) in px where no epoch has a WCS.
    candidate : ndarray (m, e) of int
        Row of the candidate in each epoch's table, -1 where it was not found.
    clean : ndarray (m,) of int
        Epochs in which it was found without a flag.
    """

    place: np.ndarray
    candidate: np.ndarray
    clean: np.ndarray

    def __len__(self):
        return len(self.place)

    def take(self, rows) -> "Objects":
        """Some of them."""
        return Objects(self.place[rows], self.candidate[rows], self.clean[rows])


def find_objects(places, tables, reach: float) -> Objects:
    """Gather the candidates of all epochs into objects.

    The strongest candidate that belongs to none yet begins an object, and takes those within reach,
    one of each epoch, the strongest; its place is their mean, weighted by (S/N)².

    Parameters
    ----------
    places : sequence of ndarray (n, 3)
        Of each epoch's candidates: unit vectors, or (x, y, 0).
    tables : sequence of QTable
        Their snr, flag and clean.
    reach : float
        In the unit of `places` (rad for unit vectors).
    """
    epochs = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    rows = np.concatenate([np.arange(len(table)) for table in tables]) if tables else np.zeros(0)
    place = np.concatenate([np.zeros((0, 3)), *places])
    snr, clean, bad = (
        np.concatenate([np.zeros(0), *(np.asarray(column(table), float) for table in tables)])
        for column in (
            lambda table: np.abs(table["snr"]),
            lambda table: table["clean"],
            lambda table: table["flag"] & CandidateFlag.BAD_EPOCH > 0,
        )
    )
    # what is only in an epoch that cannot be believed must not pull the place of what is real
    order = np.lexsort((-snr, bad))
    owner = _owners(place, order, reach)
    strength = np.where(bad > 0, 1e-3, 1) * snr
    count = int(owner.max(initial=-1)) + 1
    candidate = np.full((count, len(tables)), NOT_FOUND)
    for one in order[::-1]:  # the strongest of an epoch last
        candidate[owner[one], epochs[one]] = rows[one]
    weight = np.bincount(owner, strength**2, count)
    mean = [np.bincount(owner, strength**2 * axis, count) / weight for axis in place.T]
    times = np.bincount(owner, clean, count).astype(int)
    best = np.zeros(count)
    np.maximum.at(best, owner, snr)
    first = np.lexsort((-best, -times))
    return Objects(np.stack(mean, 1)[first], candidate[first], times[first])


def _owners(place, order, reach):
    """Object (n,) of each candidate, numbered as they are begun."""
    owner = np.full(len(place), -1)
    if not len(place):
        return owner
    near = spatial.cKDTree(place).query_ball_point(place, reach)
    count = 0
    for one in order:
        if owner[one] < 0:
            members = np.array(near[one])
            owner[members[owner[members] < 0]] = count
            count += 1
    return owner
