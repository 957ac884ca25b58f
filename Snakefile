# From a classifier's weights to the numbers that decide whether it can be deployed.
#
#   data      the images, their manifest, the calibration set, the npz inputs
#   model     weights and the exported graph
#   build     the compiler's file, the preprocessing file, the compiled model
#   run       performance and accuracy runs
#   result    evaluation, summary, report
#
# What can be configured stands in config/README.md; `snakemake --cores all` makes everything,
# `snakemake --cores all mnasnet0_5` or `mnasnet0_5-int8-percentile` one variant's or one row's results.

from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/model.smk"
include: "workflow/rules/build.smk"
include: "workflow/rules/run.smk"
include: "workflow/rules/result.smk"


rule all:
    default_target: True
    input:
        summary="results/summary.csv",
        text="results/summary.md",
        page="results/report.html",


onstart:
    with refusals():
        logger.info(start(SETTINGS, EXTENT, SNAKEMAKE, REASONS))


onerror:
    if names.FAILURES.is_file():
        logger.error(f"What failed:\n{names.FAILURES.read_text()}")
