"""An ONNX graph under construction: nodes and constants by name, and the document made of them.

Every node has one output, which has the node's own name. The onnx package is only imported when
the document is made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from alexnet.core.extras import import_extra

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 17  # of 2022: old enough for any current runtime
IR_VERSION = 8


class Node(NamedTuple):
    """An operator of ONNX, the names of its inputs, and its attributes."""

    name: str
    operator: str
    inputs: Sequence[str]
    attributes: Mapping[str, Any]


class GraphValue(NamedTuple):
    """An input or an output of a graph; a dimension that is a name is known at run time only."""

    name: str
    dtype: Literal["uint8", "float32"]
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class GraphBuilder:
    """The nodes so far, in the order in which they run, and the constants by name."""

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def add(
        self, name: str, operator: str, inputs: Sequence[str], attributes: Mapping[str, Any] = {}
    ) -> str:
        """Add a node; return its name, which is that of its output as well."""
        self.nodes.append(Node(name, operator, inputs, attributes))
        return name

    def constant(self, name: str, values: np.ndarray | np.generic) -> str:
        """Add a constant (an "initializer"); return its name."""
        self.constants[name] = np.asarray(values, order="C")
        return name


def to_document(
    graph: GraphBuilder,
    inputs: Sequence[GraphValue],
    outputs: Sequence[GraphValue],
    metadata: Mapping[str, str],
) -> "ModelProto":
    """Return a graph as an ONNX document, the same to the byte for the same arguments."""
    onnx = import_extra("onnx", "onnx")
    helper = onnx.helper
    nodes = [
        helper.make_node(node.operator, node.inputs, [node.name], node.name, **node.attributes)
        for node in graph.nodes
    ]
    initializers = [
        onnx.numpy_helper.from_array(values, name) for name, values in graph.constants.items()
    ]
    document = helper.make_model(
        helper.make_graph(
            nodes,
            "alexnet",
            [_value_info(value) for value in inputs],
            [_value_info(value) for value in outputs],
            initializers,
        ),
        producer_name="alexnet",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(document, dict(metadata))
    return document


def _value_info(value: GraphValue) -> Any:
    onnx = import_extra("onnx", "onnx")
    dtype = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
    return onnx.helper.make_tensor_value_info(value.name, dtype, value.shape)
