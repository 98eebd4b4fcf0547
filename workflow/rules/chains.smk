# All stages of an image, or of an epoch, in one process: starting one costs more than most stages.
#
# INPUTS   as of the first stage
# OUTPUTS  as of all stages
# STEPS    image: prepare -> select_stars -> build_stamps -> core_epsf
#          epoch: subtract -> decorrelate [-> inject] -> detect


rule image:
    """Exposure, stars, stamps and core PSF: {wildcards.field}, {wildcards.epoch}."""
    input:
        as_a_whole("image", PLAN.image_as_a_whole),
        asked_anew("prepare"),
        image_files,
        catalog_file,
        fields=ancient(FIELDS.path),
    output:
        exposure=f"{OUT}/{{field}}/{{epoch}}/exposure.fits",
        stars=f"{OUT}/{{field}}/{{epoch}}/stars.ecsv",
        stamps=f"{OUT}/{{field}}/{{epoch}}/stamps.fits",
        epsf=f"{OUT}/{{field}}/{{epoch}}/epsf.fits",
    log:
        **{stage: f"{OUT}/logs/{{field}}/{{epoch}}/{stage}.log" for stage in CHAINS["image"]},
    benchmark:
        f"{OUT}/benchmarks/{{field}}/{{epoch}}/image.tsv"
    threads: SETTINGS.threads
    resources:
        mem_mb=1500,
    params:
        field="{field}",
        epoch="{epoch}",
        catalog=catalog,
        stages=PLAN.chain("image"),
        settings={stage: SETTINGS.section(stage) for stage in CHAINS["image"]},
        records=records("image"),
        measured=measured("image"),
    script:
        "../scripts/run_chain.py"


rule epoch:
    """Difference, decorrelated, and candidates: {wildcards.field}, {wildcards.epoch}."""
    input:
        as_a_whole("epoch", PLAN.epoch_as_a_whole),
        asked_anew("subtract"),
        **INJECT_INPUTS if SETTINGS.inject.enabled else OF_HALOES,
        science=f"{OUT}/{{field}}/{{epoch}}/exposure.fits",
        template=f"{OUT}/{{field}}/template/exposure.fits",
        psf=f"{OUT}/{{field}}/{{epoch}}/epsf.fits",
        template_psf=f"{OUT}/{{field}}/template/epsf.fits",
    output:
        **INJECTION,
        aligned=f"{OUT}/{{field}}/{{epoch}}/template.fits",
        kernel=f"{OUT}/{{field}}/{{epoch}}/kernel.fits",
        difference=f"{OUT}/{{field}}/{{epoch}}/difference.fits",
        decorrelated=f"{OUT}/{{field}}/{{epoch}}/decorrelated.fits",
        candidates=f"{OUT}/{{field}}/{{epoch}}/candidates.ecsv",
    log:
        **{stage: f"{OUT}/logs/{{field}}/{{epoch}}/{stage}.log" for stage in PLAN.chain("epoch")},
    benchmark:
        f"{OUT}/benchmarks/{{field}}/{{epoch}}/epoch.tsv"
    threads: SETTINGS.threads
    resources:
        mem_mb=2000,
    params:
        stages=PLAN.chain("epoch"),
        settings={stage: SETTINGS.section(stage) for stage in CHAINS["epoch"]},
        records=records("epoch"),
        measured=measured("epoch"),
    script:
        "../scripts/run_chain.py"


ruleorder: image > prepare
ruleorder: image > select_stars
ruleorder: image > build_stamps
ruleorder: image > core_epsf
ruleorder: epoch > subtract
ruleorder: epoch > decorrelate
ruleorder: epoch > inject
ruleorder: epoch > detect
