"""Stage run: performance alone on the machine, then the outputs that accuracies are computed from."""


rule measure_performance:
    input:
        compiled="results/build/{variant}/{precision}/compile.receipt.json",
        vdsp_params="results/build/{variant}/{precision}/vdsp_params.json",
        datalist=lambda wildcards: datalist(wildcards.variant, 0),
    output:
        report=report(
            "results/run/{variant}/{precision}/performance.json",
            caption="../report/performance.rst",
            category="Results",
            subcategory="Performance",
            labels={"model": "{variant}", "precision": "{precision}"},
        ),
        receipt="results/run/{variant}/{precision}/performance.receipt.json",
    log:
        "results/logs/run/measure_performance-{variant}-{precision}.log",
    # More than any machine has: Snakemake clamps it to --cores, and nothing else of this run shares the machine.
    threads: 1024
    resources:
        **needs("measure_performance"),
    params:
        settings=lambda wildcards: settings(
            vamp=SETTINGS["vamp"], tool=performance_tool(wildcards.variant, wildcards.precision)
        ),
        code=lambda wildcards: performance_code(wildcards.precision),
        command=lambda wildcards: performance_tool(wildcards.variant, wildcards.precision),
        prefix=lambda wildcards: compiled(wildcards.variant, wildcards.precision),
        load=lambda wildcards: load_arguments(wildcards.precision),
    shell:
        step(
            "{params.command}",
            "-m {params.prefix:q} --vdsp_params {input.vdsp_params:q}"
            " {params.load:q} --datalist {input.datalist:q} --json {output.report:q}",
        )


rule run_accuracy:
    input:
        compiled="results/build/{variant}/{precision}/compile.receipt.json",
        vdsp_params="results/build/{variant}/{precision}/vdsp_params.json",
        datalist=lambda wildcards: datalist(wildcards.variant, wildcards.shard),
        listed=lambda wildcards: datalist_receipt(wildcards.variant, wildcards.shard),
    output:
        report="results/run/{variant}/{precision}/accuracy-{shard}.json",
        receipt="results/run/{variant}/{precision}/accuracy-{shard}.receipt.json",
    log:
        "results/logs/run/run_accuracy-{variant}-{precision}-{shard}.log",
    threads: threads_for_images
    resources:
        **needs("run_accuracy"),
    params:
        settings=lambda wildcards: settings(
            batch_size=SETTINGS["vamp"]["batch_size"],
            tool=performance_tool(wildcards.variant, wildcards.precision),
        ),
        code=lambda wildcards: performance_code(wildcards.precision),
        command=lambda wildcards: performance_tool(wildcards.variant, wildcards.precision),
        prefix=lambda wildcards: compiled(wildcards.variant, wildcards.precision),
        load=lambda wildcards, threads: accuracy_load(wildcards.precision, threads),
        folder="results/run/{variant}/{precision}/outputs/{shard}",
    shell:
        step(
            "{params.command}",
            "-m {params.prefix:q}"
            " --vdsp_params {input.vdsp_params:q} {params.load:q}"
            " --datalist {input.datalist:q} --path_output {params.folder:q} --json {output.report:q}",
            also="--folders {params.folder:q} --verified {input.listed:q}",
        )
