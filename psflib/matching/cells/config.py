"""Settings of a kernel fit by candidates in cells, with the names and defaults of LSST's pipelines.

A name may be written as here (``n_star_per_cell``) or as in LSST's documents (``nStarPerCell``).
Defaults differ from LSST's in two places: a user's mask (BAD) and cosmic rays (CR) bar a pixel from
the fit, and every setting of a star count is the one in force when the task was documented (2023).
"""

import difflib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from psflib.image.exposure import MaskBit

NO_DATA_PLANES = ("NO_DATA", "EDGE", "SAT", "BAD", "CR")


class EitherSpelling(BaseModel):
    """Frozen, both spellings accepted, unknown names refused with the nearest one."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )

    @model_validator(mode="before")
    @classmethod
    def _known_names(cls, values: Any):
        if isinstance(values, dict):
            names = {*cls.model_fields, *(to_camel(n) for n in cls.model_fields)}
            for name in values:
                if name not in names:
                    near = difflib.get_close_matches(str(name), sorted(names), 1)
                    hint = f"; did you mean {near[0]!r}?" if near else ""
                    raise ValueError(f"{cls.__name__} has no setting {name!r}{hint}")
        return values


def _planes(names):
    for name in names:
        if name not in MaskBit.__members__:
            raise ValueError(f"no mask plane {name!r}; one of {', '.join(MaskBit.__members__)}")
    return names


class DetectionConfig(EitherSpelling):
    """Detection of candidates, for calls that bring none."""

    det_threshold: float = Field(10.0, ge=3, description="threshold, in units of its type")
    det_threshold_type: Literal["pixel_stdev", "stdev", "value", "variance"] = Field(
        "pixel_stdev",
        description="in sigma of each pixel; of the sky (two names of it); or in ADU (value)",
    )
    det_on_template: bool = Field(True, description="detect on the template, else on the science")
    bad_mask_planes: tuple[str, ...] = Field(NO_DATA_PLANES, description="bits no stamp may have")
    fp_npix_min: int = Field(5, ge=1, description="fewest pixels of a detection")
    fp_npix_max: int = Field(500, ge=1, description="most pixels of a detection; 0.5 x stamp²")
    fp_grow_kernel_scaling: float = Field(
        1.0, ge=1, description="half side of a stamp in kernel sizes, if scaled by FWHM"
    )
    fp_grow_pix: int = Field(30, ge=10, description="half side of a stamp, px, if not scaled")
    scale_by_fwhm: bool = Field(True, description="scale the stamp's half side to the kernel")

    _check = field_validator("bad_mask_planes")(_planes)


class PsfMatchConfig(EitherSpelling):
    """What the two kernel models share."""

    detection_config: DetectionConfig = DetectionConfig()
    fit_for_background: bool = Field(True, description="fit a differential background")
    kernel_size: int = Field(21, ge=3, description="side of the kernel, px, odd")
    scale_by_fwhm: bool = Field(True, description="size kernel and basis by the two FWHMs")
    kernel_size_fwhm_scaling: float = Field(
        6.0, ge=1, description="kernel side in units of the largest basis sigma"
    )
    kernel_size_min: int = Field(21, ge=3, description="px")
    kernel_size_max: int = Field(35, ge=3, description="px")
    spatial_model_type: Literal["chebyshev1", "polynomial"] = Field(
        "chebyshev1", description="both span the same functions; solved as Chebyshev polynomials"
    )
    spatial_kernel_order: int = Field(2, ge=0, le=6, description="degree of the kernel's change")
    spatial_bg_order: int = Field(1, ge=0, le=6, description="degree of the background")
    size_cell_x: int = Field(128, ge=32, description="px")
    size_cell_y: int = Field(128, ge=32, description="px")
    n_star_per_cell: int = Field(3, ge=-1, description="candidates used of a cell; -1 all")
    max_spatial_iterations: int = Field(3, ge=1, le=5, description="rounds of the spatial clip")
    use_pca_for_spatial_kernel: bool = Field(False, description="principal components as basis")
    subtract_mean_for_pca: bool = Field(True, description="the mean kernel is the first image")
    num_principal_components: int = Field(5, ge=3, description="basis images, the mean included")
    single_kernel_clipping: bool = Field(True, description="by the residuals of single fits")
    kernel_sum_clipping: bool = Field(True, description="by the sums of the single kernels")
    spatial_kernel_clipping: bool = Field(True, description="by the residuals of the spatial fit")
    check_condition_number: bool = Field(False, description="reject ill-conditioned candidates")
    bad_mask_planes: tuple[str, ...] = Field(
        NO_DATA_PLANES, description="bits that leave a pixel out of residual statistics"
    )
    candidate_residual_mean_max: float = Field(0.25, ge=0, description="sigma")
    candidate_residual_std_max: float = Field(1.5, ge=0, description="sigma")
    use_core_stats: bool = Field(False, description="residuals of the core of the stamp only")
    candidate_core_radius: int = Field(3, ge=1, description="the core has (2 r + 1)² pixels")
    max_ksum_sigma: float = Field(3.0, ge=0, description="sigma of the kernel sums")
    max_condition_number: float = Field(5e7, ge=0, description="of a candidate")
    condition_number_type: Literal["EIGENVALUE", "SVD"] = Field(
        "EIGENVALUE", description="ratio of |eigenvalues|, or of singular values"
    )
    max_spatial_condition_number: float = Field(1e10, ge=0, description="above it: a warning")
    iterate_single_kernel: bool = Field(
        False, description="second pass with the variance of the stamp's difference"
    )
    constant_variance_weighting: bool = Field(True, description="one weight for a whole stamp")
    calculate_kernel_uncertainty: bool = Field(False, description="error of the kernel sum")

    _check = field_validator("bad_mask_planes")(_planes)

    @field_validator("kernel_size", "kernel_size_min", "kernel_size_max")
    @classmethod
    def _odd(cls, value):
        if value % 2 == 0:
            raise ValueError(f"sides of kernels are odd; got {value}")
        return value


class PsfMatchConfigAL(PsfMatchConfig):
    """Alard-Lupton: Gaussians times polynomials."""

    kernel_basis_set: Literal["alard-lupton"] = "alard-lupton"
    alard_n_gauss: int = Field(3, ge=1, description="number of Gaussians")
    alard_deg_gauss: tuple[int, ...] = Field((4, 2, 2), description="degrees of the polynomials")
    alard_sig_gauss: tuple[float, ...] = Field(
        (0.7, 1.5, 3.0), description="sigmas, px, for FWHMs that are equal or not known"
    )
    alard_gauss_beta: float = Field(2.0, ge=0, description="ratio of consecutive sigmas")
    alard_min_sig: float = Field(0.7, ge=0.25, description="least sigma, px")
    alard_min_sig_deconv: float = Field(0.4, ge=0.25, description="the same for deconvolution")
    use_bic_for_kernel_basis: bool = Field(
        False, description="lower the degrees as far as the candidates' own fits allow"
    )

    @model_validator(mode="after")
    def _lengths(self):
        for name in ("alard_deg_gauss", "alard_sig_gauss"):
            values = getattr(self, name)
            if len(values) != self.alard_n_gauss:
                raise ValueError(
                    f"{name} has {len(values)} values, alard_n_gauss is {self.alard_n_gauss}"
                )
            if min(values) < 0 or (name == "alard_sig_gauss" and min(values) <= 0):
                raise ValueError(f"{name} must be positive; got {values}")
        return self


class PsfMatchConfigDF(PsfMatchConfig):
    """Delta functions: one free value a pixel, held together by regularisation."""

    kernel_basis_set: Literal["delta-function"] = "delta-function"
    use_pca_for_spatial_kernel: bool = True
    max_condition_number: float = Field(5e6, ge=0)
    use_regularization: bool = True
    regularization_type: Literal["centralDifference", "forwardDifference"] = "centralDifference"
    central_regularization_stencil: Literal[5, 9] = 9
    forward_regularization_orders: tuple[Literal[1, 2, 3], ...] = (1, 2)
    regularization_border_penalty: float = Field(3.0, ge=0)
    lambda_type: Literal["absolute", "relative", "minimizeBiasedRisk", "minimizeUnbiasedRisk"] = (
        "absolute"
    )
    lambda_value: float = Field(0.2, ge=0, description="of lambda_type absolute")
    lambda_scaling: float = Field(1e-4, ge=0, description="of relative, times tr(M) / tr(H)")
    lambda_step_type: Literal["log", "linear"] = "log"
    lambda_min: float = Field(-1.0, description="log10 of the first lambda (linear: itself)")
    lambda_max: float = 2.0
    lambda_step: float = Field(0.1, gt=0)
