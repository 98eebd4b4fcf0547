# What a person looks at first.
#
# INPUTS   every product of every epoch
# OUTPUTS  {output}/pages/{field}/{epoch}/   a page an image, with pictures of every stage
#          {output}/pages/{field}/           a page a field: figures and a small picture an image
#          {output}/report.html              the verdicts of all, with links
#          {output}/summary.ecsv             a row an epoch: verdict, stars, FWHM, kernel, noise, cost
#          {output}/pages/{field}/lightcurves.html   what varies, drawn
#          {output}/{field}/objects.ecsv, lightcurves.ecsv, lightcurves.parquet
# STEPS    lightcurves, page -> report


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
if SETTINGS.inject.enabled:
    OF_SCIENCE.append("injection.ecsv")
PRODUCTS = [
    f"{OUT}/{row.field}/{row.epoch}/{name}"
    for row in FIELDS.rows
    for name in OF_IMAGE + (OF_SCIENCE if DIFFERENCES and row.epoch != "template" else [])
]


PAGES = [
    f"{OUT}/pages/{row.field}/{row.epoch}/{name}"
    for row in FIELDS.rows
    for name in ("index.html", "row.json", "small.webp")
]
INDEX = [f"{OUT}/pages/{field}/index.html" for field in FIELDS.fields]
INDEX += [f"{OUT}/report.html", f"{OUT}/summary.ecsv"]


def products(wildcards):
    """All that was made of one image."""
    folder = f"{OUT}/{wildcards.field}/{wildcards.epoch}/"
    return [name for name in PRODUCTS if name.startswith(folder)]


CURVES = [
    f"{OUT}/{field}/lightcurves.ecsv"
    for field in FIELDS.fields
    if DIFFERENCES and FIELDS.epochs(field)
]


def differences(wildcards):
    """What light curves of a field are made of."""
    return [
        f"{OUT}/{wildcards.field}/{epoch}/{name}"
        for epoch in FIELDS.epochs(wildcards.field)
        for name in ("decorrelated.fits", "candidates.ecsv")
    ]


rule lightcurves:
    """Forced photometry of every candidate of {wildcards.field} in every epoch."""
    input:
        asked_anew("lightcurves"),
        differences,
        fields=ancient(FIELDS.path),
    output:
        objects=f"{OUT}/{{field}}/objects.ecsv",
        points=f"{OUT}/{{field}}/lightcurves.ecsv",
        parquet=f"{OUT}/{{field}}/lightcurves.parquet",
        page=f"{OUT}/pages/{{field}}/lightcurves.html",
    log:
        f"{OUT}/logs/{{field}}/lightcurves.log",
    benchmark:
        f"{OUT}/benchmarks/{{field}}/lightcurves.tsv"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        output=OUT,
        field="{field}",
        settings=SETTINGS.section("lightcurves"),
        record=record("lightcurves"),
    script:
        "../scripts/run_stage.py"


rule page:
    """Figures and pictures of {wildcards.field}, {wildcards.epoch}."""
    input:
        asked_anew("page"),
        products,
        fields=ancient(FIELDS.path),
    output:
        f"{OUT}/pages/{{field}}/{{epoch}}/row.json",
        f"{OUT}/pages/{{field}}/{{epoch}}/small.webp",
        page=f"{OUT}/pages/{{field}}/{{epoch}}/index.html",
    log:
        f"{OUT}/logs/{{field}}/{{epoch}}/page.log",
    benchmark:
        f"{OUT}/benchmarks/{{field}}/{{epoch}}/page.tsv"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        output=OUT,
        field="{field}",
        epoch="{epoch}",
        until=SETTINGS.until,
        settings=SETTINGS.section("report"),
        record=record("page"),
    script:
        "../scripts/run_stage.py"


rule report:
    """Summary table, and an index of the pages, of the images of {input.fields}."""
    input:
        asked_anew("report"),
        PAGES,
        CURVES,
        fields=ancient(FIELDS.path),
    output:
        INDEX[:-2],
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
        record=record("report"),
    script:
        "../scripts/run_stage.py"
