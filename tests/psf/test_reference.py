"""The reference functions against their naive twins, and every refusal."""

import inspect

import numpy as np
import pytest

from psflib.loops.render import accumulate_stack, render_stack, sample_slopes
from psflib.psf import (
    build_epsf,
    build_extended_psf,
    robust_combine,
    solve_flux_background,
    stitch_psf,
)
from psflib.stamps.build import build_stamp
from tests.psf import naive_psf as naive


def stars(n=12, size=13, seed=1, gaps=False):
    """Noisy Moffat stars: data, delta, weight."""
    rng = np.random.default_rng(seed)
    delta = rng.uniform(-0.5, 0.5, (n, 2))
    flux = rng.uniform(3e3, 3e4, n)
    data = np.array([f * naive.moffat(size, 2.5, 3, d) for f, d in zip(flux, delta, strict=True)])
    variance = 50 + data
    data = data + rng.normal(size=data.shape) * np.sqrt(variance) + 20
    if gaps:
        data[0, 6, 7] = data[3, :4] = np.nan
        data[5] = np.nan
    return data, delta + rng.normal(0, 0.03, delta.shape), 1 / variance


def core_model(size=25, oversample=3):
    core = naive.moffat(size * oversample, 3.0 * oversample, 3, (0, 0)) * oversample**2
    return core / core.sum() * oversample**2


@pytest.mark.parametrize("oversample", [3, 5])
def test_accumulate_is_the_transpose_of_render(oversample):
    rng = np.random.default_rng(0)
    n, size = 7, 11
    model = rng.normal(size=(oversample * size,) * 2)
    other = rng.normal(size=(n, size, size))
    flux, delta = rng.normal(size=n), rng.uniform(-1, 1, (n, 2))
    image, back = np.empty_like(other), np.empty_like(model)
    render_stack(model, oversample, flux, delta, image)
    accumulate_stack(other, oversample, flux, delta, back)
    left, right = (image * other).sum(), (model * back).sum()
    assert abs(left - right) < 1e-12 * np.abs(image * other).sum()
    twin = [f * naive.sample(model, oversample, d) for f, d in zip(flux, delta, strict=True)]
    np.testing.assert_allclose(image, twin, atol=1e-12 * np.abs(twin).max())


