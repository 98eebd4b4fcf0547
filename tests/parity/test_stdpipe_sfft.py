"""STDPipe's run_sfft and ours: order and kinds of results, pixels used, the exact solution."""

import inspect

import numpy as np
import pytest
from astropy.table import Table

from psflib.image.noise import robust_std
from psflib.simulation import simulate_pair
from psflib.subtraction import run_sfft, sfft
from tests.parity.peers import SEEDS, peer

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]
subtraction, theirs = peer("stdpipe.subtraction"), peer("stdpipe.sfft")

SHAPE = (160, 176)
EXACT = {
    "kernel_shape": (5, 7), "kernel_poly_order": 1, "bg_poly_order": 2, "flux_poly_order": 1,
    "flux_penalty": 0.0, "ridge": 0.0, "sigma_clip": 0, "max_iter": 1,
}  # fmt: skip


def pair(seed):
    science, template, truth = simulate_pair(
        SHAPE, seed=seed, n_stars=60, scale=1.3, fwhm_science=3.6
    )
    errors = {
        "err": np.sqrt(science.variance.astype(float)),
        "template_err": np.sqrt(template.variance.astype(float)),
    }
    return (
        (science.image + 500.0).astype(float),
        (template.image + 300.0).astype(float),
        errors,
        truth,
    )


def both(seed, **options):
    image, template, errors, _ = pair(seed)
    asked = {name: errors[name] for name in options.pop("errors", ())}
    return [
        call(image.copy(), template.copy(), **asked, **options)
        for call in (subtraction.run_sfft, run_sfft)
    ]


def test_the_same_arguments_in_the_same_order():
    expected = inspect.signature(subtraction.run_sfft).parameters
    found = [
        p for p in inspect.signature(run_sfft).parameters.values() if p.kind is not p.KEYWORD_ONLY
    ]
    assert [(p.name, p.default) for p in found] == [(p.name, p.default) for p in expected.values()]
    for name in ("solve", "evaluate_kernel_at", "evaluate_flux_scale", "evaluate_background"):
        expected, found = (
            {p.name: p.default for p in inspect.signature(getattr(m, name)).parameters.values()}
            for m in (theirs, sfft)
        )
        assert found == expected


def test_the_result_has_their_attributes():
    result = both(1, get_kernel=True, **EXACT)[1][1]
    for name in theirs.SFFTResult.__dataclass_fields__:
        assert getattr(result, name) is not None


