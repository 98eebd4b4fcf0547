"""What injected sources say of a difference: completeness, limits, biases, as plain numbers."""

import itertools
from typing import Any

import numpy as np

from psflib.image.noise import robust_std
from psflib.injection.completeness import fit_completeness
from psflib.injection.places import KINDS

SHARES = 50, 90  # percent, at which limits are told
EDGES = (3.0, 4.0, 5.0, 6.0, 8.0, 11.0, 15.0, 20.0, 30.0)  # of S/N, of the bins


def summarise(table, searched, threshold, zero_point=None) -> None:
    """Put into the table's `meta` what its rows say; numbers that are not known are left out.

    Parameters
    ----------
    table : QTable
        From `inject`, a row a source.
    searched : float
        Share of the pixels in which sources are looked for; completeness is that of sources there.
    threshold : float
        Sigma.
    zero_point : float, optional
        Magnitude of 1 ADU; limits are then told in magnitudes, too.

    Notes
    -----
    `meta` gets n, n_found, n_clean, searched, threshold, seed; `completeness`: by "all" (places
    drawn anywhere), "sky", "galaxy", "star" (what is at the place, however it was drawn) a dict of
    n, plateau (share of the brightest that is found), snr_50, flux_50 (ADU), mag_50, snr_90 ...
    (limits of 50 % and 90 %), each with its standard error (..._err), snr_middle and snr_width of
    the curve plateau Phi(ln(S/N / snr_middle) / snr_width), and the same with `clean_` before the
    name for those found without a flag; `bins` by place, of S/N: snr_low, snr_high,
    n, found, clean, flux_bias (mean of flux over truth, less 1), pull_mean, pull_scatter (of the
    flux over its error, robust), offset_rms (px, an axis).  Faint sources are found where noise
    lifts them: their biases are those of what is found, not of the photometry.
    """
    columns = {
        name: np.asarray(getattr(table[name], "value", table[name]))
        for name in ("true_flux", "true_snr", "found", "clean", "drawn", "place")
    }
    meta: dict[str, Any] = {
        "n": len(table), "n_found": int(columns["found"].sum()),
        "n_clean": int(columns["clean"].sum()), "searched": round(float(searched), 6),
        "threshold": float(threshold),
    }  # fmt: skip
    # those looked for in special places are more than their share of the sky
    select = {"all": columns["drawn"] == "sky"} | {k: columns["place"] == k for k in KINDS}
    meta["completeness"] = {
        place: _limits({name: values[rows] for name, values in columns.items()}, zero_point)
        for place, rows in select.items()
    }
    meta["bins"] = {kind: _bins(table[columns["place"] == kind]) for kind in KINDS}
    table.meta.update(meta)


def _limits(columns, zero_point):
    told: dict[str, Any] = {"n": len(columns["found"])}
    for prefix, found in (("", columns["found"]), ("clean_", columns["clean"])):
        for name, brightness in (("snr", columns["true_snr"]), ("flux", columns["true_flux"])):
            curve = fit_completeness(brightness, found)
            if curve is None:
                continue
            if name == "snr":
                told |= {f"{prefix}plateau": curve.plateau,
                         f"{prefix}plateau_err": curve.plateau_err,
                         f"{prefix}snr_middle": np.exp(curve.middle),
                         f"{prefix}snr_width": curve.width}  # fmt: skip
            for share in SHARES:
                value, error = curve.limit(share / 100)
                told |= {f"{prefix}{name}_{share}": value, f"{prefix}{name}_{share}_err": error}
                if name == "flux" and zero_point is not None:
                    told[f"{prefix}mag_{share}"] = zero_point - 2.5 * np.log10(value)
                    told[f"{prefix}mag_{share}_err"] = 2.5 / np.log(10) * error / value
    return _known(told)


def _bins(table):
    """A dict a bin of S/N that has sources."""
    true = {name: np.asarray(table[f"true_{name}"].value) for name in ("x", "y", "flux")}
    found = np.asarray(table["found"])
    snr = np.asarray(table["true_snr"])
    seen = {
        name: np.asarray(getattr(table[name], "value", table[name]), float)
        for name in ("x", "y", "flux", "flux_err") if name in table.colnames
    }  # fmt: skip
    told: list[dict] = []
    for low, high in itertools.pairwise(EDGES):
        inside = (snr >= low) & (snr < high)
        if not inside.any():
            continue
        rows = inside & found
        one: dict[str, Any] = {
            "snr_low": low,
            "snr_high": high,
            "n": int(inside.sum()),
            "found": int(rows.sum()),
        }
        one["clean"] = int((rows & np.asarray(table["clean"])).sum())
        if rows.sum() > 1:
            excess = seen["flux"][rows] - true["flux"][rows]
            pull = excess / seen["flux_err"][rows]
            apart = [seen[name][rows] - true[name][rows] for name in ("x", "y")]
            one |= {
                "flux_bias": np.mean(excess / true["flux"][rows]),
                "pull_mean": pull.mean(), "pull_scatter": robust_std(pull),
                "offset_rms": np.sqrt(np.mean(np.square(apart))),
            }  # fmt: skip
        told.append(_known(one))
    return told


def _known(numbers):
    """Plain numbers, those that are known."""
    return {
        name: value if isinstance(value, int) else float(f"{float(value):.7g}")
        for name, value in numbers.items()
        if np.isfinite(value)
    }
