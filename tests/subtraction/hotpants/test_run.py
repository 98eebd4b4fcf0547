"""`run_hotpants`: STDPipe's interface, HOTPANTS's options, truth, and bad input."""

import inspect

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from psflib.errors import BadFile, BadImage, NotEnoughStars
from psflib.files.bare import write_planes
from psflib.image.convolve import constant_kernel
from psflib.image.noise import robust_std
from psflib.matching import MatchingKernel
from psflib.matching.cells.lsst_basis import gaussian_basis
from psflib.simulation import simulate_pair
from psflib.simulation.psf_model import PsfModel
from psflib.simulation.scene import Scene, render
from psflib.subtraction import run_hotpants
from psflib.subtraction.arrays import measured_variance
from psflib.subtraction.hotpants.options import HotpantsOptions, read_options
from tests.matching.cells import naive_cells as naive

SHAPE = (260, 280)
SCALE, SKY, SKY_TEMPLATE = 1.3, 500.0, 300.0
FWHMS = {"image_fwhm": 3.6, "template_fwhm": 2.8}
GRID = {"nsx": 4, "nsy": 4}  # stamps of 65 px: HOTPANTS's ten a side are for larger images
EMPTY = np.float32(1e-30)
TRANSIENTS = [(70.3, 190.8, 6000), (190.1, 60.4, -6000)]
WANTED = dict.fromkeys(
    ("get_convolved", "get_scaled", "get_noise", "get_kernel", "get_header"), True
)


def pair(**options):
    settings = {"shape": SHAPE, "seed": 5, "n_stars": 100, "scale": SCALE, "brightest": 2e5,
                "transients": TRANSIENTS}  # fmt: skip
    science, template, truth = simulate_pair(**{**settings, **options})
    errors = {
        "err": np.sqrt(science.variance.astype(float)),
        "template_err": np.sqrt(template.variance.astype(float)),
    }
    return science.image + SKY, template.image + SKY_TEMPLATE, errors, truth


@pytest.fixture(scope="module")
def images():
    return pair()


def run(images, extra=None, **options):
    image, template, errors, _ = images
    settings = {**errors, **FWHMS, **options}
    return run_hotpants(image, template, extra={**GRID, **(extra or {})}, **settings)


@pytest.fixture(scope="module")
def made(images):
    return run(images, **WANTED)


def quiet(plane):
    """Filled pixels away from transients, in whatever unit the plane has."""
    values = plane[plane != EMPTY]
    return values[np.abs(values - np.median(values)) < 6 * np.std(values)]


