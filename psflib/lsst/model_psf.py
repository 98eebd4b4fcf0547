"""Matching of one PSF model to another: a kernel from models alone, without stars."""

import numpy as np

from psflib.image.exposure import Exposure
from psflib.matching.cells.clipping import match
from psflib.matching.cells.grid import KernelCandidate, make_cells
from psflib.matching.cells.lsst_basis import choose_basis
from psflib.matching.cells.single import Pair

MIN_CELLS = 5  # an axis: enough places for a polynomial of degree 2 on a small image


def match_psfs(source_psf, reference_psf, shape, config, kernel_sum=1.0, fwhms=(None, None)):
    """Kernel that turns one PSF into another, over a field.

    Parameters
    ----------
    source_psf, reference_psf : object with ``at(x, y, size)``, or ndarray (k, k)
        PSF over the field, or one image for all of it; only the shape counts, not the sum.
    shape : (ny, nx) of the field.
    config : ImagePsfMatchConfig
    kernel_sum : float
    fwhms : FWHM of source and reference in px, for the size of the basis; optional

    Returns
    -------
    kernel : MatchingKernel
    cells : SpatialCellSet
        One candidate a cell, at its centre.
    metadata : dict

    Raises
    ------
    ValueError
        A PSF that is no square image of odd side, or is too small for the kernel.
    """
    psf_match = config.al
    images, notes = choose_basis(fwhms[0], fwhms[1], psf_match)
    side = psf_side(images.shape[-1], (source_psf, reference_psf), config)
    # PSFs are free of noise: nothing to clip, and the same weight everywhere
    settings = psf_match.model_copy(
        update={"single_kernel_clipping": False, "kernel_sum_clipping": False,
                "spatial_kernel_clipping": False, "check_condition_number": False,
                "constant_variance_weighting": True, "fit_for_background": False,
                "use_core_stats": False, "use_pca_for_spatial_kernel": False}
    )  # fmt: skip
    size_x = min(psf_match.size_cell_x, -(-shape[1] // MIN_CELLS))
    size_y = min(psf_match.size_cell_y, -(-shape[0] // MIN_CELLS))
    cells = make_cells(shape, size_x, size_y)
    centres = [cell.centre for cell in cells.cells]
    pair, boxes = _sheet(source_psf, reference_psf, centres, side)
    candidates = [
        KernelCandidate(i, x, y, 1.0, box)
        for i, ((x, y), box) in enumerate(zip(centres, boxes, strict=True))
    ]
    cells = make_cells(shape, size_x, size_y, candidates)
    kernel, metadata = match(cells, pair, images, settings)
    kernel.coef[0] = 0
    kernel.coef[0, 0] = kernel_sum
    return kernel, cells, {**metadata, **notes, "psf_size": side}


def psf_side(kernel_size, psfs, config) -> int:
    """Side in px to which PSF images are padded, odd.

    Raises
    ------
    ValueError
        If it is no PSF, or if the padded one leaves less than 2 px beside the kernel.
    """
    for psf in psfs:
        if not isinstance(psf, np.ndarray) and not callable(getattr(psf, "at", None)):
            raise ValueError(f"a PSF is an image or has at(x, y, size); got {type(psf).__name__}")
    sides = [_side(psf) for psf in psfs if isinstance(psf, np.ndarray)]
    least = int(np.ceil(kernel_size * config.auto_pad_psf_to))
    least += 1 - least % 2
    if config.do_auto_pad_psf:
        return max([*sides, least])
    side = max(sides, default=least) + config.pad_psf_by
    if kernel_size > side - 1:
        raise ValueError(
            f"the kernel ({kernel_size} px) is too large for the PSF ({side} px): set "
            f"do_auto_pad_psf, or pad_psf_by to at least {kernel_size + 2 - side}, or lower "
            "the kernel's size"
        )
    return side


def _side(psf):
    if psf.ndim != 2 or psf.shape[0] != psf.shape[1] or psf.shape[0] % 2 == 0:
        raise ValueError(f"a PSF image is square with an odd side; got {psf.shape}")
    if not np.isfinite(psf).all() or psf.sum() <= 0:
        raise ValueError(f"a PSF image is finite with a positive sum; its sum is {psf.sum():g}")
    return psf.shape[0]


def _sheet(source, reference, centres, side):
    """Both PSFs at all centres, one above the other, and the box of each."""
    planes = [
        np.concatenate([_image(psf, x, y, side) for x, y in centres]).astype(np.float32)
        for psf in (reference, source)
    ]
    one = np.ones_like(planes[0])
    pair = Pair(*(Exposure(plane, one, sky=0.0) for plane in planes))
    boxes = [(slice(i * side, (i + 1) * side), slice(0, side)) for i in range(len(centres))]
    return pair, boxes


def _image(psf, x, y, side):
    """PSF of unit sum at (x, y), padded by zeros to `side` px."""
    image = psf if isinstance(psf, np.ndarray) else psf.at(x, y, side)
    pad = (side - image.shape[0]) // 2
    return np.pad(image / image.sum(), pad)
