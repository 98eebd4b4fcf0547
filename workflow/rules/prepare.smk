# From a user's image to an exposure that every later stage can trust.
#
# INPUTS   the table of images (config: fields) and the files that it names
# OUTPUTS  {output}/{field}/{epoch}/exposure.fits      IMAGE, VARIANCE, MASK, WCS
# STEPS    simulate (only for the embedded field) -> prepare


rule simulate:
    """The embedded field, whose truth is known: three images, seed {params.settings[seed]}."""
    input:
        asked_anew("simulate"),
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
        record=record("simulate"),
    script:
        "../scripts/run_stage.py"


rule prepare:
    """Sky removed, variance known, mask complete: {wildcards.field}, {wildcards.epoch}."""
    input:
        asked_anew("prepare"),
        image_files,
        fields=ancient(FIELDS.path),
    output:
        exposure=f"{OUT}/{{field}}/{{epoch}}/exposure.fits",
    log:
        f"{OUT}/logs/{{field}}/{{epoch}}/prepare.log",
    benchmark:
        f"{OUT}/benchmarks/{{field}}/{{epoch}}/prepare.tsv"
    threads: SETTINGS.threads
    resources:
        mem_mb=1500,
    params:
        field="{field}",
        epoch="{epoch}",
        settings=SETTINGS.section("prepare"),
        record=record("prepare"),
    script:
        "../scripts/run_stage.py"
