# What changed in every science epoch.
#
# INPUTS   {output}/{field}/{epoch}/exposure.fits, epsf.fits    of the science epoch
#          {output}/{field}/template/exposure.fits, epsf.fits
#          with subtract.use_extended_psf also stars.ecsv, extended_psf.fits of both
# OUTPUTS  {output}/{field}/{epoch}/template.fits        the template on this epoch's grid
#          {output}/{field}/{epoch}/kernel.fits          the matching kernel
#          {output}/{field}/{epoch}/difference.fits      science minus matched template
#          {output}/{field}/{epoch}/decorrelated.fits    the same with white noise, and its score
#          {output}/{field}/{epoch}/injection.ecsv       what was put in and found again, if inject.enabled
#          {output}/{field}/{epoch}/candidates.ecsv      sources of both signs, and the verdict
# STEPS    subtract -> decorrelate [-> inject] -> detect


HALO_INPUTS = {
    "stars": f"{OUT}/{{field}}/{{epoch}}/stars.ecsv",
    "extended_psf": f"{OUT}/{{field}}/{{epoch}}/extended_psf.fits",
    "template_stars": f"{OUT}/{{field}}/template/stars.ecsv",
    "template_extended_psf": f"{OUT}/{{field}}/template/extended_psf.fits",
}
OF_HALOES = HALO_INPUTS if SETTINGS.subtract.use_extended_psf else {}
# sources are put on galaxies and near stars of the science image
INJECT_INPUTS = {"stars": HALO_INPUTS["stars"]} | OF_HALOES
INJECTION = {"injection": f"{OUT}/{{field}}/{{epoch}}/injection.ecsv"}
INJECTION = INJECTION if SETTINGS.inject.enabled else {}


rule subtract:
    """Science minus template, method {params.settings[method]}: {wildcards.field}, {wildcards.epoch}."""
    input:
        asked_anew("subtract"),
        **OF_HALOES,
        science=f"{OUT}/{{field}}/{{epoch}}/exposure.fits",
        template=f"{OUT}/{{field}}/template/exposure.fits",
        psf=f"{OUT}/{{field}}/{{epoch}}/epsf.fits",
        template_psf=f"{OUT}/{{field}}/template/epsf.fits",
    output:
        aligned=f"{OUT}/{{field}}/{{epoch}}/template.fits",
        kernel=f"{OUT}/{{field}}/{{epoch}}/kernel.fits",
        difference=f"{OUT}/{{field}}/{{epoch}}/difference.fits",
    log:
        f"{OUT}/logs/{{field}}/{{epoch}}/subtract.log",
    benchmark:
        f"{OUT}/benchmarks/{{field}}/{{epoch}}/subtract.tsv"
    threads: SETTINGS.threads
    resources:
        mem_mb=2000,
    params:
        settings=SETTINGS.section("subtract"),
        record=record("subtract"),
    script:
        "../scripts/run_stage.py"


rule decorrelate:
    """White noise, corrected PSF, matched-filter score: {wildcards.field}, {wildcards.epoch}."""
    input:
        asked_anew("decorrelate"),
        science=f"{OUT}/{{field}}/{{epoch}}/exposure.fits",
        aligned=f"{OUT}/{{field}}/{{epoch}}/template.fits",
        difference=f"{OUT}/{{field}}/{{epoch}}/difference.fits",
    output:
        decorrelated=f"{OUT}/{{field}}/{{epoch}}/decorrelated.fits",
    log:
        f"{OUT}/logs/{{field}}/{{epoch}}/decorrelate.log",
    benchmark:
        f"{OUT}/benchmarks/{{field}}/{{epoch}}/decorrelate.tsv"
    threads: SETTINGS.threads
    resources:
        mem_mb=2000,
    params:
        settings=SETTINGS.section("decorrelate"),
        record=record("decorrelate"),
    script:
        "../scripts/run_stage.py"


rule inject:
    """Sources put in and found again, at most {params.settings[most]}: {wildcards.field}, {wildcards.epoch}."""
    input:
        asked_anew("inject"),
        **INJECT_INPUTS,
        science=f"{OUT}/{{field}}/{{epoch}}/exposure.fits",
        template=f"{OUT}/{{field}}/template/exposure.fits",
        psf=f"{OUT}/{{field}}/{{epoch}}/epsf.fits",
        template_psf=f"{OUT}/{{field}}/template/epsf.fits",
        aligned=f"{OUT}/{{field}}/{{epoch}}/template.fits",
        decorrelated=f"{OUT}/{{field}}/{{epoch}}/decorrelated.fits",
    output:
        injection=f"{OUT}/{{field}}/{{epoch}}/injection.ecsv",
    log:
        f"{OUT}/logs/{{field}}/{{epoch}}/inject.log",
    benchmark:
        f"{OUT}/benchmarks/{{field}}/{{epoch}}/inject.tsv"
    threads: SETTINGS.threads
    resources:
        mem_mb=2000,
    params:
        settings=SETTINGS.section("inject"),
        others={stage: SETTINGS.section(stage) for stage in OTHERS["inject"]},
        record=record("inject"),
    script:
        "../scripts/run_stage.py"


rule detect:
    """Candidates above {params.settings[threshold]} sigma: {wildcards.field}, {wildcards.epoch}."""
    input:
        asked_anew("detect"),
        **INJECTION,
        science=f"{OUT}/{{field}}/{{epoch}}/exposure.fits",
        aligned=f"{OUT}/{{field}}/{{epoch}}/template.fits",
        decorrelated=f"{OUT}/{{field}}/{{epoch}}/decorrelated.fits",
    output:
        candidates=f"{OUT}/{{field}}/{{epoch}}/candidates.ecsv",
    log:
        f"{OUT}/logs/{{field}}/{{epoch}}/detect.log",
    benchmark:
        f"{OUT}/benchmarks/{{field}}/{{epoch}}/detect.tsv"
    threads: SETTINGS.threads
    resources:
        mem_mb=1000,
    params:
        settings=SETTINGS.section("detect"),
        record=record("detect"),
    script:
        "../scripts/run_stage.py"