def test_slopes_are_derivatives():
    model = core_model(13)
    rows, a, b = np.empty((13, 39)), np.empty((13, 13)), np.empty((13, 13))
    sample_slopes(model, 3, 0.21, -0.37, rows, a, b)
    twin = naive.slopes(model, 3, (0.21, -0.37))
    np.testing.assert_allclose([a, b], twin, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("oversample", [3, 5])
@pytest.mark.parametrize("kind", ["none", "huber", "tukey"])
@pytest.mark.parametrize("weighted", [False, True])
def test_build_epsf_equals_naive_after_six_rounds(oversample, kind, weighted, dtype):
    data, delta, weight = stars(gaps=True)
    data, weight = data.astype(dtype), weight.astype(dtype)
    if kind != "none":
        data[2, 3, 4] += 5000  # a cosmic ray to be weighted down
    weight = weight if weighted else None
    before = None if weight is None else weight.copy()
    # Blocks of 5 make the seed flat around a pixel centre: no slope, so the positions jump and
    # rounding errors grow tenfold or more a round.  A smooth start keeps the comparison sharp;
    # float32 has it too, for with blocks of 3 a single star can jump as well.
    smooth = oversample == 5 or dtype is np.float32
    start = core_model(13, oversample) if smooth else None
    found = build_epsf(
        data, delta, oversample, weight=weight, max_iter=6, residual_reweight=kind, tol=1e-30,
        psi_init=start,
    )  # fmt: skip
    double = None if weight is None else weight.astype(float)
    psi, flux, background, offset, ok = naive.build_epsf(
        data.astype(float), delta, oversample, double, kind=kind, psi=start
    )
    np.testing.assert_allclose(found.epsf, psi, atol=1e-8 * psi.max())
    np.testing.assert_allclose(found.flux, flux, rtol=1e-8)
    np.testing.assert_allclose(found.background, background, atol=1e-8 * np.nanmax(flux))
    np.testing.assert_allclose(found.delta, offset, atol=1e-8)
    np.testing.assert_array_equal(found.ok, ok)
    assert not found.ok[5] and found.iterations == 6 and not found.converged
    np.testing.assert_allclose(found.epsf.sum(), oversample**2, rtol=1e-12)
    if weighted:
        np.testing.assert_array_equal(weight, before)


@pytest.mark.parametrize("kind", ["none", "huber", "tukey"])
def test_build_epsf_weights_that_are_none(kind):
    """Zero, negative and non-finite weights take a pixel out."""
    data, delta, weight = stars()
    weight[0, 5, 5], weight[1, 6, 6], weight[2, 6, 7], weight[3, 4, 4] = 0, -1, np.inf, np.nan
    weight[4] = 0
    found = build_epsf(data, delta, 3, weight=weight, max_iter=6, residual_reweight=kind, tol=1e-30)
    with np.errstate(divide="ignore", invalid="ignore"):
        psi, flux, _, offset, ok = naive.build_epsf(data, delta, 3, weight, kind=kind)
    np.testing.assert_allclose(found.epsf, psi, atol=1e-8 * psi.max())
    np.testing.assert_allclose(found.flux, flux, rtol=1e-8)
    np.testing.assert_allclose(found.delta, offset, atol=1e-8)
    np.testing.assert_array_equal(found.ok, ok)
    assert not ok[4] and ok.any()


def test_build_epsf_own_seed_at_oversample_5():
    data, delta, weight = stars(gaps=True)
    found = build_epsf(data, delta, 5, weight=weight, max_iter=1)
    psi, flux, *_ = naive.build_epsf(data, delta, 5, weight, max_iter=1)
    np.testing.assert_allclose(found.epsf, psi, atol=1e-8 * psi.max())
    np.testing.assert_allclose(found.flux, flux, rtol=1e-8)


def test_inputs_are_copied_and_may_have_any_layout():
    data, delta, weight = stars()
    plain = build_epsf(data, delta, 3, weight=weight, max_iter=2)
    kept = [a.copy() for a in (data, delta, weight)]
    moved = [np.asfortranarray(a) for a in (data, delta, weight)]
    other = build_epsf(moved[0], moved[1], 3, weight=moved[2], max_iter=2)
    for name in ("epsf", "flux", "background", "delta", "ok"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(other, name))
    for before, now in zip(kept, (data, delta, weight), strict=True):
        np.testing.assert_array_equal(before, now)
    start = core_model(13)
    warm = build_epsf(data, delta, 3, psi_init=start, max_iter=1)
    np.testing.assert_array_equal(start, core_model(13))
    assert not np.shares_memory(warm.delta, delta)


def test_results_have_the_documented_names_and_types():
    data, delta, _ = stars(n=5)
    built = build_epsf(data.astype(np.float32), delta, 3, max_iter=2)
    fixed = solve_flux_background(built.epsf, 3, data.astype(np.float32), delta)
    assert built.epsf.shape == (39, 39) and built.delta.shape == (5, 2)
    for found in (built, fixed):
        assert found.flux.dtype == found.background.dtype == np.float64
        assert found.ok.dtype == bool and found.flux.shape == found.ok.shape == (5,)
    assert type(built.iterations) is int and type(built.converged) is bool
    with pytest.raises(AttributeError):
        built.flux = fixed.flux


DEFAULTS = {
    build_epsf: {
        "weight": None, "psi_init": None, "max_iter": 50, "tol": 1e-4, "step": 1.0,
        "residual_reweight": "none", "reweight_c": 4.0, "nuisance_max_iter": 3,
        "nuisance_tol": 1e-4,
    },
    solve_flux_background: {"weight": None},
    build_stamp: {
        "error": None, "mask": None, "weight_fwhm": 3.0, "max_iter": 10, "tol": 1e-3,
    },
    robust_combine: {
        "weight": None, "method": "clipped_mean", "combine_kappa": 3.0, "combine_max_iter": 5,
    },
    stitch_psf: {
        "wing_confidence": None, "match_radius": 8.0, "feather_width": 4.0,
        "ee_aperture_radius": 15.0,
    },
    build_extended_psf: {
        "wing_weight": None, "match_radius": 8.0, "feather_width": 4.0,
        "ee_aperture_radius": 15.0, "combine": "clipped_mean", "combine_kappa": 3.0,
        "combine_max_iter": 5, "scale_aperture_radius": 6.0,
        "scale_background_annulus": (18.0, 24.0),
    },
}  # fmt: skip
POSITIONAL = {
    build_epsf: ["data", "delta_init", "oversample"],
    solve_flux_background: ["epsf", "oversample", "data", "delta"],
    build_stamp: ["cutout", "stamp_size"],
    robust_combine: ["stack"],
    stitch_psf: ["core", "oversample", "wing"],
    build_extended_psf: ["wing_data", "wing_delta", "core", "oversample"],
}


@pytest.mark.parametrize("function", list(DEFAULTS), ids=lambda f: f.__name__)
def test_arguments_and_defaults(function):
    parameters = inspect.signature(function).parameters
    positional = [p.name for p in parameters.values() if p.kind == p.POSITIONAL_OR_KEYWORD]
    assert positional == POSITIONAL[function]
    options = {p.name: p.default for p in parameters.values() if p.kind == p.KEYWORD_ONLY}
    assert DEFAULTS[function].items() <= options.items()


def test_build_epsf_repeats_bit_by_bit_and_ignores_dead_stars():
    data, delta, weight = stars(gaps=True)
    first, again = (build_epsf(data, delta, 3, weight=weight, max_iter=4) for _ in range(2))
    np.testing.assert_array_equal(first.epsf, again.epsf)
    alive = np.arange(len(data)) != 5
    without = build_epsf(data[alive], delta[alive], 3, weight=weight[alive], max_iter=4)
    np.testing.assert_allclose(first.epsf, without.epsf, atol=1e-13)


def test_build_epsf_edge_cases():
    data, delta, _ = stars(n=4)
    single = build_epsf(data.astype(np.float32), delta, 3, max_iter=2)
    double = build_epsf(data.astype(np.float32).astype(float), delta, 3, max_iter=2)
    np.testing.assert_array_equal(single.epsf, double.epsf)
    empty = build_epsf(np.empty((0, 5, 5)), np.empty((0, 2)), 3)
    assert empty.converged and empty.iterations == 0
    np.testing.assert_allclose(empty.epsf, 1 / 25, rtol=1e-12)
    dead = build_epsf(np.full((2, 5, 5), np.nan), np.zeros((2, 2)), 3)
    assert dead.converged and dead.iterations == 1 and not dead.ok.any()
    assert not build_epsf(data, delta, 3, max_iter=1, tol=10.0).converged
    delta[1] = np.nan
    lost = build_epsf(data, delta, 3, max_iter=2)
    assert not lost.ok[1] and np.isnan(lost.delta[1]).all() and np.isfinite(lost.epsf).all()
    start = np.random.default_rng(0).uniform(size=(39, 39))
    warm = build_epsf(data[2:], delta[2:], 3, psi_init=start, max_iter=1, step=1e-12)
    np.testing.assert_allclose(warm.epsf, start / start.sum() * 9, rtol=1e-8)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"oversample": 4}, "oversample must be odd; got 4"),
        ({"data": np.zeros((4, 12, 12))}, "odd"),
        ({"data": np.zeros((4, 13, 13), int)}, "data must be a 3-D numpy array"),
        ({"data": np.zeros((4, 13, 13), ">f8")}, "float32 or float64"),
        ({"data": np.zeros((13, 13))}, "3-D"),
        ({"data": [[[1.0]]]}, "numpy array"),
        ({"delta_init": np.zeros((3, 2))}, "batch dimensions disagree"),
        ({"delta_init": np.zeros((4, 2), np.float32)}, "delta_init must be"),
        ({"weight": np.zeros((4, 13, 12))}, "weight shape"),
        ({"weight": np.zeros((4, 13, 13), np.float32)}, "dtype float64"),
        ({"psi_init": np.zeros((38, 38))}, "psi_init shape"),
        ({"max_iter": 0}, "max_iter"),
        ({"tol": 0.0}, "tol"),
        ({"tol": np.nan}, "tol"),
        ({"step": -1.0}, "step"),
        ({"nuisance_max_iter": 0}, "nuisance_max_iter"),
        ({"nuisance_tol": np.inf}, "nuisance_tol"),
        ({"residual_reweight": "cauchy"}, "invalid residual_reweight"),
        ({"residual_reweight": "huber", "reweight_c": 0.0}, "reweight_c"),
    ],
)
def test_build_epsf_refuses(change, words):
    call = {"data": np.ones((4, 13, 13)), "delta_init": np.zeros((4, 2)), "oversample": 3}
    with pytest.raises(ValueError, match=words):
        build_epsf(**{**call, **change})