class TestInterface:
    def test_signature_of_stdpipe(self):
        names = " ".join(inspect.signature(run_hotpants).parameters)
        assert names == (
            "image template mask template_mask err template_err extra image_fwhm template_fwhm "
            "image_gain template_gain rel_r rel_rss nx ny obj get_convolved get_scaled "
            "get_noise get_kernel get_header _tmpdir _workdir _exe verbose"
        )
        defaults = inspect.signature(run_hotpants).parameters
        assert defaults["template_gain"].default == 1000
        assert (defaults["rel_r"].default, defaults["rel_rss"].default) == (3, 4)

    def test_only_the_difference_is_an_array(self, images):
        difference = run(images)
        assert isinstance(difference, np.ndarray)
        assert (difference.shape, difference.dtype) == (SHAPE, np.float32)

    def test_order_and_kinds(self, images, made):
        difference, convolved, scaled, noise, kernel, header = made
        for plane in made[:4]:
            assert plane.shape == SHAPE and np.isfinite(plane).all()
        assert isinstance(kernel, Table) and isinstance(header, fits.Header)
        good = difference != EMPTY
        np.testing.assert_allclose(images[0][good] - convolved[good], difference[good], atol=0.01)
        np.testing.assert_allclose(scaled[good] * noise[good], difference[good], rtol=1e-4,
                                   atol=1e-4)  # fmt: skip

    @pytest.mark.parametrize("name", list(WANTED))
    def test_each_alone(self, images, made, name):
        result = run(images, **{name: True})
        assert len(result) == 2
        expected = made[1 + list(WANTED).index(name)]
        assert type(result[1]) is type(expected)
        if isinstance(expected, np.ndarray):
            np.testing.assert_array_equal(result[1], expected)

    def test_header(self, made):
        kernel, header = made[4:]
        assert (header["NREGION"], header["CONVOL00"]) == (1, "TEMPLATE")
        assert header["KSUM00"] == f"{kernel['ksum'][0]:.4f}"
        assert header["NSTAMPS"] == kernel["n_stamps"][0]
        assert (header["PHOTNORM"], header["MASKVAL"]) == ("i", 1e-30)
        assert float(header["SSSIG00"]) == pytest.approx(1, abs=0.1)
        assert header["REGION00"] == "[1:280,1:260]"
        header.tostring()

    def test_every_card_of_hotpants(self, made):
        header, (difference, noise) = made[5], (made[0], made[3])
        whole = "SOFTNAME SOFTVERS AUTHOR ORIGIN DATE BZERO BSCALE DIFFCMD TARGET TEMPLATE " \
            "DIFFIM PHOTNORM NREGION MASKVAL KERINFO NSTAMPS"  # fmt: skip
        region = "REGION CONVOL KSUM SSSIG SSSCAT FSIG FSCAT X2NRM NX2NRM DMEAN DSIGE DSIG " \
            "DMEANO DSIGEO DSIGO"  # fmt: skip
        assert set(whole.split()) <= set(header)
        for key in region.split():
            assert isinstance(header[f"{key}00"], str)
        inner = np.s_[11:-11, 11:-11]  # no pixel is masked: all else is good
        z = difference[inner] / noise[inner]
        assert int(header["NX2NRM00"]) == z.size
        assert float(header["X2NRM00"]) == pytest.approx(np.mean(np.square(z)), abs=1e-4)
        assert float(header["DSIG00"]) == pytest.approx(np.median(noise[inner]), rel=0.01)
        # clipped at 3 sigma, which takes 1.5 % of a Gaussian's scatter, and the stars' residuals
        assert float(header["DSIGE00"]) == pytest.approx(np.std(quiet(difference)), rel=0.05)
        # over 12 substamps of 961 px; bright stars have the kernel's error in them
        assert float(header["FSIG00"]) == pytest.approx(1, abs=0.1)
        assert "-n i" in header["DIFFCMD"] and "-ng 3 6 0.5 4 1 2 2" in header["DIFFCMD"]

    def test_kernel_table_makes_the_kernel_again(self, images, made, tmp_path):
        made[4].write(tmp_path / "kernel.fits")
        row = Table.read(tmp_path / "kernel.fits")[0]
        shape = int(row["ny"]), int(row["nx"])
        kernel = MatchingKernel(
            row["basis"], row["coefficients"], int(row["ko"]), 0, row["background"],
            int(row["bgo"]), shape,
        )  # fmt: skip
        np.testing.assert_allclose(
            kernel.at((shape[1] - 1) / 2, (shape[0] - 1) / 2), row["kernel"], atol=1e-12
        )
        template = images[1] - np.median(images[1])
        matched = constant_kernel(row["kernel"]).convolve(template.astype(np.float32))
        level = np.median(images[0])
        rest = images[0] - matched - row["background"][0] - level
        inner = np.s_[40:-40, 40:-40]
        np.testing.assert_allclose(rest[inner], made[0][inner], atol=0.05)

    def test_verbose(self, images, capsys):
        said = []
        run(images, verbose=said.append)
        assert "substamps" in said[0]
        run(images, verbose=True)
        assert "substamps" in capsys.readouterr().out
        run(images)
        assert capsys.readouterr().out == ""

    def test_input_is_not_touched(self, images):
        before = [p.copy() for p in (*images[:2], *images[2].values())]
        run(images)
        for now, then in zip((*images[:2], *images[2].values()), before, strict=True):
            np.testing.assert_array_equal(now, then)


