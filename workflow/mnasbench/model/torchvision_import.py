"""torchvision, importable beside a torch that its compiled extension was not built for.

torchvision's wheels are built against one torch; beside another build (the CPU wheel, say) the extension does
not load, and ``import torchvision`` then fails where it registers shape functions for two operators that do
not exist. Declaring their schemas first is enough for everything that is not detection. Import it from here:

    from mnasbench.model.torchvision_import import torchvision

timm imports torchvision itself, so ``import_timm`` stands here too.
"""

import importlib.machinery
import importlib.util
from pathlib import Path
from types import ModuleType

import torch

__all__ = ["import_timm", "torchvision"]


def _extension_loads() -> bool:
    package = importlib.util.find_spec("torchvision")
    if package is None or package.origin is None:
        return False
    suffixes = importlib.machinery.EXTENSION_SUFFIXES
    extensions = [Path(package.origin).with_name("_C" + suffix) for suffix in suffixes]
    for extension in filter(Path.is_file, extensions):
        try:
            torch.ops.load_library(str(extension))
        except OSError:
            return False
        return hasattr(torch.ops.torchvision, "nms")
    return False


if not _extension_loads():
    # The Library object must outlive the import: its schemas vanish with it.
    _schemas = torch.library.Library("torchvision", "FRAGMENT")
    _schemas.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _schemas.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import torchvision  # noqa: E402 - the schemas must stand before this
import torchvision.models  # noqa: E402


def import_timm() -> ModuleType:
    """timm, imported where it is wanted: it takes a second."""
    import timm

    module: ModuleType = timm
    return module
