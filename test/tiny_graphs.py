"""Two tiny ONNX graphs with the inputs, outputs and metadata of an exported network.

The detector reports one box in the picture's middle with the score of the picture's brightness, and passes
on two features. The decoder lays 21 joints and V vertices out from them, by formulas simple enough to
check by hand.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from handos_ros.hand_model.model import load_hand_model

ABOUT = {
    "format": "2", "model": "tiny", "configuration": "tiny", "hand_model": "anny",
    "long_side": "64", "stride": "32",
    "hand_model_hash": load_hand_model().fingerprint(coarse=True),
}  # fmt: skip


def write_graphs(folder, *, vertices=1000, **about):
    """Write detector.onnx and decoder.onnx; `about` changes metadata, None leaves an entry out."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {f"handos.{k}": v for k, v in {**ABOUT, **about}.items() if v is not None}
    for name, model in (("detector", _detector()), ("decoder", _decoder(vertices))):
        helper.set_model_props(model, about)
        onnx.checker.check_model(model)
        onnx.save(model, folder / f"{name}.onnx")
    return folder


def _constant(name, values, kind):
    return numpy_helper.from_array(np.array(values, kind), name)


def _detector():
    nodes = [
        helper.make_node("Cast", ["picture"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "white"], ["light"]),
        helper.make_node("ReduceMean", ["light"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "one"], ["brightness"]),
        helper.make_node("Mul", ["brightness", "few"], ["scores"]),
        helper.make_node("Identity", ["places"], ["boxes"]),
        # A feature per colour, (1, 3), and a map of the picture's size, to see that sizes are free.
        helper.make_node("ReduceMean", ["light"], ["colour"], axes=[1, 2], keepdims=0),
        helper.make_node("Transpose", ["light"], ["map"], perm=[0, 3, 1, 2]),
    ]
    constants = [
        _constant("white", 255, "float32"),
        _constant("one", [1], "int64"),
        _constant("few", [1, 0.25], "float32"),
        _constant("places", [[0.5, 0.5, 0.5, 0.5], [0.25, 0.25, 0.2, 0.2]], "float32"),
    ]
    return _model(
        nodes, constants, [("picture", TensorProto.UINT8, [1, "h", "w", 3])],
        [("boxes", TensorProto.FLOAT, [2, 4]), ("scores", TensorProto.FLOAT, [2]),
         ("colour", TensorProto.FLOAT, [1, 3]), ("map", TensorProto.FLOAT, [1, 3, "h", "w"])],
    )  # fmt: skip


def _decoder(vertices):
    rng = np.random.default_rng(0)
    points = lambda count: _tile(rng.normal(0, 0.05, (1, count, 3)))  # noqa: E731
    nodes = [
        # Joints in a fan over the box: centre + spread * size.
        helper.make_node("Slice", ["boxes", "zero", "two", "axis"], ["centre"]),
        helper.make_node("Slice", ["boxes", "two", "four", "axis"], ["size"]),
        helper.make_node("Unsqueeze", ["centre", "axis"], ["centre1"]),
        helper.make_node("Unsqueeze", ["size", "axis"], ["size1"]),
        helper.make_node("Mul", ["size1", "spread"], ["fan"]),
        helper.make_node("Add", ["centre1", "fan"], ["joints_2d"]),
        helper.make_node("Slice", ["boxes", "zero", "one", "axis"], ["first"]),
        helper.make_node("Mul", ["first", "no_number"], ["zeros"]),
        # Every joint's score is the picture's red; the scale grows with the query's number.
        helper.make_node("Slice", ["colour", "zero", "one", "axis"], ["red"]),
        helper.make_node("Add", ["zeros", "red"], ["reds"]),
        helper.make_node("Mul", ["reds", "ones21"], ["joint_scores"]),
        # The decoder believes what the picture's green says: 0.5 in the logit where there is half of it.
        helper.make_node("Slice", ["colour", "one", "two", "axis"], ["green"]),
        helper.make_node("Add", ["zeros", "green"], ["greens"]),
        helper.make_node("Squeeze", ["greens", "axis"], ["presence_logits"]),
        helper.make_node("Unsqueeze", ["zeros", "axis"], ["zeros1"]),
        helper.make_node("Add", ["zeros1", "joints"], ["joints_3d"]),
        helper.make_node("Add", ["zeros1", "points"], ["vertices"]),
        helper.make_node("Identity", ["centre"], ["root_2d"]),
        helper.make_node("ReduceMax", ["map"], ["top"], keepdims=0),
        helper.make_node("Cast", ["queries"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["numbers", "top"], ["more"]),
        helper.make_node("Mul", ["more", "hundred"], ["scale"]),
    ]
    spread = np.stack([np.linspace(-0.4, 0.4, 21), np.cos(np.arange(21)) * 0.4], 1)[None]
    constants = [
        _constant("zero", [0], "int64"), _constant("one", [1], "int64"), _constant("two", [2], "int64"),
        _constant("four", [4], "int64"), _constant("axis", [1], "int64"),
        _constant("spread", spread, "float32"), _constant("no_number", [0], "float32"),
        _constant("ones21", np.ones(21), "float32"), _constant("hundred", 100, "float32"),
        _constant("joints", points(21), "float32"), _constant("points", points(vertices), "float32"),
    ]  # fmt: skip
    return _model(
        nodes, constants,
        [("queries", TensorProto.INT64, ["n"]), ("boxes", TensorProto.FLOAT, ["n", 4]),
         ("map", TensorProto.FLOAT, [1, 3, "h", "w"]), ("colour", TensorProto.FLOAT, [1, 3])],
        [("joints_2d", TensorProto.FLOAT, ["n", 21, 2]), ("joint_scores", TensorProto.FLOAT, ["n", 21]),
         ("presence_logits", TensorProto.FLOAT, ["n"]),
         ("joints_3d", TensorProto.FLOAT, ["n", 21, 3]), ("vertices", TensorProto.FLOAT, ["n", vertices, 3]),
         ("root_2d", TensorProto.FLOAT, ["n", 2]), ("scale", TensorProto.FLOAT, ["n"])],
    )  # fmt: skip


def _tile(values):
    return values - values[:, :1]


def _model(nodes, constants, inputs, outputs):
    values = [[helper.make_tensor_value_info(*value) for value in side] for side in (inputs, outputs)]
    graph = helper.make_graph(nodes, "tiny", *values, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