class TestTruth:
    def test_kernel_sum(self, made):
        # light beyond the kernel's box, about -0.5 %, and its noise
        assert made[4]["flux_scale"][0] == pytest.approx(SCALE, rel=0.015)

    def test_difference_is_noise(self, made):
        assert np.std(quiet(made[2])) == pytest.approx(1, abs=0.02)

    @pytest.mark.parametrize("transient", TRANSIENTS)
    def test_transients(self, made, transient):
        x, y, flux = transient
        box = np.s_[round(y) - 8 : round(y) + 9, round(x) - 8 : round(x) + 9]
        error = float(np.sqrt(np.square(made[3][box]).sum()))
        total = float(made[0][box].sum())
        assert total == pytest.approx(0.985 * flux, abs=4 * error + 0.02 * abs(flux))

    def test_not_worse_than_the_least_squares_of_hotpants(self, images):
        """The same substamps without weights, as the C program does it."""
        image, template, _, truth = images
        xy = np.c_[truth["x"].value, truth["y"].value]
        xy = xy[np.argsort(-truth["flux"].value)]
        centre = np.array(SHAPE[::-1]) / 2
        inside = np.all((np.abs(xy - centre) < centre - 40) & (np.abs(xy - centre) > 15), axis=1)
        quadrant = (xy > centre) @ [1, 2]
        chosen = np.array([xy[inside & (quadrant == q)][0] for q in range(4)])
        difference, noise, kernel = run(
            images, {"nsx": 2, "nsy": 2, "ks": 1e6},
            obj=Table({"x": chosen[:, 0], "y": chosen[:, 1]}), get_noise=True, get_kernel=True,
        )  # fmt: skip
        assert kernel["n_stamps"][0] == 4
        sigma = max(np.sqrt(3.6**2 - 2.8**2) / 2.35, 1.0)
        basis = gaussian_basis(11, [0.5 * sigma, sigma, 2 * sigma], [6, 4, 2])
        twin, total = naive.hotpants_difference(
            image.astype(float), template - SKY_TEMPLATE, chosen, basis, 15
        )
        inner, sigma = (p[11:-11, 11:-11] for p in (difference, noise))
        good = inner != EMPTY
        z, z_twin = inner[good] / sigma[good], twin[good] / sigma[good]
        assert np.std(z) < 1.02 * np.std(z_twin)
        assert np.mean(np.square(z[np.abs(z) < 6])) < 1.02 * np.mean(
            np.square(z_twin[np.abs(z) < 6])
        )
        assert kernel["ksum"][0] == pytest.approx(total, rel=5e-3)

    def test_kernel_that_varies(self):
        crowd = pair(variation=0.15, n_stars=250, seed=8)
        rms = []
        for order in (0, 2):
            scaled = run(crowd, {"ko": order, "bgo": 1, "nsx": 6, "nsy": 6}, get_scaled=True)[1]
            rms.append(np.mean(np.square(scaled[scaled != EMPTY])))
        assert rms[1] < rms[0]

    def test_regions_have_their_own_kernels(self, images):
        result = run(images, {"nsx": 2, "nsy": 2}, nx=2, ny=1, **WANTED)
        kernel, header = result[4:]
        assert header["NREGION"] == len(kernel) == 2
        assert list(kernel["x_min"]) == [0, 140] and list(kernel["x_max"]) == [139, 279]
        assert kernel["ksum"][0] != kernel["ksum"][1]
        np.testing.assert_allclose(kernel["flux_scale"], SCALE, rtol=0.03)
        assert np.std(quiet(result[2])) == pytest.approx(1, abs=0.03)
        # the margin of a region reaches into the next: nothing is lost at the seam
        assert (result[0][:, 130:150] != EMPTY).mean() > 0.8
        assert len(run(images, {"nsx": 2, "nsy": 2}, nx=2, get_kernel=True)[1]) == 4

    def test_the_same_twice(self, images, made):
        for one, two in zip(made[:4], run(images, **WANTED)[:4], strict=True):
            np.testing.assert_array_equal(one, two)


