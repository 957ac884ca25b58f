"""A graph that was exported for one batch size, made to take any: the batch stands in constants, too."""

import math

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mnasbench.onnx_file import inferred_values


def free_batch(model: ModelProto, image: str, batch: int) -> ModelProto:
    """A copy of ``model`` whose input ``image`` has a free batch, with what followed from ``batch`` images mended.

    Targets of Reshape and Expand, sizes of Resize, and constants that are joined to the image's tensors. That the
    answers stay the same is for the caller to try.
    """
    shapes = _shapes(model, batch)
    freed = ModelProto()
    freed.CopyFrom(model)
    graph = freed.graph
    source = next(value for value in graph.input if value.name == image)
    source.type.tensor_type.shape.dim[0].dim_param = "batch"
    del graph.value_info[:]
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if _is_small(tensor)}
    constants |= {
        node.output[0]: numpy_helper.to_array(attribute.t)
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value" and _is_small(attribute.t)
    }
    mender = _Mender(freed, image, shapes, constants, batch)
    following = {image}
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        if following & set(node.input):
            following.update(node.output)
            mender.follow(node)
            graph.node.extend(mender.before(node, following))
        graph.node.append(node)
    return freed


def _is_small(tensor: TensorProto) -> bool:
    """Whether a constant may be a shape; weights need not be unpacked to be passed by."""
    return tensor.data_type == TensorProto.INT64 and int(np.prod(tensor.dims)) <= 16


def _shapes(model: ModelProto, batch: int) -> dict[str, list[int | None]]:
    """Shapes at the batch that the graph was exported for; a side that inference does not know is None."""
    return {
        value.name: [dim.dim_value if dim.dim_value > 0 else None for dim in value.type.tensor_type.shape.dim]
        for value in inferred_values(model, batch)
        if value.type.tensor_type.HasField("shape")
    } | {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}


def _place(before: int, sides: list[int], batch: int) -> tuple[int, int]:
    """The side of a reshaped tensor that holds the batch, and what stands before the batch within it.

    ``before``: the product of all sides before the batch. A side that is the batch alone is it; else it has become part
    of the side behind, or, as that is the last one, which products are summed along, of the one before.
    """
    products = [math.prod(sides[:axis]) for axis in range(len(sides) + 1)]
    for axis, side in enumerate(sides):
        if products[axis] == before and side == batch:
            return axis, 1
    for axis in range(len(sides) - 1):
        if products[axis] == before:
            return axis, 1
    for axis in range(len(sides)):
        if products[axis] < before <= products[axis + 1] and before % products[axis] == 0:
            return axis, before // products[axis]
    return 0, 1


class _Mender:
    def __init__(
        self,
        model: ModelProto,
        image: str,
        shapes: dict[str, list[int | None]],
        constants: dict[str, np.ndarray],
        batch: int,
    ) -> None:
        self._model, self._shapes, self._constants, self._batch = model, shapes, constants, batch
        self._made = 0
        self._places = {image: (0, 1)}

    def before(self, node: NodeProto, following: set[str]) -> list[NodeProto]:
        """Mend ``node``; gives the nodes that must stand before it."""
        if node.op_type == "Reshape":
            self._reshape(node)
        elif node.op_type == "Expand":
            self._expand(node)
        elif node.op_type == "Concat":
            return self._concat(node, following)
        elif node.op_type == "Resize" and len(node.input) > 3:
            return self._resize(node)
        return []

    def _constant(self, values: list[int]) -> str:
        self._made += 1
        name = f"{self._model.graph.name or 'graph'}_freed_{self._made}"
        self._model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def _reshape(self, node: NodeProto) -> None:
        """The side that holds the batch is left to be reckoned: then it is as much larger as the batch is."""
        target = self._constants.get(node.input[1])
        if target is None or not target.size:
            return
        output, place = self._shapes.get(node.output[0], []), self._places.get(node.output[0])
        sides = [int(side or 0) for side in output]
        if len(sides) == len(target) and all(sides) and place is not None:
            axis = place[0]
        elif target[0] % self._batch or target[0] in (0, -1):
            return
        else:
            sides, axis = [int(side) for side in target], 0
            if -1 in sides:  # the first side of what comes in is the batch, and is copied
                node.input[1] = self._constant([0, *sides[1:]])
                return
        node.input[1] = self._constant([*sides[:axis], -1, *sides[axis + 1 :]])

    def follow(self, node: NodeProto) -> None:
        """Note where the batch stands in what a node makes: its side, and what stands before it within that side."""
        source = next((name for name in node.input if name in self._places), None)
        shape = self._shapes.get(source or "", [])
        if source is None or not shape or None in shape:
            return
        sides = [int(side or 0) for side in shape]
        axis, within = self._places[source]
        for name in node.output:
            output = self._shapes.get(name, [])
            if node.op_type in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
                if output and None not in output:
                    before = math.prod(sides[:axis]) * within
                    self._places[name] = _place(before, [int(side or 0) for side in output], self._batch)
            elif node.op_type == "Transpose":
                permutation = next((list(one.ints) for one in node.attribute if one.name == "perm"), [])
                self._places[name] = (permutation.index(axis) if permutation else len(sides) - 1 - axis, within)
            else:
                # What joins, computes or takes out leaves the sides behind the batch where they are.
                self._places[name] = (max(0, axis + len(output) - len(sides)), within)

    def _expand(self, node: NodeProto) -> None:
        target = self._constants.get(node.input[1])
        if target is not None and target.size and target[0] == self._batch:
            node.input[1] = self._constant([1, *(int(side) for side in target[1:])])

    def _concat(self, node: NodeProto, following: set[str]) -> list[NodeProto]:
        """Constants of one image, such as a class token, are repeated for each."""
        axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
        moving = next((name for name in node.input if name in following), None)
        if moving is None or not axis:
            return []
        new: list[NodeProto] = []
        for place, name in enumerate(node.input):
            shape = self._shapes.get(name)
            if name in following or not shape or shape[0] != self._batch or None in shape:
                continue
            base = f"{node.output[0]}_{place}"
            names = [f"{base}_{part}" for part in ("shape", "batch", "target", "repeated")]
            new.append(helper.make_node("Shape", [moving], [names[0]]))
            new.append(helper.make_node("Gather", [names[0], self._constant([0])], [names[1]]))
            rest = self._constant([int(side or 1) for side in shape[1:]])
            new.append(helper.make_node("Concat", [names[1], rest], [names[2]], axis=0))
            new.append(helper.make_node("Expand", [name, names[2]], [names[3]]))
            node.input[place] = names[3]
        return new

    def _resize(self, node: NodeProto) -> list[NodeProto]:
        sizes = self._constants.get(node.input[3])
        if sizes is None or len(sizes) < 2 or sizes[0] != self._batch:
            return []
        base = node.output[0]
        names = [f"{base}_{part}" for part in ("shape", "batch", "sizes")]
        rest = self._constant([int(side) for side in sizes[1:]])
        new = [
            helper.make_node("Shape", [node.input[0]], [names[0]]),
            helper.make_node("Gather", [names[0], self._constant([0])], [names[1]]),
            helper.make_node("Concat", [names[1], rest], [names[2]], axis=0),
        ]
        node.input[3] = names[2]
        return new
