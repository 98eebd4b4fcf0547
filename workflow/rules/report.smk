# What a person looks at first.
#
# INPUTS   every product of every epoch
# OUTPUTS  {output}/summary.ecsv    a row an epoch: verdict, stars, FWHM, kernel, noise, candidates, cost
#          {output}/report.html     a page a field, with pictures of every stage
# STEPS    report


OF_IMAGE = ["exposure.fits", "stars.ecsv", "stamps.fits", "epsf.fits", "extended_psf.fits"]
if SETTINGS.subtract_stars.enabled:
    OF_IMAGE.append("starless.fits")
OF_SCIENCE = [
    "template.fits",
    "kernel.fits",
    "difference.fits",
    "decorrelated.fits",
    "candidates.ecsv",
]
PRODUCTS = [
    f"{OUT}/{row.field}/{row.epoch}/{name}"
    for row in FIELDS.rows
    for name in OF_IMAGE + (OF_SCIENCE if DIFFERENCES and row.epoch != "template" else [])
]


rule report:
    """Summary table and report on the images of {input.fields}."""
    input:
        PRODUCTS,
        fields=ancient(FIELDS.path),
    output:
        page=f"{OUT}/report.html",
        summary=f"{OUT}/summary.ecsv",
    log:
        f"{OUT}/logs/report.log",
    benchmark:
        f"{OUT}/benchmarks/report.tsv"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        output=OUT,
        until=SETTINGS.until,
        settings=SETTINGS.section("report"),
    script:
        "../scripts/run_stage.py"