class TestOptions:
    def test_defaults_of_hotpants(self):
        options = HotpantsOptions()
        assert (options.r, options.rss, options.ko, options.bgo) == (10, 15, 2, 1)
        assert (options.degrees, options.sigmas) == ([6, 4, 2], [0.7, 1.5, 3.0])
        assert (options.nsx, options.nsy, options.nss, options.ks) == (10, 10, 3, 2.0)
        assert (options.c, options.n, options.kfm, options.fi) == ("b", "t", 0.99, 1e-30)

    def test_defaults_of_stdpipe(self, made):
        kernel = made[4]
        assert (kernel["ko"][0], kernel["bgo"][0], kernel["convolved"][0]) == (0, 0, "template")
        assert kernel["kernel"].shape[1:] == (23, 23)  # r = ceil(3 x 3.6) = 11

    @pytest.mark.parametrize("widths", [(3.6, 2.8), (6.0, 2.0), (2.8, 3.6), (3.0, 3.0)])
    def test_rule_of_the_basis(self, images, widths):
        """ng = [3, 6, s/2, 4, s, 2, 2 s], s from the FWHMs, at least 1 px."""
        kernel = run(
            images, {"r": 8, "rss": 12}, get_kernel=True, image_fwhm=widths[0],
            template_fwhm=widths[1],
        )[1]  # fmt: skip
        sigma = max(1.0, np.sqrt(abs(widths[0] ** 2 - widths[1] ** 2)) / 2.35)
        expected = gaussian_basis(8, [sigma / 2, sigma, 2 * sigma], [6, 4, 2])
        np.testing.assert_allclose(kernel["basis"][0], expected)

    def test_sizes_scale_with_the_image(self, images):
        kernel = run(images, get_kernel=True, rel_r=2, rel_rss=3)[1]
        assert kernel["kernel"].shape[1:] == (17, 17)
        image, template, errors, _ = images
        kernel = run_hotpants(image, template, extra=GRID, get_kernel=True, **errors)[1]
        assert kernel["kernel"].shape[1:] == (21, 21)
        assert kernel["basis"].shape[1] == 49

    def test_extra_overrides_and_none_takes_the_default_of_hotpants(self, images):
        kernel = run(images, {"r": 7, "ko": 1, "ng": [1, 2, 1.5], "c": None}, get_kernel=True)[1]
        assert kernel["kernel"].shape[1:] == (15, 15)
        assert kernel["basis"].shape[1] == 6
        assert kernel["convolved"][0] == "template"  # the better of both

    @pytest.mark.parametrize(
        ("extra", "message"),
        [
            ({"rs": 5}, "no option 'rs'; did you mean 'rss'"),
            ({"kernel_order": 5}, "no option 'kernel_order'; did you mean"),
            ({"ki": "kernel.fits"}, "'ki'.*read_kernel"),
            ({"rkw": "REG"}, "'rkw'.*use rf"),
            ({"ssf": [1, 2, 3]}, "'ssf'"),
            ({"rf": [1, 2, 3]}, "'rf'"),
            ({"rf": [(900, 990, 0, 99)]}, "rf: the region"),
            ({"ini": np.ones((3, 3))}, "err of the image"),
            ({"c": "x"}, "'c'"),
            ({"n": "x"}, "'n'"),
            ({"r": 0}, "'r'"),
            ({"ng": [2, 6, 0.7]}, "'ng'.*each"),
            ({"ng": [1, 6, -0.7]}, "'ng'.*positive"),
            ({"ko": -1}, "'ko'"),
        ],
    )
    def test_refused(self, images, extra, message):
        with pytest.raises(ValueError, match=message):
            run(images, extra)

    def test_options_without_effect_are_told_once(self, images, made, caplog):
        extra = {"v": 2, "allm": True, "hki": True, "kcs": 5}
        np.testing.assert_array_equal(run(images, extra, _exe="/bin/hotpants"), made[0])
        told = [r.getMessage() for r in caplog.records if "without effect" in r.getMessage()]
        assert told == ["without effect here: kcs, v, _exe"]
        assert read_options({"v": 0}) == HotpantsOptions()

    def test_planes_and_places_from_files(self, images, made, tmp_path):
        truth, errors = images[3], images[2]
        x, y = truth["x"].value + 1, truth["y"].value + 1
        lines = [f"{a:.6f} {b:.6f}" for a, b in zip(x, y, strict=True)]
        (tmp_path / "stars.xy").write_text("\n".join(["x y", *lines]))
        (tmp_path / "stars.cmp").write_text("\n".join(["9 9", *lines]))
        write_planes(tmp_path / "err.fits", {"err": errors["err"]})
        by_file = [
            run(images, {name: tmp_path / f"stars.{end}", "ini": tmp_path / "err.fits"}, err=None)
            for name, end in (("ssf", "xy"), ("cmp", "cmp"))
        ]
        direct = run(images, {"ssf": np.round(np.c_[x, y], 6), "ini": errors["err"]}, err=None)
        for found in by_file:
            np.testing.assert_array_equal(found, direct)
        mask = np.zeros(SHAPE, bool)
        mask[100:110, 100:110] = True
        assert np.all(run(images, {"imi": mask})[mask] == EMPTY)
        with pytest.raises(BadFile, match=r"none\.xy"):
            run(images, {"ssf": str(tmp_path / "none.xy")})
        with pytest.raises(BadFile, match=r"none\.fits"):
            run(images, {"tni": str(tmp_path / "none.fits")})

    def test_substamps_filled_up(self, images):
        truth = images[3]
        inside = (truth["x"].value > 60) & (truth["x"].value < 200)
        inside &= (truth["y"].value > 60) & (truth["y"].value < 180)
        one = truth[inside][:1]
        found = [run(images, {"afssc": a}, obj=one, get_kernel=True)[1] for a in (0, 1)]
        assert found[0]["n_stamps"][0] == 1 and found[1]["n_stamps"][0] > 5

    def test_regions_by_a_list(self, images, tmp_path):
        (tmp_path / "regions.txt").write_text("0:139,0:259\n140:279,0:259\n")
        extra = {"nsx": 2, "nsy": 2}
        by_number = run(images, extra, nx=2, ny=1)
        by_file = run(images, {**extra, "rf": tmp_path / "regions.txt"})
        np.testing.assert_array_equal(by_number, by_file)
        part, header = run(images, {"rf": [(20, 250, 10, 240)]}, get_header=True)
        assert header["REGION00"] == "[21:251,11:241]"
        assert np.all(part[:10] == EMPTY) and np.all(part[:, 251:] == EMPTY)

    def test_same_direction_in_all_regions(self):
        sharp = pair(fwhm_science=2.2, fwhm_template=4.4, transients=())
        widths = {"image_fwhm": 4.4, "template_fwhm": 2.2}
        extra = {"c": "b", "sconv": True, "nsx": 2, "nsy": 2}
        kernels = run(sharp, extra, nx=2, ny=1, get_kernel=True, **widths)[1]
        assert list(kernels["convolved"]) == ["science", "science"]

    def test_noise_of_fair_pixels(self, images):
        mask = np.random.default_rng(3).uniform(size=SHAPE) < 1e-3
        extra = {"mins": 0, "kfm": 0.5}
        plain, scaled = (
            run(images, {**extra, "okn": k}, template_mask=mask, get_noise=True, get_header=True)
            for k in (False, True)
        )
        factor = float(scaled[2]["NSCALO00"])
        ratio = scaled[1][40:-40, 40:-40] / np.maximum(plain[1][40:-40, 40:-40], 1e-9)
        values = np.unique(np.round(ratio[plain[1][40:-40, 40:-40] > 0], 3))
        assert factor >= 1 and np.allclose([values.min(), values.max()], [1, factor], atol=2e-3)
        assert "NSCALO00" not in plain[2]

    def test_files_that_options_promise(self, images, made, tmp_path):
        names = {n: str(tmp_path / f"{n}.fits") for n in ("oci", "oni", "ond", "omi", "oki")}
        extra = {**names, "savexy": str(tmp_path / "stamps.reg")}
        _, convolved, scaled, noise, kernel, header = run(images, extra, **WANTED)
        for name, plane in (("oci", convolved), ("ond", scaled), ("oni", noise)):
            np.testing.assert_array_equal(fits.getdata(names[name]), plane)
            assert fits.getheader(names[name])["KSUM00"] == header["KSUM00"]
        mask = fits.getdata(names["omi"])
        np.testing.assert_array_equal((mask & 0x8000) > 0, made[0] == EMPTY)
        assert mask.dtype == np.uint16 and (mask == 0).sum() == int(header["NX2NRM00"])
        np.testing.assert_array_equal(Table.read(names["oki"])["kernel"], kernel["kernel"])
        used, every, skipped = (
            (tmp_path / f"stamps.reg{end}").read_text().splitlines()
            for end in ("", ".all", ".skipped")
        )
        assert len(used) == 1 + header["NSTAMPS"] and used[0].startswith("#")
        assert "color=green" in used[1] and used[1].startswith("image;box(")
        assert len(every) >= len(used) and len(skipped) - 1 == int(header["SSREJ00"])
        with pytest.raises(ValueError, match=r"'oki'.*exists"):
            run(images, {"oki": names["oki"], "nc": True})

    def test_working_folder(self, images, made, tmp_path):
        folder = tmp_path / "work"
        run(images, obj=images[3], _workdir=str(folder), get_header=True)
        expected = "diff err image imask template terr tmask"
        assert {p.stem for p in folder.glob("*.fits")} == set(expected.split())
        with fits.open(folder / "diff.fits") as hdus:
            assert [len(hdus), hdus[0].data.shape, hdus[4].name] == [5, SHAPE, ""]
            assert hdus[0].header["DIFFIM"] == str(folder / "diff.fits")
        np.testing.assert_array_equal(fits.getdata(folder / "err.fits"), images[2]["err"])
        assert len((folder / "objects.xy").read_text().splitlines()) == len(images[3])
        assert (folder / "stamps.reg").exists()

    def test_objects_place_the_substamps(self, images):
        truth = images[3]
        result = run(images, obj=truth, get_kernel=True)[1]
        assert result["n_stamps"][0] >= 5
        x, y = truth["x"].value, truth["y"].value
        again = run(images, {"ssf": np.c_[x, y] + 1}, get_kernel=True)[1]
        np.testing.assert_array_equal(result["kernel"], again["kernel"])

    def test_direction_and_units(self, images):
        """n: i, u and t differ by the flux scale; c = i turns the kernel around."""
        by_unit = {n: run(images, {"n": n}) for n in "itu"}
        kernel = run(images, get_kernel=True)[1]
        good = by_unit["i"] != EMPTY
        np.testing.assert_array_equal(by_unit["i"], by_unit["u"])
        np.testing.assert_allclose(
            by_unit["t"][good] * kernel["flux_scale"][0], by_unit["i"][good], rtol=1e-5
        )
        assert run(images, {"n": "t"}, get_header=True)[1]["PHOTNORM"] == "t"
        sharp = pair(fwhm_science=2.8, fwhm_template=3.6)
        widths = {"image_fwhm": 3.6, "template_fwhm": 2.8}
        result = run(sharp, {"c": "i"}, **WANTED, **widths)
        assert result[4]["convolved"][0] == "science"
        assert result[4]["flux_scale"][0] == pytest.approx(SCALE, rel=0.02)
        assert result[5]["CONVOL00"] == "IMAGE"
        assert np.std(quiet(result[2])) == pytest.approx(1, abs=0.05)
        for x, y, flux in TRANSIENTS:
            box = np.s_[round(y) - 8 : round(y) + 9, round(x) - 8 : round(x) + 9]
            assert float(result[0][box].sum()) == pytest.approx(flux, rel=0.15)
        both = run(sharp, {"c": "b"}, get_kernel=True, **widths)[1]
        assert both["convolved"][0] == "science"

    @pytest.mark.parametrize("choice", ["t", "i"])
    @pytest.mark.parametrize("units", ["t", "i", "u"])
    def test_convolved_has_the_units_of_the_difference(self, images, choice, units):
        """image - convolved = difference, in the units of n; the other way round if c is i."""
        fwhms = (3.6, 2.8) if choice == "t" else (2.8, 3.6)
        image, template, errors, _ = pair(fwhm_science=fwhms[0], fwhm_template=fwhms[1])
        difference, convolved, kernel = run(
            (image, template, errors, None), {"c": choice, "n": units}, get_convolved=True,
            get_kernel=True,
        )  # fmt: skip
        good = difference != EMPTY
        own = {"t": "i", "i": "t"}[choice]  # units of the image that is not convolved
        factor = 1.0 if units in (own, "u") else 1 / kernel["ksum"][0]
        rest = factor * image - convolved if choice == "t" else convolved - factor * template
        np.testing.assert_allclose(rest[good], difference[good], atol=0.05)
        assert np.isfinite(convolved).all() and (convolved != EMPTY).all()

    def test_good_part_of_the_image(self, images):
        difference = run(images, {"gd": (41, 250, 1, 260)})
        assert np.all(difference[:, :40] == EMPTY) and np.all(difference[:, 250:] == EMPTY)
        assert (difference[30:-30, 40:250] != EMPTY).mean() > 0.9
        with pytest.raises(ValueError, match="holds no pixel"):
            run(images, {"gd": (300, 400, 1, 20)})

    @pytest.mark.parametrize("fom", ["v", "s", "h"])
    def test_figures_of_merit(self, images, fom):
        header = run(images, {"fom": fom}, get_header=True)[1]
        assert float(header["SSSIG00"]) == pytest.approx(1, abs=0.15)
        assert ("FSIG00" in header) == (fom == "v")


