"""What STDPipe's `run_zogy` hands on to PSFEx, as settings of our own PSF."""

from psflib.psf.core.stage import EpsfSettings
from psflib.stamps.build import StampSettings
from psflib.stars.select import StarSettings

OURS = ("stars", "stamps", "epsf")
MOST_ORDER = 3  # degree over the field
SIZES = 9, 101  # px, of stamps


def psf_settings(words: dict) -> tuple[dict, float | None, list[str]]:
    """Settings of `build_psf`, a FWHM, and the words that mean nothing here.

    Parameters
    ----------
    words : dict
        Arguments of STDPipe's `run_psfex`: `thresh` (detection threshold, sigma), `order` (degree
        over the field), `vignet_size` or else `psf_size` (side of a stamp, px), `aper` (px, taken
        as 2 FWHM); or `stars, stamps, epsf` as of `build_psf`, which come first.

    Raises
    ------
    ValueError
        A value that makes no sense; the message names the argument.
    """
    words = dict(words)
    found = {name: words.pop(name) for name in OURS if name in words}
    size = words.pop("vignet_size", None) or words.pop("psf_size", None)
    words.pop("psf_size", None)
    threshold, order, aperture = (words.pop(name, None) for name in ("thresh", "order", "aper"))
    if threshold is not None:
        threshold = _number("thresh", threshold, 0)
        found.setdefault("stars", StarSettings(threshold=threshold))
    if size is not None:
        side = int(_number("psf_size", size, 0))
        side = min(max(side + 1 - side % 2, SIZES[0]), SIZES[1])
        found.setdefault("stamps", StampSettings(size=side))
    if order is not None:
        degree = int(_number("order", order, -1))
        found.setdefault("epsf", EpsfSettings(order=min(degree, MOST_ORDER)))
    fwhm = None if aperture is None else _number("aper", aperture, 0) / 2
    return found, fwhm, sorted(words)


def _number(name, value, above) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not number > above:
        raise ValueError(f"{name} must be a number above {above}; got {value}")
    return number
