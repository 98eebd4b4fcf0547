# What a person looks at first.
#
# INPUTS   every product of every epoch
# OUTPUTS  {output}/summary.ecsv    a row an epoch: stars, FWHM, kernel, noise, candidates, cost
#          {output}/report.html     a page a field, with pictures of every stage
# STEPS    report


rule report:
    """Summary table and report on {input.fields}."""
    input:
        [f"{OUT}/{row.field}/{row.epoch}/extended_psf.fits" for row in FIELDS.rows],
        [
            f"{OUT}/{field}/{epoch}/candidates.ecsv"
            for field in FIELDS.fields
            for epoch in FIELDS.epochs(field)
        ],
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
        settings=SETTINGS.section("report"),
    script:
        "../scripts/run_stage.py"