def test_numbers_of_the_wrong_kind():
    data, delta = np.ones((2, 5, 5)), np.zeros((2, 2))
    with pytest.raises(TypeError):
        build_epsf(data, delta, 3.0)
    for counts in ({"max_iter": -1}, {"nuisance_max_iter": -1}):
        with pytest.raises(OverflowError, match="can't convert negative int to unsigned"):
            build_epsf(data, delta, 3, **counts)
    for counts in ({"max_iter": 5.0}, {"nuisance_max_iter": 3.0}):
        with pytest.raises(TypeError):
            build_epsf(data, delta, 3, **counts)
    with pytest.raises(OverflowError):
        build_epsf(data, delta, -3)
    with pytest.raises(OverflowError):
        solve_flux_background(np.ones((15, 15)), -3, data, delta)
    with pytest.raises(TypeError):
        solve_flux_background(np.ones((15, 15)), 3, data, delta, data)
    with pytest.raises(OverflowError):
        robust_combine(data, combine_max_iter=-1)
    with pytest.raises(TypeError):
        build_epsf(data, delta, 3, data)
    with pytest.raises(TypeError):
        build_extended_psf(
            np.ones((1, 31, 31)), delta[:1], core_model(), 3, scale_background_annulus=[9.0, 12.0]
        )


