"""Every product comes back as it was written, and says what is wrong when it cannot."""

import dataclasses

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable
from astropy.wcs import WCS
from pydantic import BaseModel

from psflib import products
from psflib.detection.flags import set_flags
from psflib.errors import BadFile
from psflib.files import atomic_path, read
from psflib.image.convolve import blend_nodes, constant_kernel, node_grid
from psflib.image.difference import Difference
from psflib.image.exposure import Exposure, MaskBit
from psflib.matching.kernel import MatchingKernel
from psflib.products.hdus import table_hdu
from psflib.version import __version__
from psflib.words import spoken

SHAPE = (60, 80)


class Settings(BaseModel):
    """Settings with the types that settings have."""

    threshold: float = 0.1 + 0.2
    order: int = 2
    word: str = "it's  a 'word' & more  "
    nested: dict = {"radii": [1.5, None], "long": "x" * 200}


def tan_header():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
    wcs.wcs.crpix, wcs.wcs.crval, wcs.wcs.cdelt = [40, 30], [150.1, 2.2], [-1e-4, 1e-4]
    return wcs.to_header()


def sip_wcs():
    header = tan_header()
    header.update({"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-4, "B_0_2": -2e-4})
    header.update({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"})
    return WCS(header)


def tpv_wcs():
    header = tan_header()
    header.update({"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_1": 1.0, "PV2_1": 1.0})
    header.update({"PV1_4": 1e-2, "PV2_4": -2e-2})
    return WCS(header)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def an_exposure(rng, wcs=None):
    mask = np.zeros(SHAPE, np.uint16)
    mask[5, 6] = MaskBit.SAT | MaskBit.DETECTED
    image = rng.normal(100, 3, SHAPE)
    image[1:3, 2:9] = np.nan
    variance = rng.uniform(8, 10, SHAPE)
    numbers = {"gain": 1.8, "read_noise": 5.0, "saturation": 6e4, "sky": 1 / 3}
    meta = {
        "name": "a",
        "notes": ["gain 1.8", "é"],
        "fwhm": np.float64(3.1),
        "shape": np.arange(2),
        "FILTER": "r",
        "DATE-OBS": "2020-01-02T03:04:05",
        "OBJECT": "Étoile",  # a header holds ASCII only
        "psf": lambda x, y: None,
    }
    return Exposure(image, variance, mask, wcs, **numbers, meta=meta, mask_bits="psflib")


def star_table(count=7):
    index = np.arange(count)
    table = QTable(
        {
            "id": index + 1,
            "x": np.linspace(0, 79, count) * u.pix,
            "flux": (index * 1.1) * u.adu,
            "ra": (150 + index / 3) * u.deg,
            "snr": (index / 7).astype(np.float32),
            "selected": index % 2 == 0,
            "reason": np.array(["none", "faint", "edge: left"], dtype="U12")[index % 3],
        }
    )
    table["snr"][count // 2 :] = np.nan
    table["flux"].info.description = "PSF flux"
    table.meta = {"fwhm": 3.25, "counts": {"faint": 2}}
    return table


def a_kernel(rng, shape=SHAPE):
    basis = rng.normal(size=(3, 7, 7))
    basis[0] /= basis[0].sum()
    return MatchingKernel(
        basis, rng.normal(size=(3, 6)), 2, 1, rng.normal(size=3), 1, shape, "science",
        {"chi2": 1.1, "heldout_residual": [1.0, 2.0]}, region=(3.0, 1040.0, 5.0, 50.0),
    )  # fmt: skip


def a_psf(rng):
    field = pytest.importorskip("psflib.psf.core.field")
    side = np.arange(75) - 37
    core = np.exp(-(side[:, None] ** 2 + side**2) / 2 / 4.0**2)
    terms = np.stack([core / core.sum() * 9, 0.01 * (core - core[::-1]), 0.01 * core])
    return field.PsfField(
        terms=terms, oversample=3, order=1, shape=SHAPE, stars=star_table(), meta={"rounds": 6}
    )


def a_difference(rng, whitening=None):
    mask = np.zeros(SHAPE, np.uint16)
    mask[:4] = MaskBit.NO_DATA | MaskBit.TEMPLATE
    image = rng.normal(0, 3, SHAPE).astype(np.float32)
    variance = np.full(SHAPE, 9, np.float32)
    image[:4] = variance[:4] = 0
    score = None if whitening is None else rng.normal(size=SHAPE).astype(np.float32)
    return Difference(
        image, variance, mask, a_kernel(rng), a_psf(rng), sip_wcs(),
        whitening=whitening, score=score, meta={"convolved": "science"},
    )  # fmt: skip


def assert_tables_equal(found, expected):
    assert found.colnames == expected.colnames and found.meta == expected.meta
    for name in expected.colnames:
        assert found[name].unit == expected[name].unit
        assert found[name].dtype.kind == expected[name].dtype.kind
        assert found[name].dtype.isnative
        assert found[name].info.description == expected[name].info.description
        np.testing.assert_array_equal(found[name], expected[name])


class TestExposure:
    @pytest.mark.parametrize("wcs", [None, sip_wcs(), tpv_wcs()], ids=["none", "sip", "tpv"])
    def test_round_trip(self, rng, tmp_path, wcs):
        before = an_exposure(rng, wcs)
        products.write_exposure(tmp_path / "e.fits", before)
        after = products.read_exposure(tmp_path / "e.fits")
        for name in ("image", "variance", "mask"):
            found = getattr(after, name)
            np.testing.assert_array_equal(found, getattr(before, name))
            assert found.dtype == getattr(before, name).dtype and found.dtype.isnative
        for name in ("gain", "read_noise", "saturation", "sky"):
            assert getattr(after, name) == getattr(before, name)
        expected = {k: v for k, v in before.meta.items() if k != "psf"} | {"shape": [0, 1]}
        assert after.meta == expected
        if wcs is None:
            assert after.wcs is None
        else:
            corners = np.array([[0.0, 0.0], [79.0, 59.0]])
            sky = wcs.all_pix2world(corners, 0)
            # 15 digits of a header at 150 deg
            np.testing.assert_allclose(after.wcs.all_pix2world(corners, 0), sky, atol=2e-13)

    def test_without_variance(self, rng, tmp_path):
        before = Exposure(rng.normal(size=SHAPE))
        products.write_exposure(tmp_path / "e.fits", before)
        after = products.read_exposure(tmp_path / "e.fits")
        assert after.variance is None and after.gain is None and after.meta == {}

    def test_explains_itself(self, rng, tmp_path):
        products.write_exposure(tmp_path / "e.fits", an_exposure(rng, sip_wcs()))
        with fits.open(tmp_path / "e.fits") as hdus:
            assert [h.name for h in hdus[:4]] == ["PRIMARY", "IMAGE", "VARIANCE", "MASK"]
            assert hdus[0].header["PSFLIB"] == __version__
            assert [hdus[n].header["BUNIT"] for n in ("IMAGE", "VARIANCE")] == ["adu", "adu2"]
            assert u.Unit(hdus["VARIANCE"].header["BUNIT"]) == u.adu**2
            assert hdus["MASK"].header["MP_SAT"] == 4 and hdus["MASK"].header["MP_SUSPECT"] == 512
            assert hdus["IMAGE"].header["FILTER"] == "r"
            for name in ("IMAGE", "VARIANCE", "MASK"):
                assert hdus[name].header["CTYPE1"] == "RA---TAN-SIP"
                assert hdus[name].header["A_2_0"] == 1e-4
            assert np.isnan(hdus["IMAGE"].data[1:3, 2:9]).all()
            hdus.verify("exception")

    def test_is_an_image_for_others(self, rng, tmp_path):
        before = an_exposure(rng)
        products.write_exposure(tmp_path / "e.fits", before)
        after = read(tmp_path / "e.fits", mask_hdu="MASK", variance_hdu="VARIANCE")
        assert (after.gain, after.read_noise, after.saturation) == (1.8, 5.0, 6e4)
        np.testing.assert_array_equal(after.image, before.image)


class TestModels:
    @pytest.mark.parametrize("count", [5, 0])
    def test_stamps(self, rng, tmp_path, count):
        stamps = pytest.importorskip("psflib.stamps.build")
        if not hasattr(stamps, "Stamps"):
            pytest.skip("psflib.stamps.build.Stamps is missing")
        data = rng.normal(size=(count, 9, 9)).astype(np.float32)
        before = stamps.Stamps(data, data**2, star_table(count))
        products.write_stamps(tmp_path / "s.fits", before)
        after = products.read_stamps(tmp_path / "s.fits")
        np.testing.assert_array_equal(after.data, before.data)
        np.testing.assert_array_equal(after.weight, before.weight)
        assert after.data.dtype.isnative and after.data.dtype == np.float32
        assert_tables_equal(after.table, before.table)

    def test_psf(self, rng, tmp_path):
        before = a_psf(rng)
        products.write_psf(tmp_path / "p.fits", before)
        after = products.read_psf(tmp_path / "p.fits")
        np.testing.assert_array_equal(after.terms, before.terms)
        assert after.terms.dtype == np.float64 and after.terms.dtype.isnative
        assert (after.oversample, after.order, after.shape) == (3, 1, SHAPE)
        assert after.meta == before.meta
        assert_tables_equal(after.stars, before.stars)
        np.testing.assert_array_equal(after.at(10, 20), before.at(10, 20))

    def test_extended_psf(self, rng, tmp_path):
        wings = pytest.importorskip("psflib.psf.wings.stage")
        radius = np.arange(5.0)
        profile = QTable({"r": radius * u.pix, "value": radius, "error": radius})
        before = wings.ExtendedPsfField(
            core=rng.normal(size=(75, 75)), oversample=3, wing=rng.normal(size=(41, 41)),
            match_radius=8.0, feather_width=4.0, ee_radius=15.0,
            profile=profile, stars=star_table(), meta={"sky": 0.5},
        )  # fmt: skip
        products.write_extended_psf(tmp_path / "x.fits", before)
        after = products.read_extended_psf(tmp_path / "x.fits")
        for field in dataclasses.fields(before):
            expected, found = getattr(before, field.name), getattr(after, field.name)
            if isinstance(expected, QTable):
                assert_tables_equal(found, expected)
            else:
                np.testing.assert_array_equal(found, expected)

    def test_kernel(self, rng, tmp_path):
        before = a_kernel(rng)
        products.write_kernel(tmp_path / "k.fits", before)
        after = products.read_kernel(tmp_path / "k.fits")
        np.testing.assert_array_equal(after.at(3.0, 50.0), before.at(3.0, 50.0))
        assert after.flux_scale(3.0, 50.0) == before.flux_scale(3.0, 50.0)
        assert after.background_at(3.0, 50.0) == before.background_at(3.0, 50.0)
        assert after.meta == before.meta and after.shape == SHAPE
        assert after.region == before.region
        with fits.open(tmp_path / "k.fits") as hdus:
            np.testing.assert_array_equal(hdus["KERNEL"].data, before.at(39.5, 29.5))


class TestDifference:
    @pytest.mark.parametrize("nodes", [None, 1, 2, 5])
    def test_round_trip(self, rng, tmp_path, nodes):
        """The whitening filter may be absent, one, or vary over a grid of nodes."""
        whitening = None
        if nodes == 1:
            whitening = constant_kernel(rng.normal(size=(5, 5)) / 25 + 0.04)
        elif nodes:
            filters = rng.normal(size=(nodes, nodes, 5, 5)) / 25 + 0.04
            whitening = blend_nodes(filters, *node_grid(SHAPE, nodes))
        before = a_difference(rng, whitening)
        products.write_difference(tmp_path / "d.fits", before)
        after = products.read_difference(tmp_path / "d.fits")
        for name in ("image", "variance", "mask"):
            np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
        assert after.meta == before.meta and after.psf.meta == before.psf.meta
        for x, y in ((0, 0), (39.5, 29.5), (70.2, 13.9)):
            np.testing.assert_array_equal(after.kernel.at(x, y), before.kernel.at(x, y))
            expected = before.psf_at(x, y, 21)
            # the filter's blend is solved anew from its nodes: a few rounding errors
            np.testing.assert_allclose(
                after.psf_at(x, y, 21), expected, atol=1e-10 * np.abs(expected).max()
            )
        with fits.open(tmp_path / "d.fits") as hdus:
            assert hdus["PSF"].shape == (41, 41)
            np.testing.assert_array_equal(hdus["PSF"].data, before.psf_at(39.5, 29.5))
            assert hdus[0].header["PRODUCT"] == ("decorrelated" if nodes else "difference")
            if nodes == 1:
                assert hdus["WHITENING"].shape == (5, 5)
        if nodes:
            np.testing.assert_array_equal(after.score, before.score)
        else:
            assert after.score is None and after.whitening is None


class TestTables:
    @pytest.mark.parametrize("name", ["stars", "candidates", "summary"])
    @pytest.mark.parametrize("count", [7, 0])
    def test_round_trip(self, tmp_path, name, count):
        before, again = star_table(count), star_table(count)
        for table in (before, again) if name == "candidates" else ():
            set_flags(table, np.arange(count) % 3)
        path = tmp_path / f"{name}.ecsv"
        getattr(products, f"write_{name}")(path, before, Settings())
        assert_tables_equal(getattr(products, f"read_{name}")(path), before)
        assert_tables_equal(before, again)  # writing leaves it alone
        found = products.read_provenance(path)
        settings = Settings().model_dump()
        assert found == {"version": __version__, "product": name, "settings": settings}

    def test_truncated(self, tmp_path):
        path = tmp_path / "stars.ecsv"
        products.write_stars(path, star_table())
        content = path.read_bytes()
        for length in range(0, len(content), 7):
            path.write_bytes(content[:length])
            with pytest.raises(BadFile, match=r"stars\.ecsv"):
                products.read_stars(path)

    def test_foreign(self, tmp_path):
        path = tmp_path / "a.ecsv"
        products.write_stars(path, star_table())
        with pytest.raises(BadFile, match="is a product 'stars', not 'candidates'"):
            products.read_candidates(path)
        star_table().write(path, overwrite=True)
        with pytest.raises(BadFile, match="not a product of psflib"):
            products.read_stars(path)
        with pytest.raises(BadFile, match="no such file"):
            products.read_stars(tmp_path / "no.ecsv")


class TestBadProducts:
    @pytest.fixture
    def path(self, rng, tmp_path):
        products.write_exposure(tmp_path / "e.fits", an_exposure(rng, sip_wcs()), Settings())
        return tmp_path / "e.fits"

    def test_truncated(self, path):
        whole = products.read_exposure(path)
        content = path.read_bytes()
        padding = 2880  # of the last table: a cut there costs nothing
        for length in np.linspace(0, len(content) - padding, 60).astype(int):
            path.write_bytes(content[:length])
            with pytest.raises(BadFile, match=r"e\.fits.*[Rr]un the workflow"):
                products.read_exposure(path)
        path.write_bytes(content[:-100])
        assert products.read_exposure(path).meta == whole.meta

    def test_foreign(self, path, tmp_path):
        with pytest.raises(BadFile, match=r"is a product 'exposure', not 'kernel'"):
            products.read_kernel(path)
        fits.writeto(tmp_path / "f.fits", np.ones((3, 3)))
        with pytest.raises(BadFile, match="not a product of psflib"):
            products.read_exposure(tmp_path / "f.fits")
        with pytest.raises(BadFile, match=r"no such file\. Run the workflow"):
            products.read_exposure(tmp_path / "no.fits")

    @pytest.mark.parametrize("settings", [Settings(), Settings().model_dump()])
    def test_settings(self, rng, tmp_path, settings):
        products.write_exposure(tmp_path / "e.fits", an_exposure(rng), settings)
        found = products.read_provenance(tmp_path / "e.fits")
        assert found["settings"] == Settings().model_dump()
        assert (found["version"], found["product"]) == (__version__, "exposure")

    def test_no_settings(self, rng, tmp_path):
        products.write_exposure(tmp_path / "e.fits", an_exposure(rng))
        assert products.read_provenance(tmp_path / "e.fits")["settings"] == {}

    def test_equal_values_give_equal_files(self, tmp_path):
        contents = set()
        for folder in ("one", "two"):
            rng = np.random.default_rng(5)
            path = tmp_path / folder / "e.fits"
            products.write_exposure(path, an_exposure(rng, sip_wcs()), Settings())
            products.write_stars(path.with_name("s.ecsv"), star_table(), Settings())
            contents.add((path.read_bytes(), path.with_name("s.ecsv").read_bytes()))
        assert len(contents) == 1


class TestAtomic:
    def test_replaces_at_the_end_only(self, tmp_path):
        path = tmp_path / "new" / "a.fits.gz"
        with atomic_path(path) as temporary:
            assert temporary.parent == path.parent and temporary.name.startswith(".")
            assert temporary.suffixes[-2:] == [".fits", ".gz"]
            temporary.write_text("whole")
            assert not path.exists()
        assert path.read_text() == "whole" and [p.name for p in path.parent.iterdir()] == [
            path.name
        ]

    def test_error_leaves_the_old_file(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("old")
        with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt
        assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]

    def test_permissions_are_those_of_any_new_file(self, tmp_path):
        (tmp_path / "plain").touch()
        with atomic_path(tmp_path / "atomic") as temporary:
            temporary.touch()
        modes = {(tmp_path / name).stat().st_mode for name in ("plain", "atomic")}
        assert len(modes) == 1


@pytest.mark.parametrize(
    "write", [products.write_stars, lambda path, table: table_hdu("STARS", table)]
)
def test_no_product_holds_empty_words(tmp_path, write):
    """They are read back as masked, by astropy alone too, and are then like no other."""
    table = QTable({"id": [1, 2], "reason": ["", "saturated"]})
    with pytest.raises(ValueError, match="reason has empty words: write 'none'"):
        write(tmp_path / "stars.ecsv", table)
    table["reason"] = spoken(table["reason"])
    write(tmp_path / "stars.ecsv", table)
    assert list(table["reason"]) == ["none", "saturated"]
