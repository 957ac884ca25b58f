import numpy as np
import pytest

from mnasbench.preprocessing import Preprocessing
from small_classifier import float_classifier, package, quantized


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """A small int8 model of 32 x 32 images, compiled."""
    folder = tmp_path_factory.mktemp("compiled")
    return package(folder, quantized(float_classifier(), folder))


@pytest.fixture(scope="session")
def compiled_for_openvino(tmp_path_factory):
    """The int8 model as OpenVINO runs it."""
    folder = tmp_path_factory.mktemp("openvino")
    return package(folder, quantized(float_classifier(), folder), "openvino")


@pytest.fixture(scope="session")
def compiled_float(tmp_path_factory):
    """The same model in fp32."""
    return package(tmp_path_factory.mktemp("compiled"), float_classifier())


@pytest.fixture(scope="session")
def params():
    """Preprocessing of images that have the model's size."""
    return Preprocessing(resize=32, crop=32)


@pytest.fixture(scope="session")
def images():
    """Different images of the model's size."""
    return list(np.random.default_rng(0).integers(0, 256, (24, 3, 32, 32), dtype=np.uint8))
