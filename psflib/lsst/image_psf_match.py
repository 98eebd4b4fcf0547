"""`ImagePsfMatchTask`: PSF matching of two images by the names of LSST's pipelines.

Mode `psflib` fits all footprints at once (`psflib.subtract`) and then asks each candidate what it
thinks of the result; mode `lsst` lets candidates in cells tell the kernel, with their clippings.
"""

import dataclasses
import logging
from typing import Any

import numpy as np
from astropy.table import Table

from psflib.errors import BadImage
from psflib.image.exposure import Exposure, as_exposure
from psflib.image.warp import align
from psflib.lsst.assess import find_candidates, judge_candidates
from psflib.lsst.basis_choice import degrees_by_bic
from psflib.lsst.config import ImagePsfMatchConfig
from psflib.lsst.model_psf import match_psfs
from psflib.matching import MatchingKernel
from psflib.matching.apply import (
    BackgroundModel,
    background_of,
    convolved_exposure,
    subtract_matched,
    with_psf_of,
)
from psflib.matching.cells import lsst_basis
from psflib.matching.cells.candidates import detect_candidates, stamp_half, vet_candidates
from psflib.matching.cells.clipping import doubts, match
from psflib.matching.cells.config import PsfMatchConfigAL
from psflib.matching.cells.delta_basis import delta_basis
from psflib.matching.cells.grid import SpatialCellSet, make_cells
from psflib.matching.cells.single import Pair
from psflib.preparation.prepare import prepare
from psflib.subtraction import al

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class MatchResult:
    """What the methods of `ImagePsfMatchTask` return.

    matched_image : Exposure
        The convolved image, in the flux scale of the other one; its sky is removed.
    psf_matching_kernel : MatchingKernel
    background_model : BackgroundModel
        Differential background in ADU of the image that was not convolved.
    kernel_cell_set : SpatialCellSet
        All candidates, each with its status and the reason of its rejection.
    subtracted_image : Exposure or None
        The difference in science flux units, of the methods that subtract.
    template : Exposure or None
        The template on the grid of the science image.
    metadata : dict
        Counts, condition numbers, sizes and orders; plain values.
    """

    matched_image: Exposure
    psf_matching_kernel: MatchingKernel
    background_model: BackgroundModel | None
    kernel_cell_set: SpatialCellSet
    subtracted_image: Exposure | None = None
    template: Exposure | None = None
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)