@pytest.mark.parametrize("seed", SEEDS)
class TestNumbers:
    def test_order_and_scale_of_the_planes(self, seed):
        flags = {f"get_{n}": True for n in ("convolved", "scaled", "noise", "kernel")}
        expected, found = both(seed, errors=("err", "template_err"), **flags)
        assert len(found) == len(expected) == 5
        good = ~found[4].dmask
        noise = expected[3]
        pairs = {"difference": (expected[0], found[0]), "scaled": (expected[2], found[2])}
        pairs["model"] = expected[4].model, found[4].model
        for name, (one, two) in pairs.items():
            assert one.shape == two.shape == SHAPE
            unit = 1.0 if name == "scaled" else noise[good]
            # robust: STDPipe gives up the cores of bright stars, which stay in its difference
            assert robust_std((one - two)[good] / unit) < 0.3
        # theirs takes part of the template's sky for the background: the same sum, by own scales
        x, y = np.meshgrid(np.arange(SHAPE[1]), np.arange(SHAPE[0]))
        for planes, module in ((expected, theirs), (found, sfft)):
            background = module.evaluate_background(planes[4], x, y, SHAPE)
            rest = pair(seed)[0] - planes[0] - planes[1] - background
            assert np.abs(rest[good]).max() < 0.01 * np.median(noise)
        np.testing.assert_allclose(found[3][good], noise[good], rtol=0.05)

    @pytest.mark.parametrize("errors", [(), ("err",)])
    def test_least_squares_without_penalties_are_the_same(self, seed, errors):
        expected, _ = both(seed, errors=errors, get_convolved=True, get_kernel=True, **EXACT)
        image, template, given, _ = pair(seed)
        one = expected[-1]
        exact = run_sfft(
            image, template, **{n: given[n] for n in errors}, get_convolved=True, get_kernel=True,
            assembly="gram", **EXACT,
        )  # fmt: skip
        two = exact[-1]
        scale = np.abs(one.kernel_coeffs).max()
        # their equations without the sky taken off have a condition of 1e9
        np.testing.assert_allclose(two.kernel_coeffs, one.kernel_coeffs, atol=1e-4 * scale)
        np.testing.assert_allclose(two.flux_poly_coeffs, one.flux_poly_coeffs, atol=1e-4)
        np.testing.assert_allclose(two.bg_coeffs, one.bg_coeffs, atol=0.1)
        noise, good = np.median(given["err"]), ~two.dmask
        for a, b in ((expected[0], exact[0]), (expected[1], exact[1]), (one.model, two.model)):
            assert np.abs(a - b)[good].max() < 0.02 * noise
        assert (one.n_good, one.n_iter) == (two.n_good, two.n_iter)
        assert one.rms == pytest.approx(two.rms, rel=1e-4)
        np.testing.assert_array_equal(one.dmask, two.dmask)

    def test_their_functions_read_our_result(self, seed):
        image, template, _, _ = pair(seed)
        result = sfft.solve(image, template, **EXACT)
        x, y = np.array([10.0, 90.0, 150.0]), np.array([100.0, 20.0, 70.0])
        for name in ("evaluate_flux_scale", "evaluate_background"):
            np.testing.assert_allclose(
                getattr(theirs, name)(result, x, y, SHAPE), getattr(sfft, name)(result, x, y, SHAPE)
            )
        for place in zip(x, y, strict=True):
            np.testing.assert_allclose(
                theirs.evaluate_kernel_at(result, *place, SHAPE),
                sfft.evaluate_kernel_at(result, *place, SHAPE), atol=1e-12,
            )  # fmt: skip

    @pytest.mark.parametrize(
        "options",
        [{}, {"obj_size": 9}, {"obj_grid": 2, "obj_per_cell": 2}, {"obj_per_cell": None},
         {"obj_max_masked_fraction": 0.05}],
    )  # fmt: skip
    def test_the_same_objects(self, seed, options):
        truth = pair(seed)[3]
        rng = np.random.default_rng(seed)
        table = Table({
            "x": truth["x"].value, "y": truth["y"].value, "flux": truth["flux"].value,
            "fluxerr": rng.uniform(10, 30, len(truth)),
            "flags": (rng.random(len(truth)) < 0.2).astype(int),
            "fwhm": np.full(len(truth), 3.6),
        })  # fmt: skip
        mask = rng.random(SHAPE) < 0.02
        small = {"kernel_shape": (3, 3), "kernel_poly_order": 0, "bg_poly_order": 0,
                 "flux_poly_order": 0, "max_iter": 1}  # fmt: skip
        expected, found = both(seed, mask=mask, obj=table, get_kernel=True, **small, **options)
        assert expected[1].n_good == found[1].n_good

    def test_one_more_solution_for_the_noise_of_the_template(self, seed):
        counts = [
            [r[1].n_iter for r in both(seed, errors=errors, max_iter=2, get_kernel=True)]
            for errors in (("err",), ("err", "template_err"))
        ]
        assert counts[0][0] == counts[0][1] and counts[1][0] == counts[1][1]


@pytest.mark.parametrize(
    "options",
    [{"kernel_shape": (6, 7)}, {"max_iter": 0}, {"kernel_poly_order": 0, "flux_poly_order": 1}],
)
def test_the_same_calls_are_refused(options):
    image, template, _, _ = pair(1)
    for solve in (theirs.solve, sfft.solve):
        with pytest.raises(ValueError, match=next(iter(options)).split("_")[0]):
            solve(image, template, **options)
        with pytest.raises(ValueError, match="same shape"):
            solve(image, template[:-1])


def test_messages_of_both_go_to_the_same_place(capsys):
    image, template, _, _ = pair(1)
    for call in (subtraction.run_sfft, run_sfft):
        said = []
        call(image, template, verbose=lambda *words, said=said: said.append(words), **EXACT)
        assert said
        call(image, template, verbose=True, **EXACT)
        assert "SFFT" in capsys.readouterr().out
        call(image, template, **EXACT)
        assert capsys.readouterr().out == ""
