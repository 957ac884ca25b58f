"""Stage result: answers, accuracies, the summary, the report."""


localrules:
    summarize,
    make_report,


rule evaluate_outputs:
    input:
        current=get_current("evaluate_outputs"),
        scores=inputs.get_scores,
        baseline=inputs.get_baseline_scores,
        calibration=inputs.get_calibration_digests,
        manifest=f"{DATA}/manifest.csv",
    output:
        answers="results/result/{variant}/{precision}/answers.csv",
        accuracy=report(
            "results/result/{variant}/{precision}/accuracy.json",
            caption="../report/accuracy.rst",
            category="Results",
            subcategory="Accuracy",
            labels={"model": "{variant}", "precision": "{precision}"},
        ),
        receipt="results/result/{variant}/{precision}/accuracy.receipt.json",
    log:
        "results/logs/result/evaluate_outputs-{variant}-{precision}.log",
    resources:
        mem_mb=ask.get_memory(1500),
        runtime=ask.get_minutes(5, images_a_minute=30000, of="all"),
    params:
        **get_step("evaluate_outputs"),
    shell:
        record(
            "eval_imagenet.py --result_path {input.scores:q} --reference_path {input.baseline:q}"
            " --label {input.manifest:q} {params.arguments:q} --answers {output.answers:q} --json {output.accuracy:q}"
        )


rule check_parity:
    input:
        current=get_current("check_parity"),
        compiled="results/build/{variant}/fp32/compiled.json",
        vdsp_params=inputs.get_judged_vdsp_params,
        datalists=inputs.get_datalists,
        manifest=f"{DATA}/manifest.csv",
        demo=inputs.get_demo,
    output:
        certificate="results/result/{variant}/parity.json",
        receipt="results/result/{variant}/parity.receipt.json",
    log:
        "results/logs/result/check_parity-{variant}.log",
    threads: ask.get_parity_threads
    resources:
        mem_mb=ask.get_memory(2000, a_thread=300),
        runtime=ask.get_minutes(10, images_a_minute=1000, of="parity"),
    params:
        **get_step("check_parity"),
        root=names.dataset_root(SETTINGS),
    shell:
        record(
            "check_parity.py {params.arguments:q} --root {params.root:q} --manifest {input.manifest:q}"
            " --datalist {input.datalists:q} --vdsp_params {input.vdsp_params:q} --workers {threads}"
            " --json {output.certificate:q}"
        )


rule summarize:
    input:
        current=get_current("summarize"),
        rows=inputs.get_rows,
        classes=f"{DATA}/manifest.classes.json",
    output:
        csv=report("results/summary.csv", caption="../report/summary.rst", category="Results"),
        markdown="results/summary.md",
        files="results/summary.json",
        receipt="results/summary.receipt.json",
    log:
        "results/logs/result/summarize.log",
    params:
        **get_step("summarize"),
    shell:
        record(
            "summarize.py {params.arguments:q} --csv {output.csv:q} --markdown {output.markdown:q}"
            " --files {output.files:q}"
        )


rule make_report:
    input:
        current=get_current("make_report"),
        summary="results/summary.csv",
        files="results/summary.json",
        manifest=f"{DATA}/manifest.csv",
        classes=f"{DATA}/manifest.classes.json",
        peaks=inputs.get_peaks,
    output:
        page=report("results/report.html", caption="../report/report.rst", category="Decision"),
        receipt="results/report.receipt.json",
    log:
        "results/logs/result/make_report.log",
    params:
        **get_step("make_report"),
    shell:
        record("report.py results --html {output.page:q} {params.arguments:q}")


# `snakemake mnasnet0_5` and `snakemake mnasnet0_5-int8-percentile`: targets for one variant's and one row's results.
for variant in SETTINGS.models:

    rule:
        name:
            variant
        input:
            names.variant_results(SETTINGS, variant),

    for precision in SETTINGS["precisions"]:

        rule:
            name:
                f"{variant}-{precision}"
            input:
                names.row_results(SETTINGS, variant, precision),
