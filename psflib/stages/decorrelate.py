"""The stage `decorrelate`."""

from psflib.decorrelation import decorrelate as decorrelation
from psflib.products.images import read_difference, read_exposure, write_difference


def decorrelate(science, aligned, difference, decorrelated, settings) -> None:
    """A difference with white noise, its PSF and its matched-filter significance."""
    images = {"science": science, "template": aligned}
    raw = read_difference(difference)
    raw = raw.replace(**{name: read_exposure(path) for name, path in images.items()})
    clean = decorrelation.decorrelate(raw, settings)
    write_difference(decorrelated, clean, settings)
