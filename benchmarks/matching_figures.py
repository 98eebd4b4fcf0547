"""One simulated scene, the ideal subtraction of it, and the figures of any other.

Residuals are in units of the ideal subtraction's sigma.
"""

import itertools
import time

import numpy as np
from scipy import ndimage, signal, spatial

from psflib.decorrelation.decorrelate import decorrelate
from psflib.image.convolve import VaryingKernel
from psflib.image.difference import Difference
from psflib.image.exposure import MaskBit
from psflib.image.noise import robust_std
from psflib.judging.metrics import values
from psflib.preparation.prepare import prepare
from psflib.simulation import oracle_difference
from psflib.simulation.camera import optimal_snr
from psflib.simulation.simulate import simulate_scene
from psflib.subtraction import METHODS, SubtractSettings

BINS = (30, 100, 300, 1000, 1e9)
PLACES = 9


class OracleKernel:
    """The true kernel, with what `decorrelate` asks of a kernel."""

    order, flux_order = 2, 2

    def __init__(self, kernel: VaryingKernel, convolved: str):
        self.kernel, self.convolved, self.basis = kernel, convolved, kernel.images

    def at(self, x, y):
        return self.kernel.at(x, y)

    def kernel_sum(self, x, y):
        """At a place, or at a row and a column of places."""
        return np.tensordot(self.basis.sum((1, 2)), self.kernel.weights(x, y), 1)


