"""Stage result: answers, accuracies, the summary, the report."""


localrules:
    gather_accuracy,
    summarize,
    make_report,


rule evaluate_outputs:
    input:
        outputs="results/run/{variant}/{precision}/accuracy-{shard}.receipt.json",
        reference=lambda wildcards: reference_run(wildcards),
        datalist=lambda wildcards: datalist(wildcards.variant, wildcards.shard),
        manifest=lambda wildcards: manifests()[int(wildcards.shard)],
    output:
        answers="results/result/{variant}/{precision}/answers-{shard}.csv",
        receipt="results/result/{variant}/{precision}/answers-{shard}.receipt.json",
    log:
        "results/logs/result/evaluate_outputs-{variant}-{precision}-{shard}.log",
    resources:
        **needs("evaluate_outputs"),
    params:
        settings=lambda wildcards: settings(reference=reference_arguments(wildcards)),
        code=code("eval_imagenet.py"),
        folder="results/run/{variant}/{precision}/outputs/{shard}",
        reference=lambda wildcards: reference_arguments(wildcards),
    shell:
        step(
            "eval_imagenet.py",
            "--result_path {params.folder:q} --datalist {input.datalist:q} --label {input.manifest:q}"
            " {params.reference:q} --answers {output.answers:q}",
            also="--verified {input.outputs:q} {input.reference:q}",
        )


rule gather_accuracy:
    input:
        answers=lambda wildcards: answers(wildcards.variant, wildcards.precision),
        reference=lambda wildcards: answers(wildcards.variant, "fp32") if has_reference(wildcards.precision) else [],
        manifest=f"{DATA}/manifest.csv",
    output:
        accuracy=report(
            "results/result/{variant}/{precision}/accuracy.json",
            caption="../report/accuracy.rst",
            category="Results",
            subcategory="Accuracy",
            labels={"model": "{variant}", "precision": "{precision}"},
        ),
        receipt="results/result/{variant}/{precision}/accuracy.receipt.json",
    log:
        "results/logs/result/gather_accuracy-{variant}-{precision}.log",
    params:
        settings=settings(),
        code=code("gather_accuracy.py"),
    shell:
        step(
            "gather_accuracy.py",
            "--answers {input.answers:q} --reference {input.reference:q}"
            " --manifest {input.manifest:q} --json {output.accuracy:q}",
        )


rule check_parity:
    input:
        compiled="results/build/{variant}/fp32/compile.receipt.json",
        vdsp_params=lambda wildcards: f"results/build/{wildcards.variant}/{judged_precision()}/vdsp_params.json",
        datalists=lambda wildcards: [datalist(wildcards.variant, shard) for shard in SHARDS],
        manifest=f"{DATA}/manifest.csv",
        demo=demo_files,
    output:
        certificate="results/result/{variant}/parity.json",
        receipt="results/result/{variant}/parity.receipt.json",
    log:
        "results/logs/result/check_parity-{variant}.log",
    threads: threads_for_parity
    resources:
        **needs("check_parity"),
    params:
        settings=lambda wildcards: settings(resize=published_resize(wildcards.variant), parity=SETTINGS["parity"]),
        code=code("check_parity.py"),
        root=dataset_root(),
        prefix=lambda wildcards: compiled(wildcards.variant, "fp32"),
        resize=lambda wildcards: published_resize(wildcards.variant),
        sample=parity_arguments(),
    shell:
        step(
            "check_parity.py",
            "--model {params.prefix:q} --resize {params.resize} --root {params.root:q} --manifest {input.manifest:q}"
            " {params.sample} --datalist {input.datalists:q} --vdsp_params {input.vdsp_params:q} --workers {threads}"
            " --json {output.certificate:q}",
        )


rule summarize:
    input:
        rows=lambda wildcards: [file for row in summary_rows() for file in row_files(row)],
    output:
        csv=report("results/summary.csv", caption="../report/summary.rst", category="Results"),
        markdown="results/summary.md",
        receipt="results/summary.receipt.json",
    log:
        "results/logs/result/summarize.log",
    params:
        settings=settings(rows=summary_rows()),
        code=code("summarize.py"),
    shell:
        step(
            "summarize.py",
            "--rows {params.settings:q} --csv {output.csv:q} --markdown {output.markdown:q}",
        )


rule make_report:
    input:
        summary="results/summary.csv",
        receipts=lambda wildcards: list(chain_receipts(MODELS, PRECISIONS)),
        manifest=f"{DATA}/manifest.csv",
        # Made by hand where somebody wants the curve: ort-vamp --find-peak --json
        peaks=lambda wildcards: peak_files(),
    output:
        page=report("results/report.html", caption="../report/report.rst", category="Decision"),
        receipt="results/report.receipt.json",
    log:
        "results/logs/result/make_report.log",
    params:
        settings=settings(names=DATASET["class_names"], imagenet=SETTINGS.dataset_is_imagenet, templates=page_digest()),
        code=code("report.py"),
        arguments=report_arguments(),
    shell:
        step(
            "report.py",
            "results --html {output.page:q} {params.arguments:q}",
        )


TAKEN = sorted({"all", *(rule.name for rule in workflow.rules)} & set(MODELS))
if TAKEN:
    refuse(f" in the configuration: models.{TAKEN[0]}: is the name of a step of the workflow; give the variant another")


# `snakemake mnasnet0_5` and `snakemake mnasnet0_5-int8-percentile`: targets for one variant's and one row's results.
for variant in MODELS:

    rule:
        name:
            variant
        input:
            needed([variant]),

    for precision in PRECISIONS:

        rule:
            name:
                f"{variant}-{precision}"
            input:
                needed([variant], [precision]),