def test_solve_flux_background():
    data, delta, weight = stars(gaps=True)
    model = core_model(13)
    delta[7] = np.nan
    weight[8] = 0
    for w in (weight, None):
        found = solve_flux_background(model, 3, data, delta, weight=w)
        for n in range(len(data)):
            base = np.ones((13, 13)) if w is None else w[n]
            profile = naive.sample(model, 3, delta[n]) if n != 7 else None
            twin = None if n == 7 else naive.flux_background(data[n], base, profile)
            assert found.ok[n] == (twin is not None)
            if twin is None:
                assert np.isnan([found.flux[n], found.background[n]]).all()
            else:
                np.testing.assert_allclose([found.flux[n], found.background[n]], twin, rtol=1e-9)
    assert len(solve_flux_background(model, 3, data[:0], delta[:0]).flux) == 0


@pytest.mark.parametrize(
    "change, words",
    [
        ({"epsf": np.ones((39, 36))}, "epsf must be square"),
        ({"oversample": 2}, "oversample must be odd; got 2"),
        ({"oversample": 5}, r"epsf side \(39\) must be an integer multiple of oversample \(5\)"),
        ({"epsf": np.ones((36, 36))}, "derived stamp_size .* must be odd; got 12"),
        ({"epsf": np.ones((39, 39), np.float32)}, "epsf must be a 2-D"),
        ({"data": np.ones((4, 11, 11))}, "batch dimensions disagree"),
        ({"delta": np.zeros((4, 3))}, "batch dimensions disagree"),
        ({"weight": np.ones((3, 13, 13))}, "weight shape .* must equal data shape"),
    ],
)
def test_solve_flux_background_refuses(change, words):
    call = {"epsf": np.ones((39, 39)), "oversample": 3}
    call |= {"data": np.ones((4, 13, 13)), "delta": np.zeros((4, 2))}
    with pytest.raises(ValueError, match=words):
        solve_flux_background(**{**call, **change})