class Bench:
    """One scene, its oracle, and the figures of a difference of it."""

    def __init__(self, name, size, seed, convolved=None):
        self.scene = scene = simulate_scene(name, size, seed)
        self.size = size
        exposures = [scene.science.exposure, scene.template.exposure]
        begin = time.process_time()
        self.science, self.template = (prepare(e) for e in exposures)
        self.prepare_seconds = time.process_time() - begin
        sharp = scene.cameras[0].psf.fwhm < scene.cameras[1].psf.fwhm
        self.convolved = convolved or ("science" if sharp else "template")
        image, variance, kernel = oracle_difference(scene, self.convolved)
        self.sigma = np.sqrt(variance)
        self.good = exposures[0].usable & exposures[1].usable
        mask = np.where(self.good, 0, int(MaskBit.BAD)).astype(np.uint16)
        self.psf = scene.cameras[0 if self.convolved == "template" else 1].psf
        self.oracle = Difference(
            image, variance, mask, OracleKernel(kernel, self.convolved), self.psf,
            science=self.science, template=self.template,
            meta={"noise_correlation": (None, None)},
        )  # fmt: skip
        self._positions()

    def subtract(self, settings=None, method="al"):
        """Difference by psflib; the PSF is the true one, and no part of the measured time."""
        settings = settings or SubtractSettings()
        cameras = {id(self.science): 0, id(self.template): 1}

        def psf_of(exposure):
            return self.scene.cameras[cameras[id(exposure)]].psf

        return METHODS[method](self.science, self.template, getattr(settings, method), psf_of)

    def _positions(self):
        sources = self.scene.sources
        x, y, kind = (values(sources, n) for n in ("x", "y", "kind"))
        inside = (np.minimum(x, y) > 12) & (np.maximum(x, y) < self.size - 13)
        changed = np.isin(kind, ("variable", "transient"))
        self.changes = np.c_[x, y][changed]
        tree = spatial.cKDTree(self.changes)
        rays = np.zeros(self.good.shape, bool)
        for seen in (self.scene.science, self.scene.template):
            rays |= ((seen.artefacts & MaskBit.CR) > 0) & seen.exposure.usable
        self.spoiled = ndimage.binary_dilation(rays, iterations=6)
        delta = np.abs(values(sources, "delta_flux")[changed])
        reach = np.where(delta > 1e4, 14, 8)
        rows, cols = np.indices(self.good.shape)
        near, which = tree.query(np.c_[cols.ravel(), rows.ravel()], distance_upper_bound=15)
        limit = np.append(reach, 0)[which]
        self.spoiled |= (near < limit).reshape(self.good.shape)
        star = (kind == "star") & inside & (values(sources, "flux") > 1000)
        self.stars = np.c_[x, y, values(sources, "flux")][star]
        moving = (kind == "transient") & (values(sources, "snr") > 20)
        self.transients = np.c_[x, y, values(sources, "delta_flux")][moving]
        total = self.scene.total_variance
        psf = self.scene.cameras[0].psf
        self.star_snr = np.array([optimal_snr(f, i, j, psf, total) for i, j, f in self.stars])

    def figures(self, difference: Difference) -> dict:
        """All figures of quality."""
        use = difference.usable & self.good
        clean, ideal = decorrelate(difference), decorrelate(self.oracle)
        sky, source = self.noise(difference, use)
        result = {
            "v1000": self.virtual(difference.kernel),
            "FP": self.false_positives(clean),
            "oracle FP": self.false_positives(ideal),
            **self.star_bins(difference.image, use),
            "bias": 100 * (self.bias(difference.image) - self.bias(self.oracle.image)),
            "sky": sky, "src": source, "usable": use.sum() / self.good.sum(),
        }  # fmt: skip
        bins = self.star_bins(self.oracle.image, use)
        result |= {f"oracle {name}": value for name, value in bins.items()}
        return result

    def noise(self, difference, use):
        """Robust scatter of D over its claimed sigma: in empty sky, on bright sources."""
        z = np.zeros(self.good.shape)
        z[use] = difference.image[use] / np.sqrt(difference.variance[use])
        sky, bright = self.regions(use)
        return robust_std(z[sky]), robust_std(z[bright])

    def regions(self, use):
        """Where nothing changed: empty sky, and bright sources; two boolean (ny, nx)."""
        light = self.scene.steady[0]
        sky_sigma = self.scene.cameras[0].sky_sigma
        smooth = ndimage.maximum_filter(light, 9)
        steady = use & ~self.spoiled
        sky = steady & (smooth < np.quantile(smooth, 0.2) + 0.5 * sky_sigma)
        return sky, steady & (light > 10 * sky_sigma)

    def star_bins(self, image, use):
        result = {}
        for low, high in itertools.pairwise(BINS):
            rest = []
            for (x, y, _), snr in zip(self.stars, self.star_snr, strict=True):
                if low <= snr < high:
                    rest.append(self._star(image, use, x, y))
            rest = np.concatenate([*rest, []])
            result[f"*{low}"] = np.sqrt(np.mean(rest)) if len(rest) else np.nan
        return result

    def _star(self, image, use, x, y):
        radius = self.scene.cameras[0].psf.fwhm
        half = int(np.ceil(radius))
        rows = slice(round(y) - half, round(y) + half + 1)
        cols = slice(round(x) - half, round(x) + half + 1)
        j, i = np.ogrid[rows, cols]
        disc = np.hypot(j - y, i - x) <= radius
        if not np.all(use[rows, cols][disc]) or self.spoiled[rows, cols][disc].any():
            return []
        return np.square(image[rows, cols] / self.sigma[rows, cols])[disc]

    def virtual(self, kernel, snr=1000.0):
        """Rms over sigma within 1 FWHM of noise-free stars at 81 places."""
        step = self.size / PLACES
        squares = [
            self._virtual_star(kernel, (i + 0.5) * step, (j + 0.5) * step, snr)
            for j in range(PLACES)
            for i in range(PLACES)
        ]
        return float(np.sqrt(1 + np.mean(squares)))

    def _virtual_star(self, kernel, x, y, snr):
        first = 0 if self.convolved == "template" else 1
        target, moved = self.scene.cameras[first], self.scene.cameras[1 - first]
        k = kernel.at(x, y)
        size = 2 * (len(k) // 2) + 31
        dx, dy = x - np.rint(x), y - np.rint(y)
        scale = self.scene.scale[round(y), round(x)]
        scale = scale if self.convolved == "template" else 1 / scale
        p = target.psf.at(x, y, size - len(k) + 1, dx, dy)
        q = moved.psf.at(x, y, size, dx, dy)
        rest = p - signal.fftconvolve(q, k, "valid") / scale
        sky = target.noise_variance(target.sky) + (k**2).sum() * moved.noise_variance(moved.sky)
        own = signal.fftconvolve(q / scale / moved.gain, k**2, "valid") + p / target.gain
        low, high = 1.0, 1e9
        for _ in range(60):
            flux = np.sqrt(low * high)
            reached = flux * np.sqrt(np.sum(p**2 / (sky + flux * own)))
            low, high = (flux, high) if reached < snr else (low, flux)
        j, i = np.indices(p.shape) - len(p) // 2
        disc = np.hypot(j - dy, i - dx) <= self.scene.cameras[0].psf.fwhm
        return np.mean((np.square(flux * rest) / (sky + flux * own))[disc])

    def false_positives(self, clean):
        """Peaks of |score| >= 5 per Mpx, off changes and off cosmic rays that nobody masked."""
        return self.peaks(np.where(clean.usable & self.good, np.abs(clean.score), 0))

    def peaks(self, strength):
        """The same of any plane of absolute significance."""
        peak = (strength >= 5) & (strength == ndimage.maximum_filter(strength, 7))
        return (peak & ~self.spoiled).sum() / self.good.sum() * 1e6

    def bias(self, image):
        ratio = []
        for x, y, flux in self.transients:
            half = 10
            j, i = round(y), round(x)
            box = np.s_[j - half : j + half + 1, i - half : i + half + 1]
            p = self.psf.at(x, y, 2 * half + 1, x - i, y - j)
            if p.shape != image[box].shape:
                continue
            w = p / np.square(self.sigma[box]) * self.good[box]
            ratio.append(np.sum(w * image[box]) / np.sum(w * p) / flux)
        return np.median(ratio) - 1 if ratio else np.nan
