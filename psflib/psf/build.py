"""The core PSF of an image in one call."""

from psflib.preparation.prepare import PrepareSettings, prepare
from psflib.psf.core.field import PsfField
from psflib.psf.core.stage import EpsfSettings, core_epsf
from psflib.stamps.build import StampSettings, build_stamps
from psflib.stars.select import StarSettings, select_stars


def build_psf(
    exposure,
    *,
    preparation: PrepareSettings | None = None,
    stars: StarSettings | None = None,
    stamps: StampSettings | None = None,
    epsf: EpsfSettings | None = None,
) -> PsfField:
    """Prepare the exposure, select stars, cut them out and build the core PSF.

    Parameters
    ----------
    exposure : Exposure, CCDData, NDData, array (ny, nx) or path
        Raw or prepared.
    preparation, stars, stamps, epsf : settings, optional
        Of the four stages.

    Returns
    -------
    PsfField

    Raises
    ------
    NotEnoughStars
        If no star is fit for it.
    """
    exposure = prepare(exposure, preparation or PrepareSettings())
    table = select_stars(exposure, stars)
    return core_epsf(build_stamps(exposure, table, stamps), exposure.shape, epsf)
