"""Stage model: weights and the exported graph."""


rule train_demo:
    input:
        current=get_current("train_demo"),
        demo=inputs.get_demo,
        labels="results/data/demo/images/val_label.txt",
    output:
        weights="results/model/{variant}/weights.pth",
        receipt="results/model/{variant}/train.receipt.json",
    log:
        "results/logs/model/train_demo-{variant}.log",
    # The longest chain of jobs begins here; what else there is fits beside it.
    priority: 2
    resources:
        mem_mb=ask.get_memory(4000),
        runtime=ask.get_minutes(60),
    params:
        **get_step("train_demo"),
        root=subpath(input.labels, parent=True),
    shell:
        record(
            "train_demo.py {params.arguments:q} --dataset_path {params.root:q} --save_path {output.weights:q} --seed 0",
            verified="{input.demo:q}",
        )


rule export_model:
    input:
        current=get_current("export_model"),
        weights=inputs.get_weights,
    output:
        graph="results/model/{variant}/{name}_{size}.onnx",
        description="results/model/{variant}/{name}_{size}.json",
        receipt="results/model/{variant}/{name}_{size}.receipt.json",
    log:
        "results/logs/model/export_model-{variant}-{name}_{size}.log",
    priority: 2
    resources:
        mem_mb=ask.get_memory(2000),
        runtime=ask.get_minutes(15),
    params:
        **get_step("export_model"),
        folder=subpath(output.graph, parent=True),
    shell:
        record("{params.command:q} {params.arguments:q} --save_dir {params.folder:q}")
