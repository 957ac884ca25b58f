"""Stage data: the demo set, the manifest, the calibration set, the npz inputs."""


rule make_demo:
    output:
        labels=f"{DEMO_ROOT}/val_label.txt",
        receipt="results/data/demo/demo.receipt.json",
    log:
        "results/logs/data/make_demo.log",
    threads: 2
    resources:
        **needs("make_demo"),
    params:
        settings=settings(seed=0),
        code=code("make_demo.py"),
        root=lambda wildcards, output: os.path.dirname(output.labels),
    shell:
        step(
            "make_demo.py",
            "--target_path {params.root:q} --seed 0 --workers {threads}",
            also="--folders {params.root:q}",
        )


rule index_shard:
    input:
        demo=demo_files,
        labels=label_files,
    output:
        manifest=f"{DATA}/manifests/{{shard}}.csv",
        receipt=f"{DATA}/manifests/{{shard}}.receipt.json",
    log:
        "results/logs/data/index_shard-{shard}.log",
    threads: threads_for_images
    resources:
        **needs("index_shard"),
    params:
        settings=settings(
            dataset={key: DATASET[key] for key in ("name", "limit", "on_fault")}, shards=SETTINGS["shards"]
        ),
        code=code("index_dataset.py"),
        arguments=lambda wildcards: index_arguments(),
    shell:
        step(
            "index_dataset.py",
            "{params.arguments:q} --shard {wildcards.shard} --manifest {output.manifest:q} --workers {threads}",
        )


localrules:
    index_dataset,


rule index_dataset:
    input:
        shards=manifests(),
    output:
        manifest=f"{DATA}/manifest.csv",
        receipt=f"{DATA}/manifest.receipt.json",
    log:
        "results/logs/data/index_dataset.log",
    params:
        settings=settings(),
        code=code("gather_manifest.py"),
    shell:
        step(
            "gather_manifest.py",
            "--shards {input.shards:q} --manifest {output.manifest:q}",
        )


rule sample_calibration:
    input:
        demo=demo_files,
    output:
        list=f"{DATA}/calibration.txt",
        digests=f"{DATA}/calibration.sha256",
        receipt=f"{DATA}/calibration.receipt.json",
    log:
        "results/logs/data/sample_calibration.log",
    resources:
        **needs("sample_calibration"),
    params:
        settings=settings(calibration=SETTINGS["calibration"]),
        code=code("sample_calibration.py"),
        folder=f"{DATA}/calibration/images",
        arguments=lambda wildcards: calibration_arguments(),
    shell:
        step(
            "sample_calibration.py",
            "{params.arguments:q} --list {output.list:q} --folder {params.folder:q} --workers {threads}",
            also="--folders {params.folder:q}",
        )


rule write_npz:
    input:
        manifest=lambda wildcards: manifests()[int(wildcards.shard)],
    output:
        list=f"{DATA}/lists/{{geometry}}-{{shard}}.txt",
        receipt=f"{DATA}/lists/{{geometry}}-{{shard}}.receipt.json",
    log:
        "results/logs/data/write_npz-{geometry}-{shard}.log",
    threads: threads_for_images
    resources:
        **needs("write_npz"),
    params:
        settings=lambda wildcards: settings(geometry=wildcards.geometry, shard=wildcards.shard, of=SETTINGS["shards"]),
        code=code("image2npz.py"),
        root=dataset_root(),
        folder=f"{DATA}/npz/{{geometry}}/{{shard}}",
        arguments=lambda wildcards: npz_arguments(wildcards),
    shell:
        step(
            "image2npz.py",
            "--dataset_path {params.root:q} --manifest {input.manifest:q} {params.arguments:q}"
            " --target_path {params.folder:q} --exact --text_path {output.list:q} --workers {threads}",
            also="--folders {params.folder:q}",
        )