class TestNoiseAndMasks:
    def test_measured_noise(self):
        """err=True: noise of the sky, and photon noise of the sources by the gain."""
        science, template, _ = simulate_pair(SHAPE, 5, n_stars=100, brightest=2e5, scale=SCALE)
        for exposure, level in ((science, SKY), (template, SKY_TEMPLATE)):
            good = np.ones(SHAPE, bool)
            variance = measured_variance(exposure.image + level, good, 2.0)
            assert np.median(variance / exposure.variance) == pytest.approx(1, abs=0.1)
            bright = exposure.variance > 10 * np.median(exposure.variance)
            assert np.mean(variance[bright]) == pytest.approx(
                np.mean(exposure.variance[bright]), rel=0.15
            )
            dark = measured_variance(exposure.image + level, good, None)
            assert np.mean(dark[bright]) < 0.3 * np.mean(variance[bright])

    def test_measured_noise_in_the_difference(self, images):
        scaled = run(images, err=True, template_err=True, image_gain=2, template_gain=2,
                     get_scaled=True)[1]  # fmt: skip
        assert np.std(quiet(scaled)) == pytest.approx(1, abs=0.06)

    def test_own_noise_model_of_hotpants(self, images):
        noise = run(images, err=None, template_err=None, image_gain=2.0, get_noise=True)[1]
        # sqrt(500 ADU / 2) of the image; the template's gain of 1000 leaves its sky's scatter
        assert np.percentile(noise[noise > 0], 5) > np.sqrt(SKY / 2)

    def test_noise_of_the_sky_in_a_crowd(self):
        """Sky taken off, stars all over: the floor is the sky's noise, not the stars' scatter."""
        science, template, _ = simulate_pair(SHAPE, 5, n_stars=600, brightest=3e4, scale=SCALE)
        noise = run_hotpants(
            science.image, template.image, extra=GRID, get_noise=True, image_gain=1000, **FWHMS
        )[1]
        truth = float(np.sqrt(np.median(science.variance) + np.median(template.variance)))
        median = float(np.median(noise[noise > 0]))
        assert robust_std(science.image) > 1.35 * truth
        # the template is convolved, which leaves less of its noise; faint stars add to the sky
        assert 0.7 * truth < median < 1.25 * truth

    def test_masked_pixels(self, images):
        image, template, errors, _ = images
        mask, template_mask = np.zeros(SHAPE, bool), np.zeros(SHAPE, int)
        mask[100:104, 200:260] = True
        template_mask[200, 30:60] = 7
        image, template = image.copy(), template.copy()
        image[mask], template[template_mask > 0] = np.nan, 1e6
        difference, noise = run(
            (image, template, errors, None), {"fi": -99.0, "fin": 0.0}, mask=mask,
            template_mask=template_mask, get_noise=True,
        )  # fmt: skip
        assert np.isfinite(difference).all()
        assert np.all(difference[mask | (template_mask > 0)] == -99)
        assert np.all(noise[mask | (template_mask > 0)] == 0)
        assert difference[202, 45] == -99  # its kernel sees the masked row
        assert difference[180, 45] != -99
        share = (difference == -99).mean()
        unspoilt = run((image, template, errors, None), {"fi": -99.0, "mous": -1}, mask=mask,
                       template_mask=template_mask)  # fmt: skip
        assert (unspoilt == -99).mean() < share

    def test_limits_of_valid_counts(self, images):
        image = images[0]
        limit = float(np.percentile(image, 99.5))
        difference = run(images, {"iu": limit, "iuk": limit})
        assert np.all(difference[image >= limit] == EMPTY)
        # high counts may also be kept from the fit alone
        kept = run(images, {"iuk": limit})
        assert (kept[image >= limit] != EMPTY).any()


