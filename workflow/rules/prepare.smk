# From a user's image to an exposure that every later stage can trust.
#
# INPUTS   the table of images (config: fields) and the files that it names
# OUTPUTS  {output}/{field}/{epoch}/exposure.fits      IMAGE, VARIANCE, MASK, WCS
# STEPS    simulate (only for the embedded field) -> prepare


rule simulate:
    """The embedded field, whose truth is known: three images, seed {params.settings[seed]}."""
    output:
        template=EMBEDDED / "template.fits",
        epoch_1=EMBEDDED / "1.fits",
        epoch_2=EMBEDDED / "2.fits",
        truth=EMBEDDED / "truth.ecsv",
    log:
        f"{OUT}/logs/simulate.log",
    benchmark:
        f"{OUT}/benchmarks/simulate.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        settings=SETTINGS.section("simulate"),
    script:
        "../scripts/run_stage.py"


def image_files(wildcards):
    """Files of one image that exist or can be made.

    A missing one is left out, so that all fields are planned; the job that reads it then stops
    with a sentence that names file and row, and the other fields go on.
    """
    files = FIELDS.row(wildcards.field, wildcards.epoch).files
    return [path for path in files if path.exists() or path.parent == EMBEDDED]


def image_row(wildcards):
    """What the table says of one image; a change of it makes the exposure anew."""
    row = FIELDS.row(wildcards.field, wildcards.epoch)
    others = ("catalog", "table", "line")
    return {name: str(value) for name, value in vars(row).items() if name not in others}


rule prepare:
    """Sky removed, variance known, mask complete: {wildcards.field}, {wildcards.epoch}."""
    input:
        image_files,
        fields=ancient(FIELDS.path),
    output:
        exposure=f"{OUT}/{{field}}/{{epoch}}/exposure.fits",
    log:
        f"{OUT}/logs/{{field}}/{{epoch}}/prepare.log",
    benchmark:
        f"{OUT}/benchmarks/{{field}}/{{epoch}}/prepare.tsv"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        image_row,
        field="{field}",
        epoch="{epoch}",
        settings=SETTINGS.section("prepare"),
    script:
        "../scripts/run_stage.py"
