"""The whole workflow on small fields: good ones, broken ones, and a run that was killed."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from psflib import products
from psflib.files.writing import write_image
from psflib.preparation.prepare import prepare
from psflib.simulation.simulate import SimulateSettings, simulate_field
from psflib.stars.select import select_stars

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.workflow, pytest.mark.slow]

#: 256 px squared, dense enough for a PSF
SMALL = SimulateSettings(size=256, star_density=2500, brightest_star=2e5, nan_blocks=0)
HEAD = "field,epoch,image,catalog\n"
GOOD = (
    "good,template,images/template.fits\n"
    "good,1,images/1.fits,images/sky.csv\ngood,2,images/2.fits\n"
)
MISSING = "lost,template,images/nowhere.fits\nlost,1,images/elsewhere.fits\n"
TRUNCATED = "cut,template,images/cut.fits\ncut,1,images/cut.fits\n"
OF_EPOCH = {
    "exposure.fits", "stars.ecsv", "stamps.fits", "epsf.fits", "extended_psf.fits",
    "template.fits", "kernel.fits", "difference.fits", "decorrelated.fits", "candidates.ecsv",
    "injection.ecsv",
}  # fmt: skip
RUN = ("--configfile", "my.yaml", "--cores", 2)


def write_small_field(folder):
    field = simulate_field(SMALL)
    write_image(folder / "template.fits", field.template)
    for epoch, exposure in field.science.items():
        write_image(folder / f"{epoch}.fits", exposure)
    star = chosen_star(field.science["1"])
    row = [star["x"].value], [star["y"].value], [True]
    Table(row, names=("x", "y", "galaxy")).write(folder / "sky.csv")
    whole = (folder / "template.fits").read_bytes()
    (folder / "cut.fits").write_bytes(whole[: len(whole) // 2])


def chosen_star(exposure):
    stars = select_stars(prepare(exposure))
    return stars[np.flatnonzero(stars["selected"])[0]]


def hashes(folder):
    """SHA-256 of all products of the good field."""
    files = sorted((folder / "out/good").rglob("*.*"))
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture(scope="module")
def first_run(tmp_path_factory, snakemake):
    """One good field, one with a missing image, one with a truncated one, in one run."""
    folder = tmp_path_factory.mktemp("workflow")
    write_small_field(folder / "images")
    (folder / "mine.csv").write_text(HEAD + GOOD + MISSING + TRUNCATED)
    (folder / "my.yaml").write_text("fields: mine.csv\noutput: out\ndetect: {threshold: 6}\n")
    return folder, snakemake(folder, *RUN)


def test_broken_fields_do_not_stop_the_good_one(first_run):
    folder, done = first_run
    assert done.returncode != 0
    for epoch in "12":
        assert OF_EPOCH == {path.name for path in (folder / "out/good" / epoch).iterdir()}
    assert not list((folder / "out/lost").rglob("*.*"))


@pytest.mark.parametrize(
    ("file", "row", "problem", "log"),
    [
        ("images/nowhere.fits", "mine.csv, line 5", "no such file", "lost/template"),
        ("images/cut.fits", "mine.csv, line 7", "truncated", "cut/template"),
    ],
)
def test_messages_name_file_row_and_problem(first_run, file, row, problem, log):
    folder, done = first_run
    logged = (folder / f"out/logs/{log}/prepare.log").read_text()
    for text in (done.stderr + done.stdout, logged):
        line = next(line for line in text.splitlines() if file in line and row in line)
        assert problem in line
    console = (done.stderr + done.stdout).split("RuleException")[0]
    assert "Traceback" not in console


def test_the_report_tells_of_good_and_bad(first_run):
    folder, _ = first_run
    pages = {p.parent.name: p.read_text() for p in (folder / "out/pages/good").rglob("index.html")}
    index = (folder / "out/report.html").read_text()
    assert pages["1"].count("data:image/webp;base64,") > 10
    for page in (index, *pages.values()):
        assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert "images/nowhere.fits" in index
    assert 'class="warning"' in (folder / "out/pages/lost/template/index.html").read_text()
    linked = set(re.findall(r'(?:src|href)="([^"]+)"', index))
    assert linked and not [link for link in linked if not (folder / "out" / link).is_file()]
    summary = products.read_summary(folder / "out/summary.ecsv")
    rows = {(row["field"], row["epoch"]): row for row in summary}
    assert summary.colnames[:2] == ["verdict", "reasons"]
    assert rows["good", "1"]["verdict"] in ("good", "suspicious"), rows["good", "1"]["reasons"]
    assert rows["lost", "1"]["verdict"] == rows["cut", "template"]["verdict"] == "bad"
    assert "elsewhere.fits" in rows["lost", "1"]["reasons"]
    assert rows["good", "1"]["missing"] == "none"
    assert rows["good", "1"]["n_psf_stars"] > 5 and 2 < rows["good", "1"]["psf_fwhm"].value < 5
    # the simulated flux scale, within what a few dozen stars of S/N 30 or more can tell
    assert rows["good", "1"]["kernel_sum"] == pytest.approx(1.25, rel=0.03)
    assert rows["good", "1"]["registration"] == "wcs"
    assert rows["good", "1"]["registration_after"].value < 0.6  # px: left to the kernel
    assert rows["good", "1"]["peak_memory"].value > 50 and rows["good", "1"]["seconds"].value > 0
    assert rows["lost", "1"]["missing"] == "exposure.fits"
    assert "images/elsewhere.fits: no such file" in rows["lost", "1"]["problem"]
    assert np.isnan(rows["lost", "1"]["psf_fwhm"].value) and rows["lost", "1"]["candidates"] == -1


def test_the_verdict_goes_to_the_log_and_the_candidates(first_run):
    folder, _ = first_run
    for epoch in "12":
        said = products.read_candidates(folder / f"out/good/{epoch}/candidates.ecsv").meta
        log = (folder / f"out/logs/good/{epoch}/detect.log").read_text()
        assert f"verdict: {said['verdict']}" in log
        assert said["evidence"]["usable"] > 0.5 and "residual_medium" in said["evidence"]


def test_settings_reach_the_products(first_run):
    folder, _ = first_run
    about = products.read_provenance(folder / "out/good/1/candidates.ecsv")
    assert about["settings"]["threshold"] == 6


def test_what_was_put_in_tells_how_deep_the_search_went(first_run):
    folder, _ = first_run
    put = products.read_injection(folder / "out/good/1/injection.ecsv")
    found = products.read_candidates(folder / "out/good/1/candidates.ecsv")
    assert len(put) > 20 and put["found"].any() and not put["found"].all()
    assert found.meta["completeness"] == put.meta["completeness"]
    assert put.meta["threshold"] == found.meta["threshold"] == 6


def test_the_catalogue_of_a_row_is_used(first_run):
    folder, _ = first_run
    for epoch, count in (("1", 1), ("2", 0)):
        stars = products.read_stars(folder / "out/good" / epoch / "stars.ecsv")
        assert (stars["reason"] == "galaxy in the catalogue").sum() == count


@pytest.fixture(scope="module")
def finished(first_run, snakemake):
    """The table without its broken fields; only the report is to be made again."""
    folder, _ = first_run
    (folder / "mine.csv").write_text(HEAD + GOOD)
    before = hashes(folder)
    done = snakemake(folder, *RUN)
    assert done.returncode == 0, done.stderr
    assert hashes(folder) == before, "products of unchanged images were made again"
    return folder, before


def test_nothing_to_do_the_second_time(finished, snakemake):
    folder, _ = finished
    done = snakemake(folder, *RUN)
    assert done.returncode == 0 and "Nothing to be done" in done.stdout + done.stderr


def planned(done):
    """Jobs by rule, as a dry run counts them; none if nothing is to be done."""
    assert done.returncode == 0, done.stderr
    counts = re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)
    return {rule: int(count) for rule, count in counts if rule not in ("all", "total")}


#: What is asked otherwise, or what happened to a file -> the jobs that follow.
AFTER = {"lightcurves": 1, "page": 2, "report": 1}
OF_ONE = AFTER | {"page": 1}
CHANGES = {
    "detect={threshold: 7}": {"inject": 2, "detect": 2} | AFTER,
    "inject={seed: 7}": {"inject": 2, "detect": 2} | AFTER,
    "inject={enabled: false}": {"detect": 2} | AFTER,
    "decorrelate={max_lag: 4}": {"decorrelate": 2, "inject": 2, "detect": 2} | AFTER,
    "extended_psf={size: 41}": {"extended_psf": 3, "page": 3, "report": 1},
    "prepare={sky_box: 50}": {"image": 3, "extended_psf": 3, "epoch": 2} | AFTER | {"page": 3},
    "lightcurves={limit: 3}": {"lightcurves": 1, "report": 1},
    "report={dpi: 50}": {"page": 3, "report": 1},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_setting_reruns_its_stage_and_what_follows(finished, snakemake, change):
    folder, _ = finished
    done = snakemake(folder, *RUN, "--dry-run", "--config", change)
    assert planned(done) == CHANGES[change]


def with_old_time(path, content):
    """The same folder with another content of a file, under a time long before any product's."""
    path.write_bytes(content)
    os.utime(path, (1e9, 1e9))