class TestBadInput:
    def test_no_sources(self):
        with pytest.raises(NotEnoughStars, match="0 sources"):
            run(pair(n_stars=0, transients=()))

    def test_one_substamp(self, images):
        truth = images[3]
        inside = (truth["x"].value > 60) & (truth["x"].value < 200)
        inside &= (truth["y"].value > 60) & (truth["y"].value < 180)
        best = truth[inside][np.argmax(truth["flux"][inside])]
        one = Table({"x": [best["x"].value], "y": [best["y"].value]})
        kernel = run(images, {"ko": 2}, obj=one, get_kernel=True)[1]
        assert (kernel["n_stamps"][0], kernel["ko"][0]) == (1, 0)
        assert "lowered from 2 to 0: 1 candidates" in kernel["notes"][0]
        outside = Table({"x": [3.0], "y": [400.0]})
        with pytest.raises(NotEnoughStars, match="substamps"):
            run(images, obj=outside)

    def test_all_variable(self):
        rng = np.random.default_rng(2)
        x, y, flux = *rng.uniform(20, 240, (2, 60)), 10 ** rng.uniform(3.7, 5, 60)
        planes, errors = [], []
        for values, fwhm in ((flux * rng.uniform(0.3, 2.5, 60), 3.6), (flux, 2.8)):
            light = render(Scene.points(x, y, values), PsfModel(fwhm, shape=SHAPE), SHAPE, 7.0)
            errors.append(np.sqrt(49 + light / 2))
            planes.append(light + rng.normal(0, errors[-1]) + 100)
        sigma = {"err": errors[0], "template_err": errors[1]}
        kernel = run((*planes, sigma, None), get_kernel=True)[1]
        assert kernel["merit"][0] > 3
        assert "noise would be 1" in kernel["notes"][0]

    def test_all_in_a_corner(self, images):
        truth = images[3]
        corner = truth[(truth["x"].value < 120) & (truth["y"].value < 120)]
        kernel = run(images, {"ko": 2, "nsx": 10, "nsy": 10}, obj=corner, get_kernel=True)[1]
        assert kernel["ko"][0] == 0
        assert "of the field's side" in kernel["notes"][0]

    def test_sharper_science(self):
        sharp = pair(fwhm_science=2.2, fwhm_template=4.4, transients=())
        both = run(sharp, {"c": "b"}, get_kernel=True, image_fwhm=4.4, template_fwhm=2.2)[1]
        assert both["convolved"][0] == "science"
        difference = run(sharp, image_fwhm=2.2, template_fwhm=4.4)
        assert np.isfinite(difference).all()

    def test_constant_image(self, images):
        flat = np.full(SHAPE, 100.0)
        for planes in ((flat, images[1]), (images[0], flat)):
            with pytest.raises(BadImage, match="hold the value 100"):
                run_hotpants(*planes)

    @pytest.mark.parametrize("factor", [1e4, 1e-4])
    def test_flux_scales_far_apart(self, images, made, factor):
        image, template, errors, _ = images
        scaled = {"err": errors["err"] * factor, "template_err": errors["template_err"]}
        result = run((image * factor, template, scaled, None), **WANTED)
        assert result[4]["ksum"][0] == pytest.approx(made[4]["ksum"][0] * factor, rel=2e-3)
        assert np.std(quiet(result[2])) == pytest.approx(1, abs=0.03)

    def test_most_pixels_masked(self, images):
        scattered = np.random.default_rng(3).uniform(size=SHAPE) < 0.6
        with pytest.raises(NotEnoughStars, match="mask"):
            run(images, mask=scattered)
        block = np.zeros(SHAPE, bool)
        block[:, :168] = True
        scaled = run(images, mask=block, get_scaled=True)[1]
        assert np.all(scaled[block] == EMPTY)
        assert np.std(quiet(scaled)) == pytest.approx(1, abs=0.06)
        with pytest.raises(BadImage, match="of 72800"):
            run(images, mask=np.ones(SHAPE, bool))

    def test_holes_in_the_template(self, images):
        image, template, errors, _ = images
        holes = np.random.default_rng(4).uniform(size=SHAPE) < 3e-4
        template = np.where(holes, np.nan, template)
        difference = run((image, template, errors, None), {"mins": 0.2})
        assert np.isfinite(difference).all()
        assert np.all(difference[holes] == EMPTY)

    def test_shapes(self, images):
        image, template, errors, _ = images
        with pytest.raises(ValueError, match=r"\(260, 280\).*\(200, 280\)"):
            run_hotpants(image, template[:200])
        with pytest.raises(ValueError, match="mask has shape"):
            run_hotpants(image, template, mask=np.zeros((3, 3), bool))
        with pytest.raises(ValueError, match="err of the image"):
            run_hotpants(image, template, err=errors["err"][:100])
        with pytest.raises(ValueError, match="2-D"):
            run_hotpants(image[0], template)

    def test_kernel_larger_than_the_image(self, images):
        image, template, _, _ = images
        with pytest.raises(ValueError, match=r"53 px .* are larger than the region \(40, 40\)"):
            run_hotpants(image[:40, :40], template[:40, :40], **FWHMS)

    def test_bad_widths(self, images):
        for name in FWHMS:
            with pytest.raises(ValueError, match=f"{name} must be"):
                run(images, **{name: -1.0})
