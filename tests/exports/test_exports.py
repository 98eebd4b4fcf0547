"""Candidates for other tools: what is written is what astropy, fastavro and the formats read."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table

from psflib import products
from psflib.detection.columns import COLUMNS
from psflib.errors import BadFile, PsflibError
from psflib.exports import alerts, tables
from psflib.exports.alerts import SIDE, alert_packets, alert_schema, write_alerts
from psflib.exports.export import FORMATS, export
from psflib.exports.regions import crtf_regions, ds9_regions
from psflib.exports.tables import write_parquet, write_votable
from tests.fake_products import candidate_table

pytest_plugins = ["tests.output_folder"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def on_sky():
    table = candidate_table()
    table["ra"], table["dec"] = np.linspace(150, 150.1, 5) * u.deg, np.full(5, -2.5) * u.deg
    table.meta |= {"mjd": 60000.5, "verdict": "good"}
    return table


def test_regions_stand_where_the_candidates_are(on_sky):
    pixels = candidate_table()
    circles = re.findall(r"circle\(([\d.-]+),([\d.-]+),5\)", ds9_regions(pixels))
    assert np.allclose(np.array(circles, float), np.c_[pixels["x"].value, pixels["y"].value] + 1)
    circles = re.findall(r"circle\[\[([\d.-]+)pix, ([\d.-]+)pix\]", crtf_regions(pixels))
    assert np.allclose(np.array(circles, float), np.c_[pixels["x"].value, pixels["y"].value])
    sky = ds9_regions(on_sky)
    assert sky.splitlines()[2] == "icrs"
    circles = re.findall(r'circle\(([\d.-]+),([\d.-]+),3"\)', sky)
    assert np.allclose(np.array(circles, float)[:, 0], on_sky["ra"].value, atol=1e-7)
    assert crtf_regions(on_sky).startswith("#CRTFv0\n") and "coord=ICRS" in crtf_regions(on_sky)
    # brighter and clean, fainter with flags, ... (candidate_table)
    colours = ["green", "red", "green", "green", "red"]
    assert re.findall(r"color=(\w+)", sky) == colours
    assert "2: -15.0 masked,halo" in sky and "{1: +22.0}" in sky


def test_tables_of_other_formats_say_the_same(on_sky, tmp_path):
    write_votable(tmp_path / "c.vot", on_sky)
    write_parquet(tmp_path / "c.parquet", on_sky)
    vot = Table.read(tmp_path / "c.vot")
    assert vot.colnames == on_sky.colnames and vot["ra"].unit == u.deg
    parquet = pytest.importorskip("pyarrow.parquet").read_table(tmp_path / "c.parquet")
    assert parquet.column_names == on_sky.colnames
    for back in (vot, parquet.to_pydict()):
        for name in ("snr", "flags", "clean"):
            assert list(back[name]) == list(on_sky[name])


def test_alerts_can_be_read_by_fastavro_alone(on_sky, tmp_path):
    fastavro = pytest.importorskip("fastavro")
    on_sky["snr"][3] = np.nan
    images = {"science": np.arange(180.0 * 220).reshape(180, 220)}
    count = write_alerts(tmp_path / "c.avro", alert_packets(on_sky, "m88", "night1", images))
    assert count == len(on_sky)
    with (tmp_path / "c.avro").open("rb") as file:
        reader = fastavro.reader(file)
        packets = list(reader)
        assert reader.writer_schema["name"] == "psflib.alert"
    assert [p["alert_id"] for p in packets] == [f"m88/night1/{n}" for n in range(1, 6)]
    first = packets[0]
    assert first["mjd"] == 60000.5 and first["zero_point"] is None and first["verdict"] == "good"
    assert first["candidate"]["flag"] == 0 and first["candidate"]["clean"] is True
    assert packets[3]["candidate"]["snr"] is None
    with fits.open(io.BytesIO(first["cutout_science"])) as hdus:
        cut, header = hdus[0].data, hdus[0].header
    assert cut.shape == (SIDE, SIDE)
    row, col = header["CRVAL2P"] - 1, header["CRVAL1P"] - 1
    assert cut[SIDE // 2, SIDE // 2] == images["science"][50, 60]
    assert (row + SIDE // 2, col + SIDE // 2) == (50, 60)
    assert np.isnan(fits.getdata(io.BytesIO(packets[2]["cutout_science"]))).any()
    assert first["cutout_template"] is None


def test_the_schema_says_what_each_field_is():
    for record in (alert_schema(), alerts._record(alert_schema(), "candidate")):
        assert all(field["doc"] for field in record["fields"])


@pytest.mark.parametrize("to", FORMATS)
def test_an_epoch_is_exported(results, tmp_path, to):
    folder = results / "tiny/night1"
    path = export(folder, to, tmp_path / f"c.{FORMATS[to][0]}")
    assert path.stat().st_size > 100
    count = len(products.read_candidates(folder / "candidates.ecsv"))
    if to in ("ds9", "carta"):
        assert path.read_text().count("circle") == count
    if to == "avro":
        fastavro = pytest.importorskip("fastavro")
        with path.open("rb") as file:
            packets = list(fastavro.reader(file))
        assert len(packets) == count and packets[0]["field"] == "tiny"
        assert all(packets[0][f"cutout_{name}"] for name in ("science", "template", "difference"))


def test_what_cannot_be_exported_is_said(tmp_path, monkeypatch, on_sky):
    with pytest.raises(ValueError, match=r"unknown format 'avor'.*avro"):
        export(tmp_path, "avor")
    with pytest.raises(BadFile, match=r"candidates\.ecsv"):
        export(tmp_path, "ds9")
    monkeypatch.setattr(alerts, "fastavro", None)
    with pytest.raises(PsflibError, match="pip install"):
        write_alerts(tmp_path / "c.avro", [])

    def lacking(*arguments, **options):
        raise ImportError("pyarrow")

    monkeypatch.setattr(tables.Table, "write", lacking)
    with pytest.raises(PsflibError, match="pyarrow"):
        write_parquet(tmp_path / "c.parquet", on_sky)
    assert not list(tmp_path.iterdir())


def test_the_page_on_alerts_is_that_of_the_schema():
    page = (ROOT / "docs/alerts.md").read_text(encoding="utf-8")
    schema = alert_schema()
    fields = [*schema["fields"], *alerts._record(schema, "candidate")["fields"]]
    told = re.findall(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \|$", page, re.MULTILINE)
    assert told == [(field["name"], field["doc"]) for field in fields]
    assert f"version {schema['version']}" in page


def test_the_schema_has_every_column_of_candidates():
    """But `sky`, which says the same as ra and dec."""
    told = [field["name"] for field in alerts._record(alert_schema(), "candidate")["fields"]]
    assert told == [name for name in COLUMNS if name != "sky"]
