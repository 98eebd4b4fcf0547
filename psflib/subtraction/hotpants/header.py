"""The cards that HOTPANTS writes, under its keywords and in its formats.

Numbers of a region are text with four digits, as there; the table of kernels has them in full.
"""

import getpass
import platform
from datetime import UTC, datetime

import numpy as np

from psflib.matching.cells.clipping import clipped_mean
from psflib.subtraction.hotpants.masks import INPUT_IS_BAD, IS_BAD
from psflib.version import __version__

UNKNOWN = 1e10  # HOTPANTS's scatter of less than two values
ROUNDS = 5, 10  # of clipping: pixels, substamps
TINY = 1e-10  # HOTPANTS takes values up to this as filled ones


def describe(header, number, fit, row, made, core, options) -> None:
    """Add the cards of a region.

    Parameters
    ----------
    made : difference, convolved, scaled, noise and mask of the region with its margin, and the
        factor to the noise of OK pixels
    core : (slice, slice), the region in them
    """
    if number > 99:  # a keyword has eight letters; the table has every region
        return
    image, noise, mask = (made[i][core] for i in (0, 3, 4))
    good, fair = mask == 0, is_fair(mask)
    mean, scatter = _clipped(image[good], options.ssig)
    mean_fair, scatter_fair = _clipped(image[fair], options.ssig)
    squares = np.square(image[good] / noise[good], dtype=float)
    name = {"template": "TEMPLATE", "science": "IMAGE"}[fit.kernel.convolved]
    corners = row["x_min"] + 1, row["x_max"] + 1, row["y_min"] + 1, row["y_max"] + 1
    found = [
        ("REGION", "[{}:{},{}:{}]".format(*corners), ""),
        ("CONVOL", name, ""),
        ("KSUM", row["ksum"], "Kernel sum"),
        ("SSSIG", fit.merit, "Mean figure of merit of the substamps"),
        ("SSSCAT", fit.scatter, "Its scatter"),
    ]
    if options.fom == "v":
        merit, spread = _final_merit(fit, made, options)
        found += [("FSIG", merit, "Final SSSIG"), ("FSCAT", spread, "Final SSSCAT")]
    x2 = float(squares.mean()) if len(squares) > 1 else UNKNOWN
    found += [
        ("X2NRM", x2, "Mean of (difference / noise)^2"),
        ("NX2NRM", str(len(squares)), "Number of pixels in X2NRM"),
        ("DMEAN", mean, "Mean of the difference; good pixels"),
        ("DSIGE", scatter, "Scatter of the difference; good pixels"),
        ("DSIG", _clipped(noise[good], options.ssig)[0], "Mean of the noise; good pixels"),
        ("DMEANO", mean_fair, "Mean of the difference; OK pixels"),
        ("DSIGEO", scatter_fair, "Scatter of the difference; OK pixels"),
        ("DSIGO", _clipped(noise[fair] / made[5], options.ssig)[0], "Mean of the noise; OK pixels"),
    ]
    if options.okn:
        found += [("NSCALO", made[5], "Factor to the noise of OK pixels")]
    for key, value, comment in found:
        text = value if isinstance(value, str) else f"{value:.4f}"
        header[f"{key}{number:02d}"] = (text, comment)
    header[f"SSNUM{number:02d}"] = (fit.n_stamps, "Substamps used")
    header[f"SSREJ{number:02d}"] = (fit.n_rejected, "Substamps rejected")


def complete(planes, options, names) -> None:
    """Add the cards of the whole image.

    names : of image, template and difference
    """
    header = planes.header
    for key, value, comment in (
        ("SOFTNAME", "psflib", "The software that differenced this image"),
        ("SOFTVERS", __version__, "Version"),
        ("AUTHOR", _user(), "Who ran the software"),
        ("ORIGIN", platform.node(), "Where it was done"),
        ("DATE", f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}", "When it ended (UTC)"),
        ("BZERO", 0.0, ""), ("BSCALE", 1.0, ""),
        ("TARGET", names[0], ""), ("TEMPLATE", names[1], ""), ("DIFFIM", names[2], ""),
        ("PHOTNORM", options.n, "Direction of photometric normalization"),
        ("NREGION", len(planes.kernels), "Number of independent regions"),
        ("MASKVAL", options.fi, "Value of masked pixels"),
        ("KERINFO", True, "The kernel's table is there"),
        ("DIFFCMD", _command(options, names), ""),
    ):  # fmt: skip
        header[key] = (value, comment)


def is_fair(mask) -> np.ndarray:
    """HOTPANTS's OK pixels: the kernel saw bad ones, but not many."""
    return (mask != 0) & ((mask & IS_BAD) == 0)


def noise_factor(image, noise, mask, sigma) -> float:
    """Scatter over noise of OK pixels, over that of good ones; at least 1, also if there are none.

    HOTPANTS's option okn.
    """
    shares = []
    for select in (mask == 0, is_fair(mask)):
        if select.sum() < 2:
            return 1.0
        scatter = _clipped(image[select], sigma)[1]
        shares.append(scatter / _clipped(noise[select], sigma)[0])
    return max(1.0, float(shares[1] / shares[0]))


def _clipped(values, sigma):
    values = values[np.abs(values) > TINY]
    if len(values) < 2:
        return 0.0, UNKNOWN
    return clipped_mean(values, sigma, ROUNDS[0])


def _final_merit(fit, made, options):
    """Clipped mean and scatter over the substamps of the mean of (difference / noise)²."""
    image, noise, mask = made[0], made[3], made[4]
    merits = []
    for one in fit.cells.active(1):
        x, y = round(one.x), round(one.y)
        box = np.s_[
            max(y - options.rss, 0) : y + options.rss + 1,
            max(x - options.rss, 0) : x + options.rss + 1,
        ]
        used = (mask[box] & INPUT_IS_BAD == 0) & (noise[box] > 0)
        if used.any():
            merits.append(np.square(image[box][used] / noise[box][used]).mean())
    return clipped_mean(merits, options.ssig, ROUNDS[1])


def _command(options, names):
    """What HOTPANTS would have been told."""
    words = ["run_hotpants"]
    for key, value in zip(("inim", "tmplim", "outim"), names, strict=True):
        words.append(f"-{key} {value}")
    for key in options.model_fields_set - {"afssc"}:
        value = getattr(options, key)
        if value is None or value is False:
            continue
        if isinstance(value, np.ndarray):
            value = f"<{len(value)} rows>"
        elif isinstance(value, tuple):
            value = " ".join(f"{v:g}" for v in value)
        words.append(f"-{key}" if value is True else f"-{key} {value}")
    return " ".join([*words[:4], *sorted(words[4:])])


def _user():
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