@pytest.mark.parametrize("n", [1, 2, 7, 30])
@pytest.mark.parametrize("method", ["clipped_mean", "median"])
@pytest.mark.parametrize("weighted", [False, True])
def test_robust_combine_equals_naive(n, method, weighted):
    rng = np.random.default_rng(n)
    stack = rng.normal(10, 1, (n, 5, 6))
    stack[rng.random(stack.shape) < 0.1] += 30
    stack[rng.random(stack.shape) < 0.1] = np.nan
    stack[:, 0, 0] = np.nan
    weight = rng.uniform(0.5, 2, stack.shape)
    weight[rng.random(stack.shape) < 0.1] = 0
    weight[:, 1, 1] = -1
    weight[:, 2, 2] = np.nan
    weight = weight if weighted else None
    for kappa in (3.0, 1.2, 1e-3, 1e6):
        found = robust_combine(stack, weight=weight, method=method, combine_kappa=kappa)
        value, total, count = naive.robust_combine(stack, weight, method=method, kappa=kappa)
        np.testing.assert_array_equal(found.count, count)
        # Sums of up to 30 terms differ by their order only.
        np.testing.assert_allclose(found.combined, value, rtol=1e-14)
        np.testing.assert_allclose(found.weight, total, rtol=1e-14)
        assert found.count.dtype == np.uint32 and np.isnan(found.combined[0, 0])


@pytest.mark.parametrize(
    "change, words",
    [
        ({"weight": np.ones((2, 3, 3))}, "weight shape"),
        ({"weight": np.ones((3, 3, 3), np.float32)}, "dtype float64"),
        ({"method": "mean"}, 'invalid combine "mean"; expected one of "clipped_mean", "median"'),
        ({"combine_kappa": 0.0}, "ClippedMean requires kappa > 0"),
        ({"combine_max_iter": 0}, "ClippedMean requires"),
        ({"stack": np.ones((3, 3, 3), np.float16)}, "float32 or float64"),
    ],
)
def test_robust_combine_refuses(change, words):
    with pytest.raises(ValueError, match=words):
        robust_combine(**{"stack": np.ones((3, 3, 3)), **change})


def test_median_does_not_check_the_clipping():
    found = robust_combine(np.ones((3, 2, 2)), method="median", combine_kappa=0.0)
    np.testing.assert_array_equal(found.combined, 1)
    assert robust_combine(np.ones((0, 2, 2))).count.sum() == 0


def test_stitch_equals_naive():
    rng = np.random.default_rng(3)
    wing = naive.moffat(41, 3.0, 2.5, (0, 0)) * rng.uniform(0.9, 1.1, (41, 41)) * 7
    wing[20, 28] = wing[2, 3] = np.nan
    confidence = rng.uniform(0.5, 1, wing.shape)
    found = stitch_psf(core_model(), 3, wing, wing_confidence=confidence)
    core, new = naive.stitch(core_model(), 3, wing, confidence)
    np.testing.assert_allclose(found.core, core, atol=1e-12 * core.max())
    np.testing.assert_allclose(found.wing, new, atol=1e-12 * core.max())
    hollow = stitch_psf(core_model(), 3, np.full((41, 41), np.nan))
    assert not hollow.wing.any() and np.isfinite(hollow.core).all()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"wing": np.ones((40, 40))}, "odd"),
        ({"wing": np.ones((41, 43))}, "wing must be square"),
        ({"wing_confidence": np.ones((39, 39))}, "wing_confidence shape"),
        ({"match_radius": 1.0}, "stitch params must be"),
        ({"match_radius": 11.0}, "stitch params must be"),
        ({"feather_width": 0.0}, "stitch params must be"),
        ({"ee_aperture_radius": 21.0}, "stitch params must be"),
        ({"oversample": 4}, "oversample must be odd"),
    ],
)
def test_stitch_refuses(change, words):
    with pytest.raises(ValueError, match=words):
        stitch_psf(**{"core": core_model(), "oversample": 3, "wing": np.ones((41, 41)), **change})


