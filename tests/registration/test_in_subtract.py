"""Registration as part of `subtract`, in memory and as a stage."""

import numpy as np
import pytest
from astropy.io import fits

import psflib
from psflib import products, stages
from psflib.errors import BadImage
from psflib.simulation.moved import Move, simulate_moved
from psflib.subtraction import METHODS, SubtractSettings

SHAPE = (400, 420)
MOVE = Move((12, 7), turn=5.0)


@pytest.mark.parametrize("method", METHODS)
def test_a_moved_template_leaves_nothing(method):
    science, template = simulate_moved(MOVE, SHAPE, 3, density=1500)
    clean = psflib.decorrelate(psflib.subtract(science, template, method=method))
    found = psflib.detect(clean)
    assert not found["clean"].any()
    assert clean.kernel.flux_scale(210, 200) == pytest.approx(1.2, rel=0.02)
    assert clean.meta["registration"] == "stars"
    assert clean.meta["registration_after"] < 0.1 < clean.meta["registration_before"]
    assert any("corrected by up to" in note for note in clean.meta["notes"])


def test_the_stage_keeps_the_facts(tmp_path):
    science, template = (psflib.prepare(e) for e in simulate_moved(MOVE, SHAPE, 3, density=1500))
    psf = psflib.build_psf(science)
    made = {"science": science, "template": template}
    paths = {name: tmp_path / f"{name}.fits" for name in made}
    for name, exposure in made.items():
        products.write_exposure(paths[name], exposure)
    paths["psf"] = tmp_path / "psf.fits"
    products.write_psf(paths["psf"], psf)
    new = {name: tmp_path / f"{name}.fits" for name in ("aligned", "kernel", "difference")}
    stages.run("subtract", log_file=tmp_path / "log", **paths, **new)
    meta = products.read_difference(new["difference"]).meta
    assert meta["registration"] == "stars" and meta["registration_stars"] > 50
    assert meta["registration_before"] > 12 and meta["registration_after"] < 0.1
    assert "corrected by up to" in (tmp_path / "log").read_text(encoding="utf-8")
    ours = psflib.subtract(science, template, psf=psf)
    assert ours.meta["registration_shift"] == meta["registration_shift"]


def test_an_unreadable_wcs_stops_the_subtraction_not_the_psf(tmp_path):
    header = fits.Header({"CTYPE1": "RA---TNX", "CTYPE2": "DEC--TNX", "CRVAL1": 1.0, "CRVAL2": 2.0})
    image = simulate_moved(MOVE, SHAPE, 3, sky=200.0)[0].image
    fits.writeto(tmp_path / "a.fits", image, header)
    with pytest.raises(BadImage, match="RA---TNX"):
        psflib.read(tmp_path / "a.fits")
    with pytest.raises(ValueError, match="unreadable_wcs must be error or note"):
        psflib.read(tmp_path / "a.fits", unreadable_wcs="maybe")
    (tmp_path / "t.csv").write_text(
        "field,epoch,image\nf,template,a.fits\nf,1,a.fits\n", encoding="utf-8"
    )
    stages.run(
        "prepare", fields=tmp_path / "t.csv", field="f", epoch="template",
        exposure=tmp_path / "exposure.fits",
    )  # fmt: skip
    ready = products.read_exposure(tmp_path / "exposure.fits")
    assert ready.wcs is None
    with pytest.raises(BadImage, match=r"science: .*a\.fits: the WCS .*RA---TNX.*method: stars"):
        psflib.subtract(ready, ready)
    by_stars = SubtractSettings(register={"method": "stars"})
    assert psflib.subtract(ready, ready, settings=by_stars).meta["registration"] == "grid"
