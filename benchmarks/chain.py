"""From two FITS files to candidates: psflib beside the C programs that people chain by hand.

python benchmarks/chain.py                               1024 and 2048 px
python benchmarks/chain.py --write docs/benchmarks.md    the same, into that file

The chain is SExtractor and PSFEx on both images, SWarp for the template, HOTPANTS, and SExtractor
on the difference.  SExtractor, PSFEx and SWarp are looked for on the path, HOTPANTS at $HOTPANTS.
"""

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# CPU seconds of idle threads would be counted, so set before NumPy is loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
from astropy.io import fits  # noqa: E402
from astropy.table import Table  # noqa: E402
from measure import cpu, run_sections  # noqa: E402

from psflib import stages  # noqa: E402
from psflib.config import load_settings  # noqa: E402
from psflib.image.exposure import MaskBit, has_bits  # noqa: E402
from psflib.products import read_candidates, read_exposure  # noqa: E402

ROOT = Path(__file__).parents[1]
SIZES = (1024, 2048)
SEED = 71
NEAR = 3.0  # px between a candidate and what it is taken for
CLEAR = 15.0  # px from masked pixels and from borders within which nothing is judged
PARAMETERS = """X_IMAGE Y_IMAGE FLUX_AUTO FLUX_RADIUS FLUX_APER(1) FLUXERR_APER(1) ELONGATION FLAGS
SNR_WIN VIGNET(35,35)"""


def sky(folder, size):
    """Two images of a sparse field on shifted grids, as a camera writes them, and the truth."""
    images = {"template": folder / "template.fits", "epoch_1": folder / "1.fits"}
    others = {"epoch_2": folder / "2.fits", "truth": folder / "truth.ecsv"}
    settings = {"size": size, "star_density": 350, "seed": SEED}
    stages.run("simulate", folder / "log", settings, **images, **others)
    (folder / "fields.csv").write_text("field,epoch,image\nf,template,template.fits\nf,1,1.fits\n")


def psflib_chain(folder, out, wings):
    """All stages in this process."""
    settings = load_settings()
    for epoch in ("template", "1"):
        own = out / "f" / epoch
        files = ("exposure.fits", "stars.ecsv", "stamps.fits", "epsf.fits", "extended_psf.fits")
        paths = {file.split(".")[0]: own / file for file in files}
        row = {"fields": folder / "fields.csv", "field": "f", "epoch": epoch}
        names = (*stages.CHAINS["image"], *["extended_psf"] * wings)
        _run(names, settings, out, **paths, **row)
    other = out / "f/template"
    _run(
        stages.CHAINS["epoch"], settings, out, science=own / "exposure.fits",
        template=other / "exposure.fits", psf=own / "epsf.fits", template_psf=other / "epsf.fits",
        aligned=own / "template.fits", kernel=own / "kernel.fits",
        difference=own / "difference.fits",
        decorrelated=own / "decorrelated.fits", candidates=own / "candidates.ecsv",
    )  # fmt: skip


def _run(names, settings, out, **paths):
    logs = dict.fromkeys(names, out / "log")
    stages.run_all(names, logs, {name: settings.section(name) for name in names}, {}, **paths)


def by_snakemake(folder, out):
    """The same by the workflow, wings and report included."""
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "--cores", "1",
         "--profile", ROOT / "workflow/profiles/default",
         "--config", f"fields={folder / 'fields.csv'}", f"output={out}"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)


def programs():
    """The C programs, or None if one is not there."""
    hotpants = os.environ.get("HOTPANTS") or shutil.which("hotpants")
    found = [shutil.which(name) for name in ("source-extractor", "psfex", "SWarp")]
    return [*found, hotpants] if all(found) and hotpants else None


def c_chain(folder, work):
    """The five programs; candidates are left in `work`/found.fits."""
    sex, psfex, swarp, hotpants = programs()
    home = Path("/usr/share/source-extractor")
    (work / "sex.param").write_text("\n".join(PARAMETERS.split()))
    quiet = ["-VERBOSE_TYPE", "QUIET", "-NTHREADS", "1"]
    extract = [
        sex, "-c", home / "default.sex", "-PARAMETERS_NAME", "sex.param", "-STARNNW_NAME",
        home / "default.nnw", "-CATALOG_TYPE", "FITS_LDAC", "-PHOT_APERTURES", "10",
        "-SATUR_KEY", "SATURATE", "-GAIN_KEY", "GAIN", *quiet,
    ]  # fmt: skip
    widths = {}
    for epoch in ("1", "template"):
        filtered = ["-FILTER_NAME", home / "gauss_3.0_5x5.conv", "-DETECT_THRESH", "3"]
        _call(work, *extract, *filtered, folder / f"{epoch}.fits", "-CATALOG_NAME", f"{epoch}.cat")
        options = [*"-PSFVAR_DEGREES 2 -PSF_SIZE 25,25 -CHECKPLOT_TYPE NONE".split(), *quiet]
        options += "-CHECKIMAGE_TYPE NONE -WRITE_XML N".split()
        _call(work, psfex, f"{epoch}.cat", *options)
        widths[epoch] = fits.getheader(work / f"{epoch}.psf", 1)["PSF_FWHM"] / 2.355
    science = fits.getheader(folder / "1.fits")
    (work / "warped.head").write_text(science.tostring(sep="\n"))
    _call(work, swarp, folder / "template.fits", "-c", "/dev/null", "-IMAGEOUT_NAME", "warped.fits",
          "-WEIGHTOUT_NAME", "weight.fits", "-SUBTRACT_BACK", "N", "-WRITE_XML", "N",
          "-FSCALASTRO_TYPE", "NONE", "-FSCALE_KEYWORD", "NONE", *quiet)  # fmt: skip
    target = np.sqrt(max(widths["1"] ** 2 - widths["template"] ** 2, 0.5))
    high = str(0.9 * science["SATURATE"])
    _call(
        work, hotpants, "-inim", folder / "1.fits", "-tmplim", "warped.fits", "-outim", "d.fits",
        "-tu", high, "-iu", high, "-tl", "-500", "-il", "-500", "-tg", str(science["GAIN"]),
        "-ig", str(science["GAIN"]), "-r", "10", "-rss", "15", "-n", "i", "-ko", "2", "-bgo", "1",
        "-ng", "3", "6", f"{0.5 * target:.2f}", "4", f"{target:.2f}", "2", f"{2 * target:.2f}",
        "-oni", "noise.fits", "-v", "0",
    )  # fmt: skip
    noise = "-WEIGHT_TYPE MAP_RMS -WEIGHT_IMAGE noise.fits -WEIGHT_GAIN N -BACK_TYPE MANUAL".split()
    limits = "-DETECT_THRESH 2 -DETECT_MINAREA 5 -CATALOG_NAME found.fits".split()
    _call(work, *extract, "d.fits", "-FILTER_NAME", home / "gauss_4.0_7x7.conv", *noise, *limits)