def bright_stars(size=51):
    rng = np.random.default_rng(5)
    delta = rng.uniform(-0.8, 0.8, (6, 2))
    flux = 10 ** rng.uniform(5, 6, 6)
    data = np.array([f * naive.moffat(size, 3, 3, d) for f, d in zip(flux, delta, strict=True)])
    data += rng.normal(0, 5, data.shape) + 100
    weight = np.full(data.shape, 0.04)
    weight[0, 10:14, 20:24] = 0
    weight[1, 13:38, 13:38] = 0  # saturated everywhere in the core: nothing to scale it by
    weight[2, 13:38, 13:38] = 0
    weight[2, 25, 28] = 1e-2  # two pixels: too few for the core, enough for the aperture
    weight[2, 25, 29] = 1e-2
    data[3, 5, 5] = np.nan
    return data, delta, weight


def test_build_extended_psf_equals_naive():
    data, delta, weight = bright_stars()
    built = build_extended_psf(data, delta, core_model(), 3, wing_weight=weight)
    twin = naive.extended(data, delta, core_model(), 3, weight)
    core, wing, flux, sky, from_core = twin
    np.testing.assert_array_equal(built.star_ok, [True, False, True, True, True, True])
    np.testing.assert_array_equal(built.star_scale_from_core, from_core)
    np.testing.assert_allclose(built.star_flux, flux, rtol=1e-12)
    np.testing.assert_allclose(built.star_background, sky, rtol=1e-12)
    np.testing.assert_allclose(built.extended.core, core, atol=1e-12 * core.max())
    np.testing.assert_allclose(built.extended.wing, wing, atol=1e-12 * core.max())


def test_no_bright_star_gives_the_core():
    built = build_extended_psf(np.ones((0, 51, 51)), np.ones((0, 2)), core_model(), 3)
    assert not built.extended.wing.any() and built.star_ok.size == 0


@pytest.mark.parametrize(
    "change, words",
    [
        ({"wing_data": np.ones((2, 50, 50))}, "odd"),
        ({"wing_data": np.ones((2, 51, 53))}, "square"),
        ({"wing_delta": np.ones((3, 2))}, "batch dimensions disagree"),
        ({"wing_weight": np.ones((2, 51, 49))}, "wing_weight shape"),
        ({"combine": "sum"}, "invalid combine"),
        ({"combine_kappa": -1.0}, "ClippedMean requires"),
        ({"combine_max_iter": 0}, "ClippedMean requires"),
        ({"scale_aperture_radius": 0.0}, "params invalid"),
        ({"scale_aperture_radius": 26.0}, "params invalid"),
        ({"scale_background_annulus": (24.0, 18.0)}, "params invalid"),
        ({"scale_background_annulus": (18.0, 26.0)}, "params invalid"),
        ({"match_radius": 12.0}, "stitch params"),
    ],
)
def test_build_extended_psf_refuses(change, words):
    call = {"wing_data": np.ones((2, 51, 51)), "wing_delta": np.zeros((2, 2))}
    call |= {"core": core_model(), "oversample": 3}
    with pytest.raises(ValueError, match=words):
        build_extended_psf(**{**call, **change})
