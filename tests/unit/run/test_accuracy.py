import numpy as np
import pytest

from mnasbench.data.listed import names_of_files
from mnasbench.data.npz import read_output, write_npz
from mnasbench.data.preprocess import normalise
from mnasbench.data.shard import new_shard, read_scores
from mnasbench.errors import DatasetError, InputError, MeasurementError, OutputError
from mnasbench.run.accuracy import run_accuracy
from mnasbench.run.session import ModelSession


@pytest.fixture
def inputs(tmp_path, images):
    """Npz inputs in two class folders."""
    paths = [tmp_path / "npz" / f"n0{i % 2}" / f"image_{i}.npz" for i in range(11)]
    for path, pixels in zip(paths, images, strict=False):
        write_npz(path, pixels)
    return paths


@pytest.fixture
def shard(tmp_path, images):
    """The same images in one shard."""
    names = [f"val/n0{i % 2}/image_{i}.JPEG" for i in range(11)]
    with new_shard(tmp_path / "shard.npz", names, "input_0", images[0].shape, np.uint8) as shard:
        shard.add_crc(shard.rows.write(0, np.stack(images[:11])), 11)
    return tmp_path / "shard.npz"


def scores(folder):
    return {path.relative_to(folder).as_posix(): read_output(path) for path in sorted(folder.rglob("*.npz"))}


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.npz"))}


