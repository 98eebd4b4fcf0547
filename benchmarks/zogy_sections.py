"""The sections of the benchmark of proper subtraction: title, head of a table and its rows."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import real_pairs

import psflib
from psflib.judging.comparison import compare
from psflib.preparation.prepare import prepare
from psflib.simulation import PsfModel
from psflib.simulation.simulate import SCENES, simulate_scene
from psflib.subtraction import run_zogy

SCRIPT = Path(__file__).with_name("zogy_cost.py")
SEED = 71
SHAPE = 768, 1024  # px, of what is measured on noise
SIDE = 31
CUTOUT = slice(500, 1100)  # px, of both axes of the GOTO pair
S_N, S_R = 10.0, 6.0  # ADU
PEER = {
    "cost": "8-10", "white": "", "bright": "", "flux": "wrong on tiles that are not square",
    "varying": "-5.3 %", "units": "results change",
}  # fmt: skip
COLUMNS = (
    "seconds", "decorrelate", "usable", "sky", "correlation", "score", "star_30", "star_100",
    "star_300", "star_1000", "found", "injected", "flux_bias", "flux_bias_err", "others",
)  # fmt: skip


def zogy():
    """The rows of the goals."""
    head = ["figure", "psflib", "goal", "peers"]
    return "ZOGY", head, [*_cost(), *_white(), *_bright(), *_flux(), *_varying(), *_units()]


def methods():
    """All methods of `METHODS` on every scene, by `compare_methods`, with PSFs of their own."""
    head = ["scene", "method", *COLUMNS]
    rows = []
    for name in SCENES:
        scene = simulate_scene(name, 768, SEED)
        pair = [prepare(o.exposure) for o in (scene.science, scene.template)]
        rows.extend(_rows(name, compare(*pair, warm=True, seed=SEED)))
    return "Methods side by side, scenes of 768 x 768 (compare_methods)", head, rows


def survey():
    """The same on a piece of the real pair of GOTO, with PSFs of its own stars."""
    folder = real_pairs.data_folder() / "goto_pair"
    rows = []
    if folder.is_dir():
        files = (folder / f"goto_virgo_{name}.fits.fz" for name in ("sci", "ref"))
        pair = [psflib.read(file).cutout(CUTOUT, CUTOUT) for file in files]
        rows = _rows("GOTO", compare(*pair, warm=True, seed=SEED))
    return "Methods side by side, 600 x 600 px of GOTO", ["pair", "method", *COLUMNS], rows


SECTIONS = {"zogy": zogy, "zogy-methods": methods, "zogy-survey": survey}


def _rows(name, made):
    rows = []
    for row in made.table:
        values = [float(getattr(row[c], "value", row[c])) for c in COLUMNS]
        rows.append([name, row["method"], *(f"{v:.3g}" for v in values)])
    return rows


def _judged(value, low, high, text):
    """The text, bold where the goal is missed."""
    return text if low <= value <= high else f"**{text}**"


def _cost():
    rows = []
    for tiles in (1, 4):
        one = _fresh("psflib", tiles)
        words = f"1 Mpx with PSFs given, {tiles} x {tiles} tiles: CPU s; peak MB"
        peer = PEER["cost"]
        if importlib.util.find_spec("stdpipe"):
            other = _fresh("stdpipe", tiles)
            peer = f"{other['cpu']:.1f}; {other['mb']:.0f} (measured here)"
        text = f"{one['cpu']:.2f}; {one['mb']:.0f}"
        rows.append([words, _judged(one["cpu"], 0, 1.0, text), "≤ 1.0", peer])
    return rows


def _fresh(*arguments):
    """`zogy_cost.py` in a process of its own."""
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def _psfs():
    stamps = [PsfModel(f, wing=0.0).at(500, 400, SIDE) for f in (4.0, 2.9)]
    return [s / s.sum() for s in stamps]


def _noise(rng):
    return rng.normal(0, S_N, SHAPE), rng.normal(0, S_R, SHAPE)


def _options(**more):
    p_n, p_r = _psfs()
    return {
        "image_psf": p_n, "template_psf": p_r, "dx": 0, "dy": 0, "scale": 1.0, "fit_scale": False,
        "fit_shift": False, "err": np.full(SHAPE, S_N), "template_err": np.full(SHAPE, S_R),
    } | more  # fmt: skip


def _white(runs=16):
    rng = np.random.default_rng(SEED)
    square, products, scores, count = 0.0, np.zeros(2), 0.0, 0
    inner = np.s_[SIDE:-SIDE, SIDE:-SIDE]
    for _ in range(runs):
        image, score = (p[inner] for p in run_zogy(*_noise(rng), **_options()))
        z = image.astype(float) / np.hypot(S_N, S_R)
        square += np.sum(z**2)
        products += [np.sum(z[:, 1:] * z[:, :-1]), np.sum(z[1:] * z[:-1])]
        scores += np.sum(score.astype(float) ** 2)
        count += z.size
    variance, rho, std = square / count, np.abs(products / count).max(), np.sqrt(scores / count)
    pixels = f"{count / 1e6:.0f} Mpx of white noise"
    return [
        [f"{pixels}: variance of D over the claimed",
         _judged(variance, 0.998, 1.002, f"{variance:.4f} ± {np.sqrt(2 / count):.4f}"),
         "1 ± 0.002", ""],
        [f"{pixels}: correlation of neighbours in D, larger of two",
         _judged(rho, 0, 1e-3, f"{rho:.1e} ± {1 / np.sqrt(count):.1e}"), "≤ 1e-3", ""],
        [f"{pixels}: std of S_corr", _judged(std, 0.98, 1.02, f"{std:.4f}"), "1 ± 0.02", "1.02"],
    ]  # fmt: skip


def _places(step):
    rows = np.arange(40, SHAPE[0] - 40, step)
    cols = np.arange(40, SHAPE[1] - 40, step)
    return [g.ravel() for g in np.meshgrid(rows, cols, indexing="ij")]


def _add(plane, stamp, rows, cols, flux):
    half = SIDE // 2
    for row, col, light in zip(rows, cols, np.broadcast_to(flux, len(rows)), strict=True):
        plane[row - half : row + half + 1, col - half : col + half + 1] += light * stamp


def _bright(runs=6, flux=2e5):
    rng = np.random.default_rng(SEED + 1)
    psfs, (rows, cols) = _psfs(), _places(40)
    light = [np.zeros(SHAPE), np.zeros(SHAPE)]
    for plane, psf in zip(light, psfs, strict=True):
        _add(plane, psf, rows, cols, flux)
    sigma = [np.sqrt(s**2 + p) for s, p in zip((S_N, S_R), light, strict=True)]
    found = []
    for _ in range(runs):
        images = [p + rng.normal(0, s) for p, s in zip(light, sigma, strict=True)]
        _, score = run_zogy(*images, **_options(err=sigma[0], template_err=sigma[1]))
        found.append(score[rows, cols])
    std, n = np.std(found), np.size(found)
    text = f"{std:.3f} ± {std / np.sqrt(2 * n):.3f}"
    return [
        ["std of S_corr on stars of 2e5 e-", _judged(std, 0.98, 1.02, text), "1 ± 0.02", ""]
    ]  # fmt: skip


def _flux(runs=24):
    """Sources of S/N 4 and of both signs (their sum is no sky), on whole pixels."""
    rng = np.random.default_rng(SEED + 2)
    p_n, _ = _psfs()
    rows, cols = _places(24)
    found, claimed = [], []
    for number in range(runs):
        images = _noise(rng)
        *_, error = run_zogy(*images, **_options(get_Fpsf=True))
        flux = 4 * np.median(error[rows, cols])
        sign = 1 - 2 * (np.arange(len(rows)) % 2)
        _add(images[0], p_n, rows, cols, flux * sign)
        tiles = {"nx": 3, "ny": 2} if number % 2 else {}
        *_, measured, error = run_zogy(*images, **_options(get_Fpsf=True, **tiles))
        found.append(sign * measured[rows, cols] / flux)
        claimed.append(np.median(error[rows, cols]) / flux)
    bias, spread = np.mean(found) - 1, np.std(found)
    text = f"{100 * bias:+.2f} ± {100 * spread / np.sqrt(np.size(found)):.2f} %"
    ratio = np.mean(claimed) / spread
    return [
        ["F_psf at S/N 4, 768 x 1024, half of them in 2 x 3 tiles: bias",
         _judged(abs(bias), 0, 0.005, text), "≤ 0.5 %", PEER["flux"]],
        ["its claimed error over the scatter", _judged(ratio, 0.98, 1.02, f"{ratio:.3f}"),
         "1 ± 0.02", ""],
    ]  # fmt: skip


def _varying():
    rng = np.random.default_rng(SEED + 3)
    models = [PsfModel(f, variation=v, shape=SHAPE, wing=0.0) for f, v in ((4.0, 0.3), (2.9, 0.0))]
    corners = np.array([0, SHAPE[1] - 1, 0, SHAPE[1] - 1]), np.array([0, 0, SHAPE[0] - 1, SHAPE[0] - 1])  # fmt: skip  # noqa: E501
    widths = models[0].fwhm_at(*corners) / 4.0 - 1
    new, ref = _noise(rng)
    rows, cols = _places(48)
    x, y = rng.uniform(0, 1, (2, 300)) * np.array(SHAPE[::-1])[:, None]
    flux = 10 ** rng.uniform(3, 5.3, 300)
    near = np.hypot(cols[:, None] - x, rows[:, None] - y).min(1) < 25
    rows, cols = rows[~near], cols[~near]
    for model, plane in zip(models, (new, ref), strict=True):
        model.render(x, y, flux, plane)
    true = 5e3
    models[0].render(cols, rows, np.full(len(rows), true), new)
    result = []
    for words, options in (
        ("one PSF", {"nx": 1}), ("4 x 4 tiles", {"nx": 4}),
        ("6 x 6 tiles, blended linearly", {"nx": 6, "overlap": 200}),
    ):  # fmt: skip
        free = {"fit_scale": True, "fit_shift": True, "get_Fpsf": True}
        *_, measured, error = run_zogy(
            new, ref, **_options(image_psf=models[0], template_psf=models[1], **free, **options)
        )
        ratio = measured[rows, cols] / true - 1
        noise = 1.25 * np.std(ratio) / np.sqrt(len(ratio))
        text = (
            f"{100 * np.median(ratio):+.2f} ± {100 * noise:.2f} %; scatter "
            f"{np.std(ratio) * true / np.median(error[rows, cols]):.2f} of the claimed error"
        )
        goal = ["", PEER["varying"]] if options == {"nx": 1} else ["≤ 1 %", PEER["varying"]]
        limit = 0.01 if goal[0] else np.inf
        result.append([
            f"PSF {100 * widths.min():+.0f} to {100 * widths.max():+.0f} %, {words}: flux bias",
            _judged(abs(np.median(ratio)), 0, limit, text), *goal,
        ])  # fmt: skip
    return result


def _units():
    rng = np.random.default_rng(SEED + 4)
    psfs, (rows, cols) = _psfs(), _places(120)
    images = list(_noise(rng))
    for plane, psf in zip(images, psfs, strict=True):
        _add(plane, psf, rows, cols, 1e5)
    free = {"fit_scale": True, "fit_shift": True, "scale": None}
    worst = 0.0
    one, _ = run_zogy(*images, **_options(**free))
    for factor in (1e-3, 1e3):
        scaled = [p * factor for p in images]
        errors = {"err": np.full(SHAPE, S_N * factor), "template_err": np.full(SHAPE, S_R * factor)}
        two, _ = run_zogy(*scaled, **_options(**free, **errors))
        worst = max(worst, float(np.abs(two / factor - one).max() / np.hypot(S_N, S_R)))
    return [
        ["inputs x 1e-3 and x 1e3: largest change of D, of its noise",
         _judged(worst, 0, 1e-6, f"{worst:.1e}"), "≤ 1e-6", PEER["units"]]
    ]  # fmt: skip