def test_what_files_hold_counts_and_not_their_times_alone(finished, snakemake):
    folder, _ = finished
    image, product = folder / "images/2.fits", folder / "out/good/2/decorrelated.fits"
    of_epoch = {"image": 1, "extended_psf": 1, "epoch": 1, **OF_ONE}
    for path, content, jobs in (
        (image, lambda whole: whole[:20_000] + bytes(2880) + whole[22_880:], of_epoch),
        (image, lambda whole: whole, {}),
        (product, lambda whole: whole[:100_000],
         {"decorrelate": 1, "inject": 1, "detect": 1, **OF_ONE}),
    ):  # fmt: skip
        whole, stat = path.read_bytes(), path.stat()
        with_old_time(path, content(whole))
        assert planned(snakemake(folder, *RUN, "--dry-run")) == jobs, path
        path.write_bytes(whole)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert planned(snakemake(folder, *RUN, "--dry-run")) == {}


def test_a_stage_that_is_named_is_a_job(finished, snakemake):
    folder, _ = finished
    assert planned(snakemake(folder, *RUN, "--dry-run", "--forcerun", "detect"))["detect"] == 2
    done = snakemake(folder, *RUN, "--dry-run", "--forceall", "--until", "core_epsf")
    assert set(planned(done)) == {"prepare", "select_stars", "build_stamps", "core_epsf"}


