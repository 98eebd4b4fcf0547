"""`ImagePsfMatchTask`: PSF matching of two images by the names of LSST's pipelines.

Mode `psflib` fits all footprints at once (`psflib.subtract`) and then asks each candidate what it
thinks of the result; mode `lsst` lets candidates in cells tell the kernel, with their clippings.
"""

import dataclasses
import logging
from typing import ClassVar, NamedTuple

import numpy as np
from astropy.table import Table

from psflib.image.exposure import OWN_BITS, Exposure, as_exposure
from psflib.image.warp import align
from psflib.lsst.assess import find_candidates, judge_candidates
from psflib.lsst.basis_choice import degrees_by_bic
from psflib.lsst.config import ImagePsfMatchConfig
from psflib.lsst.debug import MatchView, debug_of
from psflib.lsst.match_result import MatchResult, without_nan
from psflib.lsst.model_psf import match_psfs
from psflib.lsst.registration import (
    checked,
    removed_sky,
    require_one_shape,
    require_registered,
)
from psflib.lsst.task import Task
from psflib.matching.apply import (
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
from psflib.matching.cells.grid import make_cells
from psflib.matching.cells.single import Pair
from psflib.preparation.prepare import prepare
from psflib.subtraction import al

log = logging.getLogger(__name__)


#: What mode psflib, which fits without candidates, takes from the settings of the kernel.
OF_JUDGING = {
    "detection_config", "size_cell_x", "size_cell_y", "bad_mask_planes", "use_core_stats",
    "candidate_core_radius", "candidate_residual_mean_max", "candidate_residual_std_max",
}  # fmt: skip


class _Inputs(NamedTuple):
    """Prepared images on one grid, and the sky that was taken off each, None if it came without."""

    template: Exposure
    science: Exposure
    template_sky: np.ndarray | None
    science_sky: np.ndarray | None


class ImagePsfMatchTask(Task):
    """Match the PSF of two images, and subtract one from the other.

    Parameters
    ----------
    config : ImagePsfMatchConfig, a changeable one (`ConfigClass`) or dict, optional
    settings : AlSettings, optional
        Of mode `psflib`.
    name, parent_task, log : optional
        As of `Task`.
    debug : Debug, dict or namespace, optional
        Debug variables: what of each match is to be shown.
    show : callable (MatchView), optional
        Shows it, `psflib.figures.debug_figures` say; what it returns is the result's `shown`.

    Notes
    -----
    Images are `Exposure`, `CCDData` or plain arrays; those with sky or without variance are
    prepared first (`psflib.prepare`).  Raised by all methods, beside ValueError for bad calls:
    BadImage (nothing usable), NoOverlap, NotEnoughStars (with the candidates' fate), SingularFit.

    Methods, arguments, results and settings answer to LSST's spelling as well (`matchExposures`,
    `templateFwhmPix=`, `subtractedExposure`, `config.kernel.active.singleKernelClipping`).
    """

    model = ImagePsfMatchConfig
    default_name = "imagePsfMatch"
    theirs: ClassVar[dict[str, str]] = {
        "templateExposure": "template", "templateMaskedImage": "template",
        "scienceExposure": "science", "scienceMaskedImage": "science",
        "templateFwhmPix": "template_fwhm", "scienceFwhmPix": "science_fwhm",
        "candidateList": "candidates", "getSelectSources": "get_selected_sources",
        "referencePsfModel": "reference_psf",
    }  # fmt: skip
    refused: ClassVar[dict[str, str]] = {
        "makeKernelBasisList": "the basis of a match is its kernel's: "
        "result.psfMatchingKernel.basis",
    }

    def __init__(
        self, config=None, settings: al.AlSettings | None = None, name=None, parent_task=None,
        log=None, debug=None, show=None,
    ):  # fmt: skip
        super().__init__(config, name, parent_task, log)
        self.settings = settings or al.AlSettings()
        self.debug, self.show = debug_of(debug), show

    @property
    def k_config(self):
        """Settings of the kernel model in use."""
        return self.config.active

    def match_masked_images(
        self, template, science, candidates=None, template_fwhm=None, science_fwhm=None, *,
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
        inputs = self._ready(template, science, template_fwhm, science_fwhm)
        require_one_shape(inputs.template, inputs.science)
        return self._match(inputs, candidates, convolve_template, subtract=False)

    def subtract_masked_images(
        self, template, science, candidates=None, template_fwhm=None, science_fwhm=None, *,
        convolve_template=None,
    ) -> MatchResult:  # fmt: skip
        """Match two images that lie on one grid and subtract; see `match_masked_images`."""
        inputs = self._ready(template, science, template_fwhm, science_fwhm)
        require_one_shape(inputs.template, inputs.science)
        return self._match(inputs, candidates, convolve_template, subtract=True)

    def match_exposures(
        self, template, science, template_fwhm=None, science_fwhm=None, candidates=None,
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
        inputs = self._registered(template, science, template_fwhm, science_fwhm, do_warping)
        return self._match(inputs, candidates, convolve_template, subtract=False)

    def subtract_exposures(
        self, template, science, template_fwhm=None, science_fwhm=None, candidates=None,
        do_warping=True, convolve_template=None,
    ) -> MatchResult:  # fmt: skip
        """Register, match and subtract; see `match_exposures`.

        The difference has the sign and the flux units of the science image, whichever of the two
        was convolved.
        """
        inputs = self._registered(template, science, template_fwhm, science_fwhm, do_warping)
        return self._match(inputs, candidates, convolve_template, subtract=True)

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
        require_one_shape(template, science)
        half = stamp_half(self.config.active.detection_config, kernel_size)
        return self._vetted(template, science, candidates, half)

    def _vetted(self, template, science, candidates, half):
        config = self.config.active.detection_config
        found = find_candidates(science, template, config, candidates)
        return vet_candidates(found, template, science, config, half)

    def _ready(self, template, science, template_fwhm, science_fwhm) -> _Inputs:
        """Both images prepared, with the caller's FWHM in place of the measured one."""
        ready, skies = [], []
        for name, image, fwhm in (
            ("template", template, template_fwhm), ("science", science, science_fwhm)
        ):  # fmt: skip
            raw = checked(name, as_exposure(image))
            one = prepare(raw)
            skies.append(removed_sky(raw, one))
            if fwhm is not None:
                if not (np.isfinite(fwhm) and fwhm > 0):
                    raise ValueError(f"{name}_fwhm must be a positive number of px; got {fwhm}")
                one = one.replace(meta={**one.meta, "fwhm": float(fwhm)})
            ready.append(one)
        return _Inputs(ready[0], ready[1], skies[0], skies[1])

    def _registered(self, template, science, template_fwhm, science_fwhm, do_warping) -> _Inputs:
        inputs = self._ready(template, science, template_fwhm, science_fwhm)
        if not do_warping:
            require_registered(inputs.template, inputs.science)
            return inputs
        warped, notes = align(inputs.template, inputs.science)
        log.info("template aligned: %s", notes)
        if warped is inputs.template:
            return inputs
        return inputs._replace(template=warped, template_sky=None)

    def _match(self, inputs, candidates, convolve_template, subtract) -> MatchResult:
        template, science = inputs.template, inputs.science
        if candidates is not None:  # before any work
            find_candidates(science, template, self.config.active.detection_config, candidates)
        match = self._psflib if self.config.mode == "psflib" else self._lsst
        result, pair = match(template, science, candidates, convolve_template, subtract)
        swapped = result.psf_matching_kernel.convolved == "science"
        sky = inputs.template_sky if swapped else inputs.science_sky
        background = background_of(result.psf_matching_kernel, sky)
        self.metadata.update(result.metadata)
        return dataclasses.replace(
            result, background_model=background, shown=self._shown(result, pair, science)
        )

    def _shown(self, result, pair, science):
        """What `show` makes of a match, if anything is to be shown."""
        if not self.debug.display:
            return None
        if self.show is None:
            raise ValueError(
                "debug.display is set, but nothing shows: give the task a callable as show, "
                "psflib.figures.debug_figures say"
            )
        return self.show(
            MatchView(
                self.debug.frozen(), science, result.template, pair, result.psf_matching_kernel,
                result.kernel_cell_set, result.subtracted_image,
            )
        )  # fmt: skip

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
        result = MatchResult(
            matched, kernel, background_of(kernel), cells, difference, template,
            {**basis_meta, **metadata, "notes": basis_meta["notes"] + metadata["notes"],
             "mode": "lsst", "convolved": name},
        )  # fmt: skip
        return result, pair

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
        if self.config.kernel.name == "AL":
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
        cells, pair = judge_candidates(science, template, kernel, self.config.active, candidates)
        planes = {k: getattr(difference, k) for k in ("image", "variance", "mask")}
        subtracted = with_psf_of(target, science.replace(**planes, mask_bits=OWN_BITS))
        counts = cells.counts()
        ny, nx = science.shape
        notes = [*difference.meta.get("notes", []), *doubts(counts, counts["n_good"]),
                 *self._without_effect()]  # fmt: skip
        result = MatchResult(
            convolved_exposure(kernel, convolved), kernel, background_of(kernel), cells,
            subtracted if subtract else None, template,
            {**without_nan(difference.meta), **counts, "mode": "psflib", "convolved": name,
             "notes": notes,
             "spatial_kernel_sum": float(kernel.kernel_sum((nx - 1) / 2, (ny - 1) / 2))},
        )  # fmt: skip
        return result, pair

    def _without_effect(self):
        """A note on settings that were changed but belong to the other mode."""
        config = self.config.active
        default = type(config)()
        changed = [
            name for name in type(config).model_fields
            if name not in OF_JUDGING and getattr(config, name) != getattr(default, name)
        ]  # fmt: skip
        if self.config.kernel.name != "AL":
            changed.insert(0, "kernel")
        if not changed:
            return []
        note = f"these settings count in mode lsst only, not in mode psflib: {', '.join(changed)}"
        log.warning("%s", note)
        return [note]
