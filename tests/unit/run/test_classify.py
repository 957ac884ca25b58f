import numpy as np
import pytest
from PIL import Image

from mnasbench.data.npz import read_output, write_npz
from mnasbench.data.preprocess import pixels_of
from mnasbench.errors import DatasetError, SettingsError
from mnasbench.preprocessing import Preprocessing
from mnasbench.run.accuracy import run_accuracy
from mnasbench.run.classify import classify, result_lines, write_result_text
from mnasbench.run.scores import best_classes, softmax

NAMES = [f"class {i}" for i in range(10)]
WHOLE = Preprocessing(resize=40, crop=32)


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"p{i}.png" for i in range(7)]
    for i, path in enumerate(paths):
        pixels = np.random.default_rng(i).integers(0, 256, (50 + i, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_both_roads_give_the_same_answers(batch, compiled, params, files, tmp_path):
    inputs = [tmp_path / "npz" / f"{path.stem}.npz" for path in files]
    for path, target in zip(files, inputs, strict=True):
        write_npz(target, pixels_of(path, WHOLE))
    run_accuracy(compiled, params, inputs, tmp_path / "out", batch=batch)
    predictions = list(classify(compiled, WHOLE, files, batch=batch, k=3))
    assert [prediction.path for prediction in predictions] == files
    for prediction in predictions:
        probabilities = softmax(read_output(tmp_path / "out" / f"{prediction.path.stem}.npz"))
        assert list(prediction.classes) == best_classes(probabilities[None], 3)[0].tolist()
        assert prediction.probabilities == tuple(float(probabilities[i]) for i in prediction.classes)


def test_the_result_text_is_the_vendors(compiled, files, tmp_path):
    predictions = list(classify(compiled, WHOLE, files[:2]))
    target = tmp_path / "result.txt"
    write_result_text(target, predictions, NAMES)
    lines = target.read_text().splitlines()
    assert len(lines) == 10
    best, probability = predictions[0].classes[0], predictions[0].probabilities[0]
    assert lines[0] == f"{files[0]}: Relay top-0 id: {best}, prob: {probability:.8f}, class name: class {best}"
    assert result_lines(predictions[1], NAMES).splitlines() == lines[5:]


def test_equal_scores_stand_in_class_order():
    assert best_classes(np.array([[0.1, 0.4, 0.4, 0.1]], dtype=np.float32), 3).tolist() == [[1, 2, 0]]


def test_softmax_is_safe_for_large_scores():
    rows = softmax(np.array([[1e4, 0.0], [-1e4, -1e4]], dtype=np.float32))
    np.testing.assert_allclose(rows, [[1, 0], [0.5, 0.5]])


def test_faults_are_named(compiled, files, tmp_path):
    files[3].write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"p3\.png"):
        list(classify(compiled, WHOLE, files))
    with pytest.raises(SettingsError, match="only 1 class names"):
        write_result_text(tmp_path / "r.txt", classify(compiled, WHOLE, files[:1], k=10), NAMES[:1])