def test_killed_and_run_again(finished, snakemake):
    """SIGKILL of everything in the middle of the work; the same command then ends the same way."""
    folder, before = finished
    (folder / "out/good/1/difference.fits").unlink()
    log = folder / "out/logs/good/1/subtract.log"
    log.unlink()
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), *map(str, RUN)]
    running = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    limit = time.monotonic() + 60
    while not log.exists() and time.monotonic() < limit:
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert log.exists() and not (folder / "out/good/1/difference.fits").exists()
    done = snakemake(folder, *RUN)
    assert done.returncode == 0, done.stderr
    assert hashes(folder) == before


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("subtrakt: {method: al}\n", ["subtrakt: unknown section", "did you mean 'subtract'?"]),
        ("detect: {treshold: 5}\n", ["detect.treshold", "did you mean 'threshold'?"]),
        ("detect: {threshold: -1}\n", ["detect.threshold: must be greater than 0, not -1"]),
        ("subtract: {method: hotpants}\n", ["subtract.method: must be one of"]),
        ("fields: nowhere.csv\n", ["nowhere.csv", "no such file"]),
    ],
)
def test_bad_configuration_is_refused_before_any_job(tmp_path, snakemake, config, words):
    (tmp_path / "my.yaml").write_text(config)
    done = snakemake(tmp_path, *RUN)
    assert done.returncode != 0
    for word in words:
        assert word in done.stderr + done.stdout
    assert not (tmp_path / "results").exists() and "rule image" not in done.stderr


