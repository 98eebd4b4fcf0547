"""Survey files are read rightly by name and by themselves, or refused aloud."""

import numpy as np
import pytest
from astropy.io import fits

from psflib.__main__ import main
from psflib.errors import BadFile
from psflib.files import read
from psflib.files.formats import TABLE, companions, formats, table_text
from psflib.image.exposure import MaskBit
from psflib.preparation.prepare import prepare
from tests.files.survey_files import SKY, WRITERS, N, make_sky, pixel_to_sky

NAMES = sorted(WRITERS)
#: Read in one and the same way, so that one name does for the other.
ALIKE = ({"hsc", "lsst"}, {"mosaic3-cp", "90prime-cp"})


@pytest.fixture(scope="session")
def sky():
    return make_sky()


@pytest.fixture(scope="session")
def written(tmp_path_factory, sky):
    return {name: WRITERS[name](tmp_path_factory.mktemp(name), sky) for name in NAMES}


def copied(written, tmp_path, without=()):
    """The image and its companions in a folder of their own."""
    for path in (written.path, *written.companions):
        if path not in without:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path / written.path.name


def opened(name, written, **options):
    """By name, the CCD of the Community Pipeline chosen."""
    hdu = {"hdu": "N4"} if name.endswith("-cp") else {}
    return read(written.path, **hdu, **options)


def test_every_format_is_tested():
    assert set(WRITERS) | {"roman-l2", "roman-l3"} == set(formats())


@pytest.mark.parametrize("name", NAMES)
class TestByName:
    def test_what_is_bad(self, name, written):
        exposure = opened(name, written[name], format=name)
        np.testing.assert_array_equal(exposure.usable, ~written[name].bad)

    def test_constants(self, name, written):
        truth, exposure = written[name], opened(name, written[name], format=name)
        assert exposure.gain == (None if truth.gain is None else pytest.approx(truth.gain))
        found, level = exposure.saturation, truth.saturation
        assert found == (None if level is None else pytest.approx(level))

    def test_flux_and_variance(self, name, written, sky):
        """Median over thousands of pixels: 1 % of error; 10 % is what the fits can bear."""
        truth = written[name]
        exposure = opened(name, truth, format=name)
        ready = prepare(exposure)
        noise = np.sqrt(np.median(truth.variance))
        bright = (truth.light > 30 * noise) & ready.usable & ~sky.full
        dark = (truth.light < 0.3 * noise) & ready.usable
        assert bright.sum() > 500 and dark.sum() > 0.5 * N * N
        assert np.median(ready.image[bright] / truth.light[bright]) == pytest.approx(1, abs=0.01)
        for where in (bright, dark):
            ratio = np.median(ready.variance[where] / truth.variance[where])
            assert ratio == pytest.approx(1, abs=0.1)

    def test_wcs(self, name, written):
        exposure = opened(name, written[name], format=name)
        positions = exposure.wcs.all_pix2world([[0, 0], [N - 1, 40]], 0)
        np.testing.assert_allclose(positions, pixel_to_sky(), atol=1e-9)

    def test_meta(self, name, written):
        meta = opened(name, written[name], format=name).meta
        assert meta["format"] == name and "image" in meta["planes"]
        entry = formats()[name]
        if entry.noise:
            assert meta["planes"]["variance"].endswith(f"as {entry.noise.kind}")
            assert meta["source_noise"] is entry.noise.source_noise
        if entry.mask and (entry.mask[0].bits or entry.mask[0].codes):
            assert meta["mask_names"] and all(0 < v < 1 for v in meta["mask_names"].values())

    def test_another_file_is_refused(self, name, tmp_path):
        fits.writeto(tmp_path / "plain.fits", np.ones((N, N), np.float32))
        with pytest.raises(BadFile, match=r"plain\.fits.*expected|has no [A-Z]"):
            read(tmp_path / "plain.fits", format=name)


@pytest.mark.parametrize("name", NAMES)
class TestBySelf:
    def test_recognised_and_said(self, name, written):
        named, found = (opened(name, written[name], format=f) for f in (name, "auto"))
        assert found.meta["format"] == name
        assert f"taken for {name}" in found.meta["notes"][0]
        for plane in ("image", "variance", "mask"):
            np.testing.assert_array_equal(getattr(named, plane), getattr(found, plane))
        assert (named.gain, named.saturation) == (found.gain, found.saturation)

    def test_none_reads_it_as_any_file(self, name, written):
        exposure = opened(name, written[name], format="none")
        assert exposure.meta["format"] is None and "mask" not in exposure.meta["planes"]

    def test_columns_come_first(self, name, written):
        exposure = opened(name, written[name], gain=123.0, saturation=1e7)
        assert (exposure.gain, exposure.saturation) == (123.0, 1e7)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_another_format_is_refused(name, written):
    """It says what was expected and what the file is."""
    for other in NAMES:
        if other == name or {name, other} in ALIKE:
            continue
        with pytest.raises(BadFile) as caught:
            read(written[other].path, format=name)
        assert other in str(caught.value) and name in str(caught.value), other


