"""Can this difference be believed? good, suspicious or bad, with reasons in words and numbers.

One table of checks, `CHECKS`: what is measured (`psflib.detection.evidence`), beyond which value it
speaks against the difference, and where that limit comes from.  What cannot be measured never
counts as good: it is listed, and too much of it makes a difference suspicious.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from astropy.table import QTable

from psflib.detection.evidence import Evidence, measure, psf_numbers
from psflib.image.difference import Difference
from psflib.image.exposure import Exposure

WORDS = ("good", "suspicious", "bad")
MOST_UNKNOWN = 1 / 3  # share of the checks that may be unknown before that alone is suspicious


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that is looked at.

    Parameters
    ----------
    name : str
        Of the number, see `psflib.detection.evidence`.
    what : str
        The same in words.
    suspicious, bad : float
        Limits beyond which the number speaks against the difference; NaN: never.
    origin : str
        Where the limits come from.
    unit : str
        Of the number.
    below : bool
        Small numbers are the bad ones.
    """

    name: str
    what: str
    suspicious: float
    bad: float
    origin: str
    unit: str = ""
    below: bool = False

    def word(self, value: float) -> str:
        """What this number says; "unknown" for NaN."""
        if np.isnan(value):
            return "unknown"
        for word, limit in (("bad", self.bad), ("suspicious", self.suspicious)):
            if value < limit if self.below else value > limit:
                return word
        return "good"

    def reason(self, value: float) -> str:
        """The number beside the limit that it breaks."""
        limit = self.bad if self.word(value) == "bad" else self.suspicious
        side = "less" if self.below else "more"
        return f"{self.what} {value:.3g}{self.unit}, {side} than {limit:g}"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What is to be thought of a difference.

    Parameters
    ----------
    word : str
        good, suspicious or bad.
    reasons : tuple of str
        The worst first; of a good one, only what could not be measured.
    values : dict of str to float
        Every number that was looked at; NaN where it is not known.
    """

    word: str
    reasons: tuple[str, ...] = ()
    values: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def meta(self) -> dict:
        """As entries of a product's `meta`; numbers that are not known are left out."""
        known = {name: round(v, 6) for name, v in self.values.items() if np.isfinite(v)}
        return {"verdict": self.word, "reasons": list(self.reasons), "evidence": known}


