"""Catalogues of the sky: formats, what they must hold, and their way into the selection."""

import numpy as np
import pytest
from astropy.table import Table

from psflib import files, products, stages
from psflib.errors import BadFile
from psflib.preparation.prepare import prepare
from psflib.simulation.simulate import SimulateSettings, simulate_field
from psflib.stars.select import select_stars


@pytest.mark.parametrize("name", ["sky.fits", "sky.ecsv", "sky.csv", "sky.txt", "sky.vot"])
def test_formats(tmp_path, name):
    path = tmp_path / name
    table = Table({"RA": [10.0, 10.1], "Dec": [-3.0, -3.1], "parallax": [np.nan, 4.0]})
    table.write(path, format={".txt": "ascii", ".vot": "votable"}.get(path.suffix))
    read = files.read_catalog(path)
    assert read.colnames == ["ra", "dec", "parallax"]
    np.testing.assert_array_equal(read["ra"], [10.0, 10.1])


def test_bad_files_are_named(tmp_path):
    with pytest.raises(BadFile, match=r"nowhere\.csv.*no such file.*`catalog`"):
        files.read_catalog(tmp_path / "nowhere.csv")
    (tmp_path / "plain.csv").write_text("name,mag\na,3\n")
    with pytest.raises(BadFile, match=r"plain\.csv.*columns name, mag.*ra, dec \(deg\) or x, y"):
        files.read_catalog(tmp_path / "plain.csv")
    (tmp_path / "broken.fits").write_bytes(b"SIMPLE  = no")
    with pytest.raises(BadFile, match=r"broken\.fits.*cannot be read as a table"):
        files.read_catalog(tmp_path / "broken.fits")


def test_the_stage_uses_it(tmp_path):
    field = simulate_field(SimulateSettings(size=256, star_density=2500, nan_blocks=0))
    exposure = prepare(field.template)
    products.write_exposure(tmp_path / "exposure.fits", exposure)
    alone = select_stars(exposure)
    star = alone[np.flatnonzero(alone["selected"])[0]]
    here = [star["x"].value], [star["y"].value], [True]
    Table(here, names=("x", "y", "galaxy")).write(tmp_path / "sky.csv")
    paths = {n: tmp_path / f"{n}.{e}" for n, e in (("exposure", "fits"), ("stars", "ecsv"))}
    stages.run("select_stars", **paths, catalog=tmp_path / "sky.csv")
    told = products.read_stars(paths["stars"])
    assert told["reason"][told["id"] == star["id"]] == "galaxy in the catalogue"
    with pytest.raises(SystemExit, match=r"select_stars: .*gone\.csv: no such file"):
        stages.run("select_stars", **paths, catalog=tmp_path / "gone.csv")
    stages.run("select_stars", **paths, catalog="")
    assert products.read_stars(paths["stars"])["selected"].sum() == alone["selected"].sum()