@pytest.mark.parametrize("name", [name for name in NAMES if formats()[name].mask])
def test_a_mask_of_ones_own_replaces_the_formats(name, written, tmp_path):
    own = np.zeros((N, N), np.uint8)
    own[5, 6] = 2
    fits.writeto(tmp_path / "own.fits", own)
    exposure = opened(name, written[name], mask=tmp_path / "own.fits")
    assert not exposure.usable[5, 6] and exposure.meta["planes"]["mask"].startswith("own.fits")


WITH_COMPANIONS = [
    "ztf",
    "ztf-ref",
    "ptf",
    "ps1",
    "decam-cp",
    "legacysurvey",
    "cfht",
    "wise",
    "unwise",
]


@pytest.mark.parametrize("name", [*WITH_COMPANIONS, "meerlicht"])
class TestCompanions:
    def test_missing_by_name(self, name, written, tmp_path):
        for missing in written[name].companions:
            folder = tmp_path / missing.name
            folder.mkdir()
            path = copied(written[name], folder, without=(missing,))
            with pytest.raises(BadFile, match=r"no such file: it would be the .*Put it beside"):
                read(path, format=name)

    def test_missing_by_itself(self, name, written, tmp_path):
        path = copied(written[name], tmp_path, without=written[name].companions)
        notes = read(path).meta["notes"]
        assert any(n.startswith("read without its") and "no such file" in n for n in notes)

    def test_packed_otherwise(self, name, written, tmp_path):
        path = copied(written[name], tmp_path)
        for other in written[name].companions:
            there = tmp_path / other.name
            bare = there.name.removesuffix(".fz")
            there.rename(there.with_name(bare if bare != there.name else there.name + ".fz"))
        exposure = read(path, format=name)
        assert len(exposure.meta["planes"]) == 1 + len(written[name].companions)

    def test_a_workflow_waits_for_them(self, name, written):
        truth = written[name]
        assert set(companions(truth.path, name)) >= set(truth.companions)


class TestPlaneNamedAsAnotherKind:
    def test_sigma_as_variance(self, written):
        with pytest.raises(BadFile, match=r"is a plane of sigma.*sigma_hdu.*format: none"):
            read(written["lco"].path, variance_hdu="ERR")
        right = read(written["lco"].path, sigma_hdu="ERR")
        np.testing.assert_allclose(right.variance[5], written["lco"].variance[5], rtol=1e-4)

    def test_ps1_weight(self, written):
        image, weight = written["ps1"].path, written["ps1"].companions[0]
        with pytest.raises(BadFile, match=r"is a plane of variance.*Name it in variance"):
            read(image, weight=weight)
        whole = read(image)
        np.testing.assert_array_equal(read(image, variance=weight).variance, whole.variance)

    @pytest.mark.parametrize("name", ["hst-drz", "jwst-i2d"])
    def test_a_drizzle_weight_is_no_weight(self, written, name):
        with pytest.raises(BadFile, match=r"named as weight, but .*\[WHT\] is the"):
            read(written[name].path, weight_hdu="WHT")
        assert read(written[name].path, weight_hdu="WHT", format="none").variance is not None

    def test_a_plane_of_zeros_and_ones_is_no_weight(self, written):
        with pytest.raises(BadFile, match="is a mask"):
            read(written["cfht"].path, weight=written["cfht"].companions[0])

    def test_own_bits_are_known_by_their_names(self, written, sky):
        exposure = read(written["psflib"].path, format="none", hdu="IMAGE", mask_hdu="MASK")
        np.testing.assert_array_equal(exposure.usable, ~sky.bad)

    def test_own_file_in_another_kind(self, written, tmp_path):
        fits.writeto(tmp_path / "v.fits", np.full((N, N), 9, np.float32))
        exposure = read(written["lco"].path, variance=tmp_path / "v.fits")
        assert (exposure.variance[~written["lco"].bad] == 9).all()
        assert exposure.meta["source_noise"] is None


