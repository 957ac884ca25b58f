"""Stage data: the demo set, the manifest, the calibration set, the npz inputs."""


localrules:
    index_dataset,


rule make_demo:
    input:
        current=get_current("make_demo"),
    output:
        labels="results/data/demo/images/val_label.txt",
        receipt="results/data/demo/demo.receipt.json",
    log:
        "results/logs/data/make_demo.log",
    threads: 2
    resources:
        mem_mb=ask.get_memory(500, a_thread=300),
        runtime=ask.get_minutes(10),
    params:
        **get_step("make_demo"),
        root=subpath(output.labels, parent=True),
    shell:
        record(
            "make_demo.py --target_path {params.root:q} --seed 0 --workers {threads}",
            folders="{params.root:q}",
        )


rule index_shard:
    input:
        current=get_current("index_shard"),
        demo=inputs.get_demo,
        labels=inputs.get_label_files,
    output:
        manifest=f"{DATA}/manifests/{{shard}}.csv",
        classes=f"{DATA}/manifests/{{shard}}.classes.json",
        receipt=f"{DATA}/manifests/{{shard}}.receipt.json",
    log:
        "results/logs/data/index_shard-{shard}.log",
    threads: ask.get_threads
    resources:
        mem_mb=ask.get_memory(500, a_thread=400),
        runtime=ask.get_minutes(5, images_a_minute=6000),
    params:
        **get_step("index_shard"),
    shell:
        record(
            "index_dataset.py {params.arguments:q} --shard {wildcards.shard} --manifest {output.manifest:q}"
            " --workers {threads}"
        )


rule index_dataset:
    input:
        current=get_current("index_dataset"),
        shards=inputs.get_shard_manifests,
        classes=inputs.get_shard_classes,
    output:
        manifest=f"{DATA}/manifest.csv",
        classes=f"{DATA}/manifest.classes.json",
        receipt=f"{DATA}/manifest.receipt.json",
    log:
        "results/logs/data/index_dataset.log",
    params:
        **get_step("index_dataset"),
    shell:
        record("gather_manifest.py --shards {input.shards:q} --manifest {output.manifest:q}")


rule sample_calibration:
    input:
        current=get_current("sample_calibration"),
        demo=inputs.get_demo,
    output:
        list=f"{DATA}/calibration.txt",
        digests=f"{DATA}/calibration.sha256",
        receipt=f"{DATA}/calibration.receipt.json",
    log:
        "results/logs/data/sample_calibration.log",
    resources:
        mem_mb=ask.get_memory(800, a_thread=400),
        runtime=ask.get_minutes(10, images_a_minute=1000, of="calibration"),
    params:
        **get_step("sample_calibration"),
        folder=f"{DATA}/calibration/images",
    shell:
        record(
            "sample_calibration.py {params.arguments:q} --list {output.list:q} --folder {params.folder:q}"
            " --workers {threads}",
            folders="{params.folder:q}",
        )


rule write_npz:
    input:
        current=get_current("write_npz"),
        manifest=inputs.get_shard_manifest,
        own_code=inputs.get_own_code_of_geometry,
    output:
        images=f"{DATA}/npz/{{geometry}}/{{shard}}.npz",
        list=f"{DATA}/lists/{{geometry}}-{{shard}}.txt",
        receipt=f"{DATA}/lists/{{geometry}}-{{shard}}.receipt.json",
    log:
        "results/logs/data/write_npz-{geometry}-{shard}.log",
    threads: ask.get_threads
    resources:
        mem_mb=ask.get_memory(500, a_thread=600),
        runtime=ask.get_minutes(5, images_a_minute=6000),
    params:
        **get_step("write_npz"),
        root=names.dataset_root(SETTINGS),
    shell:
        record(
            "image2npz.py --dataset_path {params.root:q} --manifest {input.manifest:q} {params.arguments:q}"
            " --shard_file {output.images:q} --text_path {output.list:q} --workers {threads}"
        )


# As vamp reads them, and where whole images of different sizes are read.
rule write_image_npz:
    input:
        current=get_current("write_image_npz"),
        manifest=inputs.get_shard_manifest,
        own_code=inputs.get_own_code_of_geometry,
    output:
        list=f"{DATA}/image_lists/{{geometry}}-{{shard}}.txt",
        receipt=f"{DATA}/image_lists/{{geometry}}-{{shard}}.receipt.json",
    log:
        "results/logs/data/write_image_npz-{geometry}-{shard}.log",
    threads: ask.get_threads
    resources:
        mem_mb=ask.get_memory(500, a_thread=600),
        runtime=ask.get_minutes(5, images_a_minute=6000),
    params:
        **get_step("write_image_npz"),
        root=names.dataset_root(SETTINGS),
        folder=f"{DATA}/image_npz/{{geometry}}/{{shard}}",
    shell:
        record(
            "image2npz.py --dataset_path {params.root:q} --manifest {input.manifest:q} {params.arguments:q}"
            " --target_path {params.folder:q} --text_path {output.list:q} --workers {threads}",
            folders="{params.folder:q}",
        )