class ImagePsfMatchTask:
    """Match the PSF of two images, and subtract one from the other.

    Parameters
    ----------
    config : ImagePsfMatchConfig or dict, optional
    settings : AlSettings, optional
        Of mode `psflib`.

    Notes
    -----
    Images are `Exposure`, `CCDData` or plain arrays; those with sky or without variance are
    prepared first (`psflib.prepare`).  Raised by all methods, beside ValueError for bad calls:
    BadImage (nothing usable), NoOverlap, NotEnoughStars (with the candidates' fate), SingularFit.
    """

    def __init__(self, config=None, settings: al.AlSettings | None = None):
        if isinstance(config, dict):
            config = ImagePsfMatchConfig(**config)
        if not isinstance(config, ImagePsfMatchConfig | None):
            raise ValueError(
                f"config is an ImagePsfMatchConfig or a dict; got {type(config).__name__}"
            )
        self.config = config or ImagePsfMatchConfig()
        self.settings = settings or al.AlSettings()

    def match_masked_images(
        self, template, science, candidates=None, *, template_fwhm=None, science_fwhm=None,
        convolve_template=None,
    ) -> MatchResult:  # fmt: skip
        """Match two images that lie on one grid; their WCS is not looked at.

        Parameters
        ----------
        template, science : Exposure, CCDData or ndarray (ny, nx)
        candidates : table with x and y, or (n, 2), optional
            Positions in px; detected if not given.  Mode `psflib` fits every footprint, and uses
            them only to be judged.
        template_fwhm, science_fwhm : float, optional
            px; measured if not given.
        convolve_template : bool, optional
            False convolves the science image.  Default: True in mode `lsst`, the sharper image in
            mode `psflib`.

        Raises
        ------
        ValueError
            If the shapes differ, or a kernel is larger than the images.
        """
        template, science = self._ready(template, science, template_fwhm, science_fwhm)
        _require_one_shape(template, science)
        return self._match(template, science, candidates, convolve_template, subtract=False)

    def subtract_masked_images(
        self, template, science, candidates=None, *, template_fwhm=None, science_fwhm=None,
        convolve_template=None,
    ) -> MatchResult:  # fmt: skip
        """Match two images that lie on one grid and subtract; see `match_masked_images`."""
        template, science = self._ready(template, science, template_fwhm, science_fwhm)
        _require_one_shape(template, science)
        return self._match(template, science, candidates, convolve_template, subtract=True)

    def match_exposures(
        self, template, science, template_fwhm=None, science_fwhm=None, candidates=None, *,
        do_warping=True, convolve_template=None,
    ) -> MatchResult:  # fmt: skip
        """Warp the template onto the science image's grid (Lanczos), then match.

        Parameters
        ----------
        do_warping : bool
            False refuses images that are not registered.

        Others as in `match_masked_images`; candidates are in px of the science image.

        Raises
        ------
        ValueError
            Images that are not registered, with `do_warping` False or without WCS.
        NoOverlap
            They share no sky.
        """
        template, science = self._registered(
            template, science, template_fwhm, science_fwhm, do_warping
        )
        return self._match(template, science, candidates, convolve_template, subtract=False)

    def subtract_exposures(
        self, template, science, template_fwhm=None, science_fwhm=None, candidates=None, *,
        do_warping=True, convolve_template=None,
    ) -> MatchResult:  # fmt: skip
        """Register, match and subtract; see `match_exposures`.

        The difference has the sign and the flux units of the science image, whichever of the two
        was convolved.
        """
        template, science = self._registered(
            template, science, template_fwhm, science_fwhm, do_warping
        )
        return self._match(template, science, candidates, convolve_template, subtract=True)

    def match_model_psf(self, exposure, reference_psf, kernel_sum=1.0, *, psf=None) -> MatchResult:
        """Convolve an exposure so that its PSF becomes `reference_psf`.

        Parameters
        ----------
        exposure : Exposure, CCDData or ndarray
        reference_psf : object with ``at(x, y, size)``, or ndarray (k, k) of odd side
        kernel_sum : float
        psf : the same of the exposure; default its ``meta["psf"]``

        Raises
        ------
        ValueError
            No PSF, one that is too small for the kernel, or no positive `kernel_sum`.
        """
        if not (np.isfinite(kernel_sum) and kernel_sum > 0):
            raise ValueError(f"kernel_sum must be a positive number; got {kernel_sum}")
        ready = prepare(as_exposure(exposure))
        psf = ready.meta.get("psf") if psf is None else psf
        if psf is None:
            raise ValueError('the exposure has no PSF: give psf=... or meta["psf"]')
        kernel, cells, metadata = match_psfs(
            psf, reference_psf, ready.shape, self.config, kernel_sum
        )
        matched = convolved_exposure(kernel, ready)
        matched = matched.replace(meta={**ready.meta, "psf": reference_psf})
        return MatchResult(matched, kernel, None, cells, metadata=metadata)

    def get_selected_sources(self, exposure) -> Table:
        """Sources that may become candidates: x, y (px) and npix, of a sky-free exposure."""
        ready = prepare(as_exposure(exposure))
        return Table(detect_candidates(ready, self.config.active.detection_config))

    def make_candidate_list(self, template, science, kernel_size, candidates=None) -> list:
        """Candidates vetted on both images, the unusable ones with a reason.

        Parameters
        ----------
        kernel_size : int
            Side of the kernel in px, which sets the size of the stamps.
        candidates : table with x and y, or (n, 2), optional

        Returns
        -------
        list of KernelCandidate

        Raises
        ------
        NotEnoughStars
            There is no position at all.
        """
        template, science = (prepare(as_exposure(e)) for e in (template, science))
        _require_one_shape(template, science)
        half = stamp_half(self.config.active.detection_config, kernel_size)
        return self._vetted(template, science, candidates, half)

    def _vetted(self, template, science, candidates, half):
        config = self.config.active.detection_config
        found = find_candidates(science, template, config, candidates)
        return vet_candidates(found, template, science, config, half)

    def _ready(self, template, science, template_fwhm, science_fwhm):
        """Both images prepared, with the caller's FWHM in place of the measured one."""
        ready = []
        for name, image, fwhm in (
            ("template", template, template_fwhm), ("science", science, science_fwhm)
        ):  # fmt: skip
            one = prepare(_checked(name, as_exposure(image)))
            if fwhm is not None:
                if not (np.isfinite(fwhm) and fwhm > 0):
                    raise ValueError(f"{name}_fwhm must be a positive number of px; got {fwhm}")
                one = one.replace(meta={**one.meta, "fwhm": float(fwhm)})
            ready.append(one)
        return tuple(ready)

    def _registered(self, template, science, template_fwhm, science_fwhm, do_warping):
        template, science = self._ready(template, science, template_fwhm, science_fwhm)
        if not do_warping:
            _require_registered(template, science)
            return template, science
        warped, notes = align(template, science)
        log.info("template aligned: %s", notes)
        return warped, science

    def _match(self, template, science, candidates, convolve_template, subtract):
        if candidates is not None:  # before any work
            find_candidates(science, template, self.config.active.detection_config, candidates)
        if self.config.mode == "psflib":
            return self._psflib(template, science, candidates, convolve_template, subtract)
        return self._lsst(template, science, candidates, convolve_template, subtract)

    def _lsst(self, template, science, candidates, convolve_template, subtract):
        config, name = self.config.active, "science" if convolve_template is False else "template"
        target, convolved = (template, science) if name == "science" else (science, template)
        images, basis_meta = self._basis(convolved, target)
        if images.shape[-1] > min(science.shape):
            raise ValueError(
                f"the kernel ({images.shape[-1]} px) is larger than the images {science.shape}"
            )
        half = stamp_half(config.detection_config, images.shape[-1])
        vetted = self._vetted(template, science, candidates, half)
        cells = make_cells(science.shape, config.size_cell_x, config.size_cell_y, vetted)
        pair = Pair(target, convolved)
        if isinstance(config, PsfMatchConfigAL) and config.use_bic_for_kernel_basis:
            sigmas = basis_meta["ALBasisSigGauss"]
            degrees, _ = degrees_by_bic(
                vetted, pair, images.shape[-1] // 2, sigmas, config.alard_deg_gauss, config
            )
            images = lsst_basis.gaussian_basis(images.shape[-1] // 2, sigmas, degrees)
            basis_meta["ALBasisDegGauss"] = list(degrees)
        kernel, metadata = match(cells, pair, images, config, name)
        kernel = dataclasses.replace(kernel, meta=metadata)
        matched = convolved_exposure(kernel, convolved)
        difference = subtract_matched(kernel, science, template, matched) if subtract else None
        return MatchResult(
            matched, kernel, background_of(kernel), cells, difference, template,
            {**basis_meta, **metadata, "notes": basis_meta["notes"] + metadata["notes"],
             "mode": "lsst", "convolved": name},
        )  # fmt: skip

    def _basis(self, convolved, target):
        config = self.config.active
        fwhms = convolved.meta.get("fwhm"), target.meta.get("fwhm")
        sigmas, rule = lsst_basis.basis_sigmas(*fwhms, self.config.al)
        notes = []
        if rule == "deconvolution":
            notes.append(
                "the image to be convolved is the broader one (FWHM {:.2f} px against {:.2f} px): "
                "its kernel deconvolves, which amplifies noise".format(*fwhms)
            )
            log.warning("%s", notes[0])
        if self.config.kernel == "AL":
            images, meta = lsst_basis.choose_basis(*fwhms, config)
            return images, {**meta, "notes": notes}
        side = config.kernel_size
        if config.scale_by_fwhm and rule != "config":
            side = lsst_basis.kernel_size(sigmas, config)
        return delta_basis(side), {"DFKernelSize": side, "notes": notes}

    def _psflib(self, template, science, candidates, convolve_template, subtract):
        choice = {None: self.settings.convolve, True: "template", False: "science"}
        settings = self.settings.model_copy(update={"convolve": choice[convolve_template]})
        difference = al.subtract(science, template, settings, lambda exposure: None)
        kernel = difference.kernel
        name = kernel.convolved
        target, convolved = (template, science) if name == "science" else (science, template)
        cells, _ = judge_candidates(science, template, kernel, self.config.active, candidates)
        planes = {k: getattr(difference, k) for k in ("image", "variance", "mask")}
        subtracted = with_psf_of(target, science.replace(**planes))
        counts = cells.counts()
        ny, nx = science.shape
        return MatchResult(
            convolved_exposure(kernel, convolved), kernel, background_of(kernel), cells,
            subtracted if subtract else None, template,
            {**difference.meta, **counts, "mode": "psflib", "convolved": name,
             "notes": [*difference.meta.get("notes", []), *doubts(counts, counts["n_good"])],
             "spatial_kernel_sum": float(kernel.kernel_sum((nx - 1) / 2, (ny - 1) / 2))},
        )  # fmt: skip


def _checked(name, exposure) -> Exposure:
    """The exposure, if it holds anything to match."""
    usable = exposure.usable
    if not usable.any():
        raise BadImage(f"{name}: none of {usable.size} pixels is usable")
    values = exposure.image[usable]
    if values.min() == values.max():
        raise BadImage(f"{name}: all usable pixels hold the value {values[0]:g}")
    return exposure


def _require_one_shape(template, science):
    if template.shape != science.shape:
        raise ValueError(
            f"template {template.shape} and science {science.shape} differ in shape; images on "
            "different grids need a WCS and match_exposures"
        )


def _require_registered(template, science):
    """Same shape and, if both have a WCS, the same sky at their corners within 0.1 px."""
    _require_one_shape(template, science)
    if template.wcs is None or science.wcs is None:
        return
    ny, nx = science.shape
    corners = np.array([[0, 0], [nx - 1, 0], [0, ny - 1], [nx - 1, ny - 1]], float)
    sky = science.wcs.all_pix2world(corners, 0)
    moved = template.wcs.wcs_world2pix(sky, 0) - corners
    if not np.abs(moved).max() < 0.1:
        raise ValueError(
            f"images are not registered (corners differ by {np.nanmax(np.abs(moved)):.1f} px) and "
            "do_warping is False"
        )