class TestRoles:
    def test_saturated_pixels_are_called_so(self, written, sky):
        for name in ("ztf", "ps1", "lsst", "decam-cp", "lco", "meerlicht"):
            exposure = opened(name, written[name])
            assert (exposure.mask[sky.full] & MaskBit.SAT).all(), name
            assert not (exposure.mask[sky.dead] & MaskBit.SAT).any(), name

    def test_unknown_code_counts_as_bad_and_is_said(self, written, tmp_path):
        path = copied(written["decam-cp"], tmp_path)
        dq = next(tmp_path.glob("*_ood_*"))
        with fits.open(dq, mode="update") as hdus:
            hdus["N4"].data[7, 8] = 64
        exposure = read(path, hdu="N4")
        assert not exposure.usable[7, 8]
        assert any("code 64 is not known" in n for n in exposure.meta["notes"])

    def test_unknown_bit_counts_as_bad_and_is_said(self, written, tmp_path):
        path = copied(written["lsst"], tmp_path)
        with fits.open(path, mode="update") as hdus:
            hdus["MASK"].data[7, 8] = 1 << 20
        exposure = read(path)
        assert not exposure.usable[7, 8]
        assert any("bit 20 is known neither" in n for n in exposure.meta["notes"])

    def test_a_mask_that_names_none_of_the_bits(self, written, tmp_path):
        path = copied(written["lsst"], tmp_path)
        with fits.open(path, mode="update") as hdus:
            for key in [k for k in hdus["MASK"].header if k.startswith("MP_")]:
                if key != "MP_DETECTED":
                    del hdus["MASK"].header[key]
        with pytest.raises(BadFile, match=r"names none of the bits.*It names DETECTED"):
            read(path)

    def test_names_decide_not_numbers(self, written):
        """NO_DATA is bit 8 in one file and 9 in the other."""
        shares = [read(written[name].path).meta["mask_names"] for name in ("hsc", "lsst")]
        assert shares[0] == shares[1] and "NO_DATA" in shares[0]


class TestSourceNoise:
    def test_added_only_where_it_lacks(self, written, sky):
        ready = prepare(opened("mosaic3-cp", written["mosaic3-cp"]))
        assert any("photon noise of sources is added" in n for n in ready.meta["notes"])
        ready = prepare(opened("decam-cp", written["decam-cp"]))
        assert not any("is added" in n for n in ready.meta["notes"])

    def test_nisp_names(self, written, tmp_path):
        path = copied(written["euclid"], tmp_path)
        with fits.open(path, mode="update") as hdus:
            for hdu in hdus[1:]:
                if hdu.name.endswith(".FLG"):
                    hdu.name = hdu.name.replace(".FLG", ".DQ")
                    hdu.data[...] = (1 << 11) | (1 << 15)
                    hdu.data[3, 4], hdu.data[5, 6] = 1 << 18, 1 << 10
                    for word, bit in (("NLINEAR", 11), ("DARKNODET", 15), ("SATUR", 10),
                                      ("GHOST", 18)):  # fmt: skip
                        hdu.header[f"HIERARCH MSK_FLAG_{word}"] = bit
        exposure = read(path, format="euclid")
        assert (~exposure.usable).sum() == 2 and not exposure.usable[3, 4]
        assert exposure.mask[5, 6] == MaskBit.SAT

    def test_the_second_quadrant_has_its_own_planes(self, written):
        exposure = read(written["euclid"].path, hdu="3-4.F.SCI")
        assert "[3-4.F.RMS]" in exposure.meta["planes"]["variance"]
        assert "[3-4.F.FLG]" in exposure.meta["planes"]["mask"]


def test_a_guess_that_fails_is_no_error(tmp_path):
    """Recognised by a card, but without the HDU that the format has: any file."""
    header = fits.Header({"TELESCOP": "TESS"})
    fits.writeto(tmp_path / "a.fits", np.ones((40, 40), np.float32), header)
    assert read(tmp_path / "a.fits").usable.all()
    with pytest.raises(BadFile, match=r"has no image of a tess-ffi file.*expected: HDU 1"):
        read(tmp_path / "a.fits", format="tess-ffi")


class TestTable:
    def test_each_row_tells_its_source(self):
        text = table_text()
        assert all(f"| `{name}` |" in text for name in formats())
        assert all(entry.source and entry.unit for entry in formats().values())

    def test_unknown_format(self, tmp_path):
        with pytest.raises(ValueError, match=r"'zft' is not known.*ztf"):
            read(tmp_path / "a.fits", format="zft")

    def test_documentation_holds_it(self):
        page = TABLE.parents[2] / "docs" / "formats.md"
        assert table_text() in page.read_text(encoding="utf-8"), (
            "python -m psflib formats --write docs/formats.md"
        )

    def test_it_can_be_printed(self, capsys):
        main(["formats"])
        assert capsys.readouterr().out == table_text()

    def test_names_of_bits_are_in_the_entry(self):
        for name, entry in formats().items():
            for mask in entry.mask:
                known = {*mask.bits, *mask.codes}
                if known and not mask.named_by:
                    assert {*mask.bad, *mask.good} <= known, name


def test_softbias_is_no_sky(written):
    exposure = read(written["sdss-fpc"].path)
    assert np.median(exposure.image) == pytest.approx(SKY / 4.72, rel=0.02)
