import time

import numpy as np
import pytest

from mnasbench.data.npz import read_output, write_npz
from mnasbench.data.preprocess import normalise
from mnasbench.errors import DatasetError, InputError, MeasurementError, OutputError
from mnasbench.run import accuracy
from mnasbench.run.accuracy import output_names, run_accuracy
from mnasbench.run.session import Engine


@pytest.fixture
def inputs(tmp_path, images):
    """Npz inputs in two class folders."""
    paths = [tmp_path / "npz" / f"n0{i % 2}" / f"image_{i}.npz" for i in range(11)]
    for path, pixels in zip(paths, images, strict=False):
        write_npz(path, pixels)
    return paths


def scores(folder):
    return {path.relative_to(folder).as_posix(): read_output(path) for path in sorted(folder.rglob("*.npz"))}


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.npz"))}


@pytest.mark.parametrize("instances", [1, 3])
def test_each_input_gets_its_own_scores(instances, compiled_float, params, inputs, images, tmp_path):
    run = run_accuracy(compiled_float, params, inputs, tmp_path / "out", instances=instances, batch=4)
    assert (run.images, run.resumed, run.digests) == (11, 0, compiled_float.digests)
    found = scores(tmp_path / "out")
    assert sorted(found) == sorted(f"n0{i % 2}/image_{i}.npz" for i in range(11))
    engine = Engine(compiled_float)
    for i in range(11):
        expected = engine.infer(normalise(images[i][None], params))[0]
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


def test_an_interrupted_run_goes_on_where_it_was(compiled, params, inputs, tmp_path, monkeypatch):
    run_accuracy(compiled, params, inputs, tmp_path / "whole", batch=2)
    calls = []
    infer = Engine.infer

    def dies(self, tensor):
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return infer(self, tensor)

    monkeypatch.setattr(Engine, "infer", dies)
    with pytest.raises(KeyboardInterrupt):
        run_accuracy(compiled, params, inputs, tmp_path / "out", batch=2)
    monkeypatch.undo()
    before = contents(tmp_path / "out")
    assert 0 < len(before) < 11
    run = run_accuracy(compiled, params, inputs, tmp_path / "out", batch=2)
    assert run.resumed == len(before)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    again = run_accuracy(compiled, params, inputs, tmp_path / "out", batch=2)
    assert (again.resumed, again.throughput_qps) == (11, None)


def test_outputs_of_another_model_or_input_are_made_again(compiled, compiled_float, params, inputs, images, tmp_path):
    run_accuracy(compiled, params, inputs, tmp_path / "out")
    assert run_accuracy(compiled_float, params, inputs, tmp_path / "out").resumed == 0
    write_npz(inputs[0], images[20])
    assert run_accuracy(compiled_float, params, inputs, tmp_path / "out").resumed == 0


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


def test_an_output_that_was_not_written_is_an_error(compiled, params, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(accuracy, "_write_output", lambda path, row: None)
    with pytest.raises(MeasurementError, match=r"missing: n00/image_0\.npz, .* \(11 such\)"):
        run_accuracy(compiled, params, inputs, tmp_path / "out")


def test_a_damaged_input_ends_the_run_and_is_named(compiled, params, inputs, tmp_path):
    inputs[5].write_bytes(inputs[5].read_bytes()[:1000])
    with pytest.raises(DatasetError, match="image_5"):
        run_accuracy(compiled, params, inputs, tmp_path / "out", instances=2)


def test_an_input_that_is_not_there_is_named_before_anything_is_written(compiled, params, inputs, tmp_path):
    with pytest.raises(InputError, match="absent"):
        run_accuracy(compiled, params, [*inputs, tmp_path / "absent.npz"], tmp_path / "out")
    assert not contents(tmp_path / "out")


def test_two_inputs_with_one_output_are_an_error(tmp_path):
    with pytest.raises(InputError, match="two inputs"):
        output_names([tmp_path / "a.npz", tmp_path / "a.raw"])


def test_the_output_of_an_image_that_left_the_dataset_goes_with_it(compiled, params, inputs, tmp_path):
    run_accuracy(compiled, params, inputs, tmp_path / "out")
    run_accuracy(compiled, params, inputs[:-1], tmp_path / "out")
    assert set(scores(tmp_path / "out")) == {f"n0{i % 2}/image_{i}.npz" for i in range(10)}


def test_what_a_power_cut_emptied_is_made_again(compiled, params, inputs, tmp_path):
    run_accuracy(compiled, params, inputs, tmp_path / "out", batch=2)
    whole = contents(tmp_path / "out")
    (tmp_path / "out/n01/image_3.npz").write_bytes(b"")
    (tmp_path / "out/n00/image_8.npz").write_bytes(whole["n00/image_8.npz"][:200])
    assert run_accuracy(compiled, params, inputs, tmp_path / "out", batch=2).resumed == 7  # two batches of two
    assert contents(tmp_path / "out") == whole
    (tmp_path / "out" / accuracy._MARKER).write_bytes(b"")
    assert run_accuracy(compiled, params, inputs, tmp_path / "out", batch=2).resumed == 0
    assert contents(tmp_path / "out") == whole


def test_files_that_are_waited_for_get_a_second_worker_a_session(compiled, params, inputs, tmp_path, monkeypatch):
    run_accuracy(compiled, params, inputs, tmp_path / "fast")
    at_once, most = [], []
    read = accuracy.PixelReader.read

    def waits(self, path):
        at_once.append(path)
        most.append(len(at_once))
        time.sleep(0.05)
        at_once.remove(path)
        return read(self, path)

    monkeypatch.setattr(accuracy.PixelReader, "read", waits)
    run_accuracy(compiled, params, inputs, tmp_path / "slow", instances=2)
    assert most[:2] == [1, 1]  # they take turns
    assert max(most) > 2
    assert contents(tmp_path / "slow") == contents(tmp_path / "fast")


def test_an_output_is_not_written_through_a_link(compiled, params, inputs, tmp_path):
    run_accuracy(compiled, params, inputs, tmp_path / "out")
    other = tmp_path / "other"
    other.write_bytes(b"kept")
    output = tmp_path / "out/n00/image_0.npz"
    output.unlink()
    output.symlink_to(other)
    with pytest.raises(OutputError, match=r"image_0\.npz: cannot be written"):
        run_accuracy(compiled, params, inputs, tmp_path / "out")
    assert other.read_bytes() == b"kept"