#: The largest value among the 200 good simulated pairs, docs/validation.md.
_GOOD = "good pairs: up to "
OF_PSF = (
    Check("reserve_chi2", "chi-square of the PSF on reserved stars", 5, 30, _GOOD + "3.9"),
    Check("unfinished", "solution of the PSF not converged:", 0.5, np.nan, "a fact"),
    Check("psf_lobes", "second maximum of the PSF over its first", 0.1, 0.5,
          _GOOD + "0.03; doubled stars: 0.98"),
    Check("psf_ellipticity", "ellipticity of the PSF", 0.4, 0.8,
          _GOOD + "0.17; GOTO: 0.69, trailed stars: 0.66 to 0.86"),
)  # fmt: skip
CHECKS = (
    Check("registration", "registration residual", 0.65, 1.0,
          _GOOD + "0.3; shifts up to 0.6 px are left to the kernel", " px rms"),
    Check("registration_varying", "registration residual that varies over the field", 0.2, 0.5,
          _GOOD + "0.12; the kernel does not follow it", " px rms"),
    Check("kernel_shift", "the kernel shifts by", 0.65, 1.5,
          _GOOD + "0.1; shifts up to 0.6 px are left to it", " px"),
    Check("kernel_lobes", "second maximum of the kernel over its first", 0.3, 0.8,
          _GOOD + "0.06; doubled stars: 0.8 to 1"),
    Check("kernel_sum", "the kernel's least sum", 0, 0, "light is not negative", below=True),
    Check("kernel_spread", "the kernel's sum varies by a factor of", 1.5, 2.0,
          _GOOD + "1.3; a cloud over half of the field: 2.2 to 3.2"),
    Check("flux_split", "flux ratios of two halves of the field differ by a factor of", 1.25, 1.5,
          _GOOD + "1.1; a cloud over half of the field: 2"),
    Check("usable", "usable share of the pixels", 0.6, 0.1,
          "half of a template is less than was asked for; a tenth is no field", below=True),
    Check("residual_faint", "residual of faint stars", 1.3, 2.0,
          _GOOD + "1.1; wrong field: 1.3 to 2.3", " sigma"),
    Check("residual_medium", "residual of stars of S/N 50 to 250", 1.5, 3.0,
          _GOOD + "1.3; wrong field: 2.8 to 13", " sigma"),
    Check("residual_bright", "residual of bright stars", 2.5, 6.0,
          _GOOD + "2.2; GOTO: 4; cloud: 3.6 to 5, wrong field: 4 to 64", " sigma"),
    Check("light_left", "share of the stars' light that is left", 0.1, 0.3,
          _GOOD + "0.08; GOTO: 0.14; cloud: 0.07 to 0.12, wrong field: 0.8 and more"),
    Check("stars_found", "share of the stars that are candidates", 0.45, np.nan,
          _GOOD + "0.4, of few; GOTO: 0.55"),
    Check("stars_clean", "share of the stars that are clean candidates", 0.35, 0.5,
          _GOOD + "0.2; cloud: 0.5 to 0.7, wrong field: 0.5 to 0.9"),
    Check("held_out", "residual of stars that were held out", 5.0, np.nan,
          _GOOD + "14, of few stars, whose cells know little of each other", " sigma"),
    Check("claimed_noise", "noise off what is claimed by a factor of", 1.5, 3.0,
          _GOOD + "1.4; GOTO, of shared exposures: 2.5"),
    Check("told_gain", "sky noise of the told gain off by a factor of", 2.0, np.nan,
          _GOOD + "2 (one of 5, a crowd); a gain off by 3: 3 to 4"),
    Check("mosaic", "sky of even and odd rows and columns apart by", 0.5, np.nan,
          _GOOD + "0.03; raw frames of a colour camera: 2", " sigma"),
    Check("quadrant_noise", "noise of the worst quadrant off by a factor of", 1.4, 2.0,
          _GOOD + "1.3"),
    Check("score_noise", "noise of the score off by a factor of", 1.5, 4.0,
          _GOOD + "1.4; GOTO: 1.4 to 1.9"),
    Check("correlation", "correlation of neighbouring pixels' noise", 0.12, 0.3, _GOOD + "0.1"),
    Check("density", "clean candidates per Mpx at least", 300, 3000,
          _GOOD + "5; the limit is five times what changes in the simulated skies"),
    Check("one_sign", "clean candidates of one sign to one of the other at least", 30, np.nan,
          "GOTO, with 36 injected sources: 25"),
    *OF_PSF,
)  # fmt: skip


def verdict(
    difference: Difference, candidates: QTable, science: Exposure | None = None, sky=None
) -> Verdict:
    """Judge a difference by all that can be measured on it.

    Parameters
    ----------
    difference : Difference
        Decorrelated; its `meta` tells what registration, matching and decorrelation found.
    candidates : QTable
        From `psflib.detect`, flags included.
    science : Exposure, optional
        Prepared; the difference's own if it carries one.  Without it nothing is known of stars.
    sky : ndarray (ny, nx) bool, optional
        `alarms.empty_of_candidates`, if it is known.
    """
    science = difference.science if science is None else science
    if science is not None and "fwhm" not in science.meta:
        science = None
    return judge(measure(Evidence(difference, candidates, science, sky)))


def verdict_of_psf(psf) -> Verdict:
    """Judge a `PsfField` by itself."""
    return judge(psf_numbers(psf, psf.shape), OF_PSF)


def judge(values: Mapping[str, float], checks: Sequence[Check] = CHECKS) -> Verdict:
    """The verdict that numbers ask for.

    Parameters
    ----------
    values : mapping of str to float
        By the names of the checks; NaN or left out: not measurable.
    checks : sequence of Check
    """
    said = {check: check.word(float(values.get(check.name, np.nan))) for check in checks}
    reasons = {
        word: [check.reason(values[check.name]) for check, found in said.items() if found == word]
        for word in ("bad", "suspicious")
    }
    unknown = [check.what.rstrip(":") for check, found in said.items() if found == "unknown"]
    too_little = len(unknown) > MOST_UNKNOWN * len(checks)
    word = "good"
    if reasons["suspicious"] or too_little:
        word = "suspicious"
    if reasons["bad"]:
        word = "bad"
    lines = [*reasons["bad"], *reasons["suspicious"]]
    if unknown:
        lines.append(f"not measurable: {', '.join(unknown)}")
    return Verdict(word, tuple(lines), dict(values))


def worst(words) -> str:
    """The worst of some verdicts' words; bad counts most, '' if there are none."""
    known = [word for word in words if word in WORDS]
    return max(known, key=WORDS.index, default="")