@pytest.mark.parametrize("instances", [1, 3])
def test_each_input_gets_its_own_scores(instances, compiled_float, params, inputs, images, tmp_path):
    run = run_accuracy(compiled_float, params, inputs, tmp_path / "out", instances=instances, batch=4)
    assert (run.images, run.digests) == (11, compiled_float.digests)
    found = scores(tmp_path / "out")
    assert sorted(found) == sorted(f"n0{i % 2}/image_{i}.npz" for i in range(11))
    session = ModelSession(compiled_float)
    for i in range(11):
        expected = session.infer(normalise(images[i][None], params))[0]
        np.testing.assert_allclose(found[f"n0{i % 2}/image_{i}.npz"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model", ["compiled", "compiled_for_openvino", "compiled_float"])
def test_neither_instances_nor_batches_change_a_score(model, params, inputs, tmp_path, request):
    compiled = request.getfixturevalue(model)
    run_accuracy(compiled, params, inputs, tmp_path / "one")
    run_accuracy(compiled, params, inputs, tmp_path / "many", instances=3, batch=4, threads=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "many")


def test_outputs_are_npz_that_numpy_reads(compiled, params, inputs, tmp_path):
    run_accuracy(compiled, params, inputs[:1], tmp_path / "out")
    with np.load(tmp_path / "out" / "image_0.npz", allow_pickle=False) as archive:
        assert archive.files == ["output_0"]
        assert (archive["output_0"].shape, archive["output_0"].dtype) == ((1, 10), np.float32)


def test_an_output_that_belongs_to_no_input_is_an_error(compiled, params, inputs, tmp_path):
    write_npz(tmp_path / "out" / "n00" / "stranger.npz", np.zeros(1), "output_0")
    with pytest.raises(MeasurementError, match=r"of no input: n00/stranger\.npz \(1 such\)"):
        run_accuracy(compiled, params, inputs, tmp_path / "out")


def test_a_link_that_leads_out_of_the_folder_is_refused(compiled, params, inputs, tmp_path):
    outside = tmp_path / "outside" / "image_0.npz"
    write_npz(outside, np.zeros(1), "output_0")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / inputs[0].parent.name).symlink_to(outside.parent)
    with pytest.raises(OutputError, match=r"leads out of .*out by a link; remove the link"):
        run_accuracy(compiled, params, inputs, tmp_path / "out")
    assert list(outside.parent.iterdir()) == [outside]
    assert list((tmp_path / "out").iterdir()) == [tmp_path / "out" / inputs[0].parent.name]


def test_a_damaged_input_ends_the_run_and_is_named(compiled, params, inputs, tmp_path):
    inputs[5].write_bytes(inputs[5].read_bytes()[:1000])
    with pytest.raises(DatasetError, match="image_5"):
        run_accuracy(compiled, params, inputs, tmp_path / "out", instances=2)


def test_an_input_that_is_not_there_is_named_before_anything_is_written(compiled, params, inputs, tmp_path):
    with pytest.raises(InputError, match="absent"):
        run_accuracy(compiled, params, [*inputs, tmp_path / "absent.npz"], tmp_path / "out")
    assert not contents(tmp_path / "out")


def test_a_run_that_was_interrupted_leaves_nothing_and_the_next_makes_all(
    compiled, params, shard, tmp_path, monkeypatch
):
    calls = []
    infer = ModelSession.infer

    def dies(self, tensor):
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return infer(self, tensor)

    monkeypatch.setattr(ModelSession, "infer", dies)
    with pytest.raises(KeyboardInterrupt):
        run_accuracy(compiled, params, [shard], tmp_path / "out" / "s.npz", batch=2)
    monkeypatch.undo()
    assert not (tmp_path / "out").exists()
    run_accuracy(compiled, params, [shard], tmp_path / "out" / "s.npz", batch=2)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["s.npz"]


def test_a_former_output_is_replaced_and_never_through_a_link(compiled, params, inputs, tmp_path):
    run_accuracy(compiled, params, inputs, tmp_path / "out")
    whole = contents(tmp_path / "out")
    other = tmp_path / "other"
    other.write_bytes(b"kept")
    (tmp_path / "out/n00/image_0.npz").unlink()
    (tmp_path / "out/n00/image_0.npz").symlink_to(other)
    (tmp_path / "out/n01/image_1.npz").write_bytes(b"")
    run_accuracy(compiled, params, inputs, tmp_path / "out")
    assert other.read_bytes() == b"kept" and contents(tmp_path / "out") == whole


@pytest.mark.parametrize("model", ["compiled", "compiled_for_openvino", "compiled_float"])
def test_a_shard_gives_the_scores_of_its_images_one_by_one(model, params, shard, inputs, images, tmp_path, request):
    compiled = request.getfixturevalue(model)
    run_accuracy(compiled, params, inputs, tmp_path / "one")
    single = scores(tmp_path / "one")
    for load in ({}, {"instances": 3, "batch": 4, "threads": 2}, {"batch": 64}):
        run = run_accuracy(compiled, params, [shard], tmp_path / "many.npz", **load)
        names, rows = read_scores(tmp_path / "many.npz")
        assert (run.images, names) == (11, [f"val/n0{i % 2}/image_{i}.JPEG" for i in range(11)])
        for name, row in zip(names, rows, strict=True):
            np.testing.assert_array_equal(row, single[f"{name[4:-5]}.npz"])


def test_a_folder_gets_a_file_of_scores_for_a_shard_and_one_for_an_image(compiled, params, shard, inputs, tmp_path):
    run = run_accuracy(compiled, params, [inputs[3], shard, inputs[0]], tmp_path / "out", batch=4)
    assert run.images == 13
    names, rows = read_scores(tmp_path / "out" / "shard.npz")
    assert len(names) == 11
    np.testing.assert_array_equal(read_output(tmp_path / "out/npz/n01/image_3.npz"), rows[3])
    np.testing.assert_array_equal(read_output(tmp_path / "out/npz/n00/image_0.npz"), rows[0])


def test_a_damaged_shard_leaves_no_scores(compiled, params, shard, images, tmp_path):
    content = shard.read_bytes()
    at = content.index(images[10].tobytes()) + 50
    shard.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with pytest.raises(DatasetError, match=r"shard\.npz: has a damaged input_0"):
        run_accuracy(compiled, params, [shard], tmp_path / "s.npz", batch=4)
    assert not (tmp_path / "s.npz").exists()


def test_two_inputs_with_one_output_are_an_error(compiled, params, shard, tmp_path):
    with pytest.raises(InputError, match="two inputs"):
        names_of_files([tmp_path / "a.npz", tmp_path / "a.raw"])
    other = tmp_path / "again.npz"
    other.write_bytes(shard.read_bytes())
    with pytest.raises(InputError, match=r"image_0\.JPEG: two listed images have this name"):
        run_accuracy(compiled, params, [shard, other], tmp_path / "s.npz")
