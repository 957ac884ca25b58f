"""Stage build: the compiler's file, the preprocessing file, the compiled model."""


localrules:
    write_build_config,


rule write_build_config:
    input:
        description=lambda wildcards: f"{exported(wildcards.variant)}.json",
    output:
        build="results/build/{variant}/{precision}/build.yaml",
        vdsp_params="results/build/{variant}/{precision}/vdsp_params.json",
        receipt="results/build/{variant}/{precision}/config.receipt.json",
    log:
        "results/logs/build/write_build_config-{variant}-{precision}.log",
    params:
        settings=lambda wildcards: settings(arguments=build_arguments(wildcards.variant, wildcards.precision)),
        code=code("write_build_config.py"),
        arguments=lambda wildcards: build_arguments(wildcards.variant, wildcards.precision),
    shell:
        step(
            "write_build_config.py",
            "{params.arguments:q} --model {input.description:q}"
            " --build_file {output.build:q} --vdsp_params {output.vdsp_params:q}",
        )


rule compile_model:
    input:
        build="results/build/{variant}/{precision}/build.yaml",
        graph=lambda wildcards: f"{exported(wildcards.variant)}.onnx",
        calibration=lambda wildcards: calibration_list(wildcards.precision),
        chosen=lambda wildcards: calibration_receipt(wildcards.precision),
    output:
        # The compiled files stand in a folder named as the compiler names it; the receipt has them one by one.
        receipt="results/build/{variant}/{precision}/compile.receipt.json",
    log:
        "results/logs/build/compile_model-{variant}-{precision}.log",
    priority: 2
    threads: 2
    resources:
        **needs("compile_model"),
    params:
        settings=lambda wildcards: settings(compiler=compiler(wildcards.variant, wildcards.precision)),
        code=lambda wildcards: compiler_code(wildcards.precision),
        command=lambda wildcards: compiler(wildcards.variant, wildcards.precision),
        made=lambda wildcards: compiled_files(wildcards.variant, wildcards.precision),
    shell:
        step(
            "{params.command}",
            "{input.build:q}",
            also="{params.made:q} --verified {input.chosen:q}",
        )
