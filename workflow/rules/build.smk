"""Stage build: the conditioned graph, the compiler's file, the preprocessing file, the compiled model."""


localrules:
    write_build_config,


rule condition_model:
    input:
        current=get_current("condition_model"),
        graph="results/model/{variant}/{name}_{size}.onnx",
        description="results/model/{variant}/{name}_{size}.json",
        calibration=inputs.get_conditioning_images,
        chosen=names.calibration_receipt(SETTINGS),
    output:
        graph="results/condition/{variant}/{name}_{size}.onnx",
        description="results/condition/{variant}/{name}_{size}.json",
        certificate="results/condition/{variant}/{name}_{size}.condition.json",
        receipt="results/condition/{variant}/{name}_{size}.receipt.json",
    log:
        "results/logs/build/condition_model-{variant}-{name}_{size}.log",
    priority: 2
    threads: 2
    resources:
        mem_mb=ask.get_memory(3000),
        runtime=ask.get_minutes(20, images_a_minute=100, of="calibration"),
    params:
        **get_step("condition_model"),
    shell:
        record(
            "condition_model.py {input.description:q} {params.arguments:q} --output {output.graph:q}",
            verified="{input.chosen:q}",
        )


rule write_build_config:
    input:
        current=get_current("write_build_config"),
        description=inputs.get_graph_description,
    output:
        build="results/build/{variant}/{precision}/build.yaml",
        vdsp_params="results/build/{variant}/{precision}/vdsp_params.json",
        receipt="results/build/{variant}/{precision}/config.receipt.json",
    log:
        "results/logs/build/write_build_config-{variant}-{precision}.log",
    params:
        **get_step("write_build_config"),
    shell:
        record(
            "write_build_config.py {params.arguments:q} --model {input.description:q}"
            " --build_file {output.build:q} --vdsp_params {output.vdsp_params:q}"
        )


rule compile_model:
    input:
        current=get_current("compile_model"),
        build="results/build/{variant}/{precision}/build.yaml",
        graph=inputs.get_graph,
        calibration=inputs.get_calibration_list,
        chosen=inputs.get_calibration_receipt,
        own_code=inputs.get_own_code,
    output:
        # Names the compiled files, which stand in a folder of the compiler's; the receipt has them one by one.
        compiled="results/build/{variant}/{precision}/compiled.json",
        receipt="results/build/{variant}/{precision}/compile.receipt.json",
    log:
        "results/logs/build/compile_model-{variant}-{precision}.log",
    priority: 2
    threads: 2
    resources:
        mem_mb=ask.get_memory(4000),
        runtime=ask.get_minutes(20, images_a_minute=60, of="calibration"),
    params:
        **get_step("compile_model"),
    shell:
        record(
            "{params.command:q} {input.build:q} --json {output.compiled:q}",
            verified="{input.chosen:q}",
        )
