"""Haloes by way of files: the stage `subtract_stars`, and `subtract` with `use_extended_psf`."""

import shutil

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

from psflib import products, stages
from psflib.haloes import Starless
from psflib.image.exposure import Exposure, MaskBit
from psflib.report.pictures import pictures as pictures_of
from psflib.report.summary import Epoch
from psflib.settings.report import ReportSettings
from psflib.simulation.camera import make_wcs

pytest_plugins = ["tests.output_folder"]
IMAGE = ("exposure.fits", "stars.ecsv", "epsf.fits", "extended_psf.fits")


def test_starless_comes_back_from_its_file(tmp_path):
    rng = np.random.default_rng(0)
    mask = np.zeros((30, 40), np.uint16)
    mask[3, 4] = MaskBit.HALO | MaskBit.SAT
    exposure = Exposure(
        rng.normal(size=(30, 40)), np.ones((30, 40)), mask, make_wcs((30, 40)), gain=2.0,
        meta={"fwhm": 3.0, "stars_removed": 1}, mask_bits="psflib",
    )  # fmt: skip
    removed = QTable({"id": [3], "flux": [np.nan] * u.adu, "ok": [False], "reason": ["why"]})
    removed.meta["background"] = 0.5
    before = Starless(exposure, removed, rng.normal(size=(30, 40)).astype(np.float32))
    products.write_starless(tmp_path / "s.fits", before, {"core": 3.0})
    after = products.read_starless(tmp_path / "s.fits")
    for name in ("image", "variance", "mask"):
        assert np.array_equal(getattr(after.exposure, name), getattr(exposure, name)), name
    assert np.array_equal(after.light, before.light) and after.exposure.meta == exposure.meta
    assert after.removed["reason"][0] == "why" and after.removed.meta == removed.meta
    assert products.read_provenance(tmp_path / "s.fits")["product"] == "starless"


def test_the_stage_writes_what_the_function_gives(results, tmp_path):
    exposure, stars, epsf, extended = (results / "tiny" / "night1" / name for name in IMAGE)
    path = tmp_path / "tiny" / "night1" / "starless.fits"
    stages.run(
        "subtract_stars", exposure=exposure, stars=stars, epsf=epsf, extended_psf=extended,
        starless=path, settings={"fit_radius": 40.0},
    )  # fmt: skip
    made = products.read_starless(path)
    assert made.removed["ok"].any()
    before = products.read_exposure(exposure)
    assert np.abs(made.light).sum() > 0 and made.exposure.shape == before.shape
    assert products.read_provenance(path)["settings"]["fit_radius"] == 40


def test_the_report_shows_the_brightest_star_before_and_after(results, tmp_path):
    source, folder = results / "tiny" / "night1", tmp_path / "tiny" / "night1"
    folder.mkdir(parents=True)
    for name in IMAGE:
        shutil.copy(source / name, folder / name)
    for name, pictures in (("", 0), ("starless.fits", 1)):
        if name:
            paths = dict(zip(("exposure", "stars", "epsf", "extended_psf"),
                             (folder / n for n in IMAGE), strict=True))  # fmt: skip
            stages.run("subtract_stars", **paths, starless=folder / name, settings={})
        parts = list(pictures_of(Epoch(tmp_path, "tiny", "night1"), ReportSettings()))
        assert sum("The brightest star removed" in part for part in parts) == pictures


@pytest.mark.slow
def test_subtract_takes_haloes_from_files(results, tmp_path):
    science, stars, epsf, extended = (results / "tiny" / "night1" / name for name in IMAGE)
    template, t_stars, t_epsf, t_extended = (results / "tiny" / "template" / n for n in IMAGE)
    new = {n: tmp_path / f"{n}.fits" for n in ("aligned", "kernel", "difference")}
    old = {"science": science, "template": template, "psf": epsf}
    more = {"stars": stars, "extended_psf": extended, "template_stars": t_stars,
            "template_psf": t_epsf, "template_extended_psf": t_extended}  # fmt: skip
    use = {"use_extended_psf": True}
    stages.run("subtract", **old, **new, **more, settings=use)
    moved = products.read_exposure(new["aligned"])
    assert moved.meta["stars_removed"] >= 1
    assert np.isfinite(products.read_difference(new["difference"]).image).all()
    with pytest.raises(SystemExit, match="needs stars, PSF and extended PSF of both images"):
        stages.run("subtract", **old, **new, settings=use)
