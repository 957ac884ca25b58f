"""Stage run: performance alone on the machine, then the outputs that accuracies are computed from."""


rule measure_performance:
    input:
        current=get_current("measure_performance"),
        compiled="results/build/{variant}/{precision}/compiled.json",
        vdsp_params="results/build/{variant}/{precision}/vdsp_params.json",
        datalist=inputs.get_first_datalist,
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
        mem_mb=ask.get_memory(1000, a_thread=250),
        runtime=ask.get_minutes(30),
    params:
        **get_step("measure_performance"),
    shell:
        record(
            "{params.command:q} {params.arguments:q} --vdsp_params {input.vdsp_params:q}"
            " --datalist {input.datalist:q} --json {output.report:q}"
        )


rule run_accuracy:
    input:
        current=get_current("run_accuracy"),
        compiled="results/build/{variant}/{precision}/compiled.json",
        vdsp_params="results/build/{variant}/{precision}/vdsp_params.json",
        datalist=inputs.get_datalist,
        listed=inputs.get_datalist_receipt,
    output:
        scores="results/run/{variant}/{precision}/scores-{shard}.npz",
        receipt="results/run/{variant}/{precision}/scores-{shard}.receipt.json",
    log:
        "results/logs/run/run_accuracy-{variant}-{precision}-{shard}.log",
    threads: ask.get_threads
    resources:
        mem_mb=ask.get_memory(1000, a_thread=400),
        runtime=ask.get_minutes(5, images_a_minute=1500),
    params:
        **get_step("run_accuracy"),
        sessions=get_sessions,
    shell:
        record(
            "{params.command:q} {params.arguments:q} {params.sessions:q} --vdsp_params {input.vdsp_params:q}"
            " --datalist {input.datalist:q} --path_output {output.scores:q}",
            verified="{input.listed:q}",
        )
