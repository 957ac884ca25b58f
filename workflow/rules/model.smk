"""Stage model: weights and the exported graph."""


rule train_demo:
    input:
        demo=demo_files,
        labels=f"{DEMO_ROOT}/val_label.txt",
    output:
        weights="results/model/{variant}/weights.pth",
        receipt="results/model/{variant}/train.receipt.json",
    log:
        "results/logs/model/train_demo-{variant}.log",
    # The longest chain of jobs begins here; what else there is fits beside it.
    priority: 2
    resources:
        **needs("train_demo"),
    params:
        settings=lambda wildcards: settings(
            library=MODELS[wildcards.variant].library, name=MODELS[wildcards.variant].name, seed=0
        ),
        code=code("train_demo.py"),
        model=lambda wildcards: ["--model_library", MODELS[wildcards.variant].library]
        + ["--model_name", MODELS[wildcards.variant].name],
        root=lambda wildcards, input: os.path.dirname(input.labels),
    shell:
        step(
            "train_demo.py",
            "{params.model:q} --dataset_path {params.root:q} --save_path {output.weights:q} --seed 0",
            also="--verified {input.demo:q}",
        )


rule export_model:
    input:
        weights=lambda wildcards: weights_file(wildcards.variant) or [],
    output:
        graph="results/model/{variant}/{name}_{size}.onnx",
        description="results/model/{variant}/{name}_{size}.json",
        receipt="results/model/{variant}/{name}_{size}.receipt.json",
    log:
        "results/logs/model/export_model-{variant}-{name}_{size}.log",
    priority: 2
    resources:
        **needs("export_model"),
    params:
        settings=lambda wildcards: settings(
            library=MODELS[wildcards.variant].library,
            name=wildcards.name,
            size=wildcards.size,
            weights=MODELS[wildcards.variant].weights if weights_file(wildcards.variant) is None else "file",
            sha256=MODELS[wildcards.variant].sha256,
        ),
        code=code("export_timm_torchvision_model.py"),
        arguments=lambda wildcards: export_arguments(wildcards.variant),
        folder="results/model/{variant}",
    shell:
        step(
            "export_timm_torchvision_model.py",
            "--model_name {wildcards.name:q} --size {wildcards.size} {params.arguments:q} --save_dir {params.folder:q}",
        )