def _call(work, *command):
    done = subprocess.run(list(map(str, command)), cwd=work, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]}: {done.stdout[-500:]}{done.stderr[-500:]}")


def judge(folder, exposure, x, y):
    """Risen sources of S/N above 10 found, of how many, and other rising detections per Mpx.

    What changes less, or fades, is nobody's error; masked pixels and borders are not judged.
    """
    truth = Table.read(folder / "truth.ecsv")
    truth = truth[[str(epoch) == "1" for epoch in truth["epoch"]]]
    bad = has_bits(exposure.mask, MaskBit.SAT | MaskBit.NO_DATA | MaskBit.BAD)
    clear = _clear(bad)
    truth = truth[np.asarray(truth["delta_flux"] != 0)]
    at = np.column_stack([truth["x"], truth["y"]]).astype(float)
    rising = np.asarray((truth["snr"] > 10) & (truth["delta_flux"] > 0)) & _inside(clear, at)
    found = np.column_stack([x, y])[_inside(clear, np.column_stack([x, y]))]
    near = [len(found) and np.hypot(*(found - place).T).min() < NEAR for place in at[rising]]
    other = [np.hypot(*(at - place).T).min() > NEAR for place in found] if len(at) else []
    return f"{sum(near)} of {len(near)}, {sum(other) / clear.sum() * 1e6:.0f}"


def _clear(bad):
    reach = int(CLEAR)
    clear = np.zeros_like(bad)
    clear[reach:-reach, reach:-reach] = True
    rows, cols = np.nonzero(bad)
    for dy, dx in itertools.product(range(-reach, reach + 1, 3), repeat=2):
        clear[np.clip(rows + dy, 0, len(bad) - 1), np.clip(cols + dx, 0, bad.shape[1] - 1)] = False
    return clear


def _inside(clear, places):
    rows, cols = places[:, 1].round().astype(int), places[:, 0].round().astype(int)
    inside = (rows >= 0) & (cols >= 0) & (rows < clear.shape[0]) & (cols < clear.shape[1])
    inside[inside] = clear[rows[inside], cols[inside]]
    return inside


def chain():
    """Seconds, ratios and what was found."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder, "small")
        small.mkdir()
        sky(small, 512)
        psflib_chain(small, small / "out", wings=True)  # warm-up
        by_snakemake(small, small / "run")
        for size in SIZES:
            rows += _one(Path(folder, str(size)), size)
    head = ["px", "chain", "CPU s", "of the C chain's", "risen, S/N above 10; others per Mpx"]
    return "From two files to candidates", head, rows


def _one(folder, size):
    folder.mkdir()
    sky(folder, size)
    seconds, said = {}, {}
    for name, wings in (("psflib, one process", False), ("the same with wings", True)):
        _, seconds[name] = cpu(psflib_chain, folder, folder / name, wings)
        own = folder / name / "f/1"
        table = read_candidates(own / "candidates.ecsv")
        table = table[(table["snr"] > 0) & table["clean"]]
        exposure = read_exposure(own / "exposure.fits")
        said[name] = judge(folder, exposure, table["x"].value, table["y"].value)
    _, seconds["by Snakemake, wings, report"] = cpu(by_snakemake, folder, folder / "run")
    peer = np.nan
    if programs():
        work = folder / "c"
        work.mkdir()
        _, peer = cpu(c_chain, folder, work)
        table = Table.read(work / "found.fits", hdu="LDAC_OBJECTS")
        table = table[table["FLAGS"] == 0]
        seconds["C programs"] = peer
        said["C programs"] = judge(folder, exposure, table["X_IMAGE"] - 1, table["Y_IMAGE"] - 1)
    return [
        [size, name, f"{value:.1f}", f"{value / peer:.2f}", said.get(name, "")]
        for name, value in seconds.items()
    ]


if __name__ == "__main__":
    run_sections(__doc__, {"two files": chain}, "chain")