def test_a_missing_column_is_refused_before_any_job(tmp_path, snakemake):
    (tmp_path / "mine.csv").write_text("field,image\na,b.fits\n")
    done = snakemake(tmp_path, "--cores", 1, "--config", "fields=mine.csv")
    assert done.returncode != 0
    assert "mine.csv" in done.stderr + done.stdout and "no column 'epoch'" in done.stderr


def test_an_image_is_a_job_or_every_stage_one_on_request(tmp_path, snakemake):
    rows = "".join(
        f"{field},{epoch},{field}{epoch}.fits\n" for field in "ab" for epoch in ("template", "x")
    )
    (tmp_path / "mine.csv").write_text(HEAD + rows)
    done = snakemake(tmp_path, "--dry-run", "--config", "fields=mine.csv", "output=o u t")
    assert done.returncode == 0, done.stderr
    of_all = {"lightcurves": 2, "report": 1}
    counts = {"image": 4, "extended_psf": 4, "epoch": 2, "page": 4} | of_all
    assert planned(done) == counts
    options = ("--config", "fields=mine.csv", "output=o u t", "jobs=stage")
    of_image = ("prepare", "select_stars", "build_stamps", "core_epsf", "extended_psf", "page")
    of_epoch = ("subtract", "decorrelate", "inject", "detect")
    counts = dict.fromkeys(of_image, 4) | dict.fromkeys(of_epoch, 2) | of_all
    assert planned(snakemake(tmp_path, "--dry-run", *options)) == counts


@pytest.mark.parametrize(
    ("rows", "config", "images"),
    [
        ("a,template,1.fits\nb,template,2.fits\n", [], 2),
        ("a,1,1.fits\na,2,2.fits\nb,1,3.fits\n", [], 3),
        ("a,template,1.fits\na,1,2.fits\nb,1,3.fits\n", ["until=psf"], 3),
    ],
)
def test_a_psf_alone_is_a_use(tmp_path, snakemake, rows, config, images):
    """By the table itself or on request: the stages of the PSF, a report, nothing else."""
    (tmp_path / "mine.csv").write_text("field,epoch,image\n" + rows)
    done = snakemake(tmp_path, "--dry-run", "--config", "fields=mine.csv", *config)
    assert done.returncode == 0, done.stderr
    assert planned(done) == dict.fromkeys(("image", "extended_psf", "page"), images) | {"report": 1}


def test_haloes_on_request(tmp_path, snakemake):
    """`starless.fits` of every image, and the extended PSFs of both images for the difference."""
    (tmp_path / "mine.csv").write_text(HEAD + GOOD)
    asked = ["fields=mine.csv", "subtract_stars={enabled: true}"]
    done = snakemake(tmp_path, "--dry-run", "--config", *asked, "subtract={use_extended_psf: true}")
    assert done.returncode == 0, done.stderr
    text = done.stdout + done.stderr
    assert re.search(r"^subtract_stars +3$", text, re.MULTILINE)
    job = text.split("rule epoch:")[1].split("output:")[0]
    assert "template/extended_psf.fits" in job
    plain = snakemake(tmp_path, "--dry-run", "--config", "fields=mine.csv")
    assert "starless.fits" not in plain.stdout + plain.stderr


def test_the_default_is_the_embedded_field(tmp_path, snakemake):
    """From any folder, without a word on data: simulated, three images."""
    # all of it, or a demo that ran here before has left the images
    done = snakemake(tmp_path, "--dry-run", "--forceall", "--config", "detect={threshold: 7}")
    assert done.returncode == 0, done.stderr
    assert planned(done)["image"] == 3 and planned(done)["simulate"] == 1
