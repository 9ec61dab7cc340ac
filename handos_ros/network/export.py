"""ONNX files of a network: `detector.onnx` and `decoder.onnx`, for machines without torch.

Two graphs, because how many hands there are is known only between them: a picture without candidates never
pays for the decoder, and any number of hands is one run of it. Both take pictures of any size that is a
multiple of the stride. Maps go from one to the other under the same names.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import types
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from handos_ros.errors import ModelError
from handos_ros.network.handos import HandosNetwork

OPSET = 20
FORMAT = "2"
"""Raised whenever the graphs' inputs or outputs change their meaning."""
LARGEST_SIDE = 8192
DECODED = ("joints_2d", "joint_scores", "presence_logits", "joints_3d", "vertices", "root_2d", "scale")


def export_onnx(network: HandosNetwork, folder: str | Path, *, model_id: str) -> tuple[Path, Path]:
    """Write `detector.onnx` and `decoder.onnx` into `folder`.

    Args:
        network: with its weights in place; it is left untouched.
        model_id: what results made with these files say of their model.

    Raises:
        ModelError: if this kind of detector cannot be exported.
    """
    if network.config.detector.kind == "grounding_dino":
        raise ModelError(
            "a Grounding DINO detector is not exported: at a long side of 1280 it is no network for a CPU; "
            "run it with the torch backend"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    network = copy.deepcopy(network).float().cpu().eval()
    _ready(network)
    stride = network.config.stride
    height = torch.export.Dim("height", min=1, max=LARGEST_SIDE // stride)
    width = torch.export.Dim("width", min=1, max=LARGEST_SIDE // stride)
    picture = torch.randint(0, 255, (1, 7 * stride, 9 * stride, 3), dtype=torch.uint8)
    with torch.no_grad():
        seen = network.detect(picture.permute(0, 3, 1, 2))
    maps = [*seen.backbone, *seen.features]
    names = [f"backbone{n}" for n in range(len(seen.backbone))]
    names += [f"encoder{n}" for n in range(len(seen.features))]
    passed = ["q_first", "q_last", *names]
    second_look = network.config.second_look
    metadata = {
        "handos.format": FORMAT,
        "handos.model": model_id,
        "handos.configuration": network.config.name,
        "handos.long_side": str(network.config.long_side),
        "handos.stride": str(stride),
        "handos.second_look": json.dumps(second_look and asdict(second_look)),
        "handos.hand_model": network.config.hand_model,
        "handos.hand_model_hash": network.hand_model_hash,
    }
    detector = _export(
        _Detector(network),
        (picture,),
        ["picture"],
        ["boxes", "scores", *passed],
        ({1: height * stride, 2: width * stride},),
    )
    hands = torch.export.Dim("hands", min=1, max=512)
    shapes = [{2: height * (stride // s), 3: width * (stride // s)} for s in _strides(maps, picture)]
    decoder = _export(
        _Decoder(network),
        (torch.zeros(3, dtype=torch.int64), torch.full((3, 4), 0.4), seen.q_first, seen.q_last, *maps),
        ["queries", "boxes", *passed],
        list(DECODED),
        ({0: hands}, {0: hands}, None, None, tuple(shapes)),
    )
    paths = folder / "detector.onnx", folder / "decoder.onnx"
    for path, model in zip(paths, (detector, decoder), strict=True):
        helper.set_model_props(model, metadata)
        temporary = path.with_suffix(".partial")
        onnx.save(model, temporary)
        os.replace(temporary, path)
    return paths


class _Detector(nn.Module):
    def __init__(self, network: HandosNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        seen = self.network.detect(picture.permute(0, 3, 1, 2))
        return seen.boxes[0], seen.scores[0], seen.q_first, seen.q_last, *seen.backbone, *seen.features


class _Decoder(nn.Module):
    def __init__(self, network: HandosNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, queries: Tensor, boxes: Tensor, q_first: Tensor, q_last: Tensor, *maps: Tensor
    ) -> tuple[Tensor, ...]:
        strides = self.network.backbone_strides
        backbone, features = list(maps[: len(strides)]), list(maps[len(strides) :])
        size = backbone[0].shape[2] * strides[0], backbone[0].shape[3] * strides[0]
        joined = self.network.side(backbone, features, None)
        out = self.network.decoder(joined, q_first[:, queries], q_last[:, queries], boxes[None], size)
        assert out.vertices is not None and out.joints_3d is not None
        assert out.root_2d is not None and out.scale is not None and out.presence_logits is not None
        return (
            out.joints_2d[0], out.joint_logits[0].sigmoid(), out.presence_logits[0], out.joints_3d[0],
            out.vertices[0], out.root_2d[0], out.scale[0],
        )  # fmt: skip


def _export(
    module: nn.Module, args: tuple[Any, ...], inputs: list[str], outputs: list[str], shapes: tuple[Any, ...]
) -> onnx.ModelProto:
    with warnings.catch_warnings(), _quiet(), _exportable():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(), args, input_names=inputs, output_names=outputs, dynamic_shapes=shapes,
            dynamo=True, opset_version=OPSET, verbose=False, optimize=True,
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # The exporter notes paths of the machine it ran on.
        node.doc_string = ""
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
        del value.metadata_props[:]
    del model.graph.metadata_props[:], model.metadata_props[:]
    _halve(model)
    onnx.checker.check_model(model)
    return model


def _halve(model: onnx.ModelProto) -> None:
    """Keep weights that half precision holds exactly in half precision.

    Weights come from a file in half precision, so most do; the runtime widens them once, as it loads.
    """
    graph = model.graph
    casts, kept = [], []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < 256:
            kept.append(tensor)
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), values):
            kept.append(tensor)
            continue
        kept.append(numpy_helper.from_array(half, f"{tensor.name}_half"))
        casts.append(helper.make_node("Cast", [f"{tensor.name}_half"], [tensor.name], to=TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(casts + nodes)


def _ready(network: HandosNetwork) -> None:
    """Replace, in a copy that is exported, what computes a constant of the picture's size in advance."""
    model: Any = network.detector.model.model
    for layer in model.encoder.aifi:
        old = layer.position_embedding
        layer.position_embedding = _Positions(old.embed_dim, old.temperature)
    model.generate_anchors = types.MethodType(_anchors, model)
    for parent in list(network.modules()):
        for name, block in list(parent.named_children()):
            if type(block).__name__.endswith("RepVggBlock"):
                setattr(parent, name, _one_convolution(block))
            elif isinstance(block, nn.Conv2d) and block.stride == (2, 2) and block.padding == (1, 1):
                setattr(parent, name, _Halving(block))


def _one_convolution(block: Any) -> nn.Module:
    """RepVGG (Ding et al., 2021): the sum of a 3x3 and a 1x1 convolution is one 3x3 convolution."""
    three = fuse_conv_bn_eval(block.conv1.conv, block.conv1.norm)
    one = fuse_conv_bn_eval(block.conv2.conv, block.conv2.norm)
    with torch.no_grad():
        three.weight[:, :, 1:2, 1:2] += one.weight
        three.bias += one.bias
    return nn.Sequential(three, block.activation)


class _Halving(nn.Module):
    """A 3x3 convolution of stride 2 over a map of even size, padded only where that is seen.

    The last row and column of even padding meet no kernel. Without them the size that comes out is plainly
    half of the one that goes in, where else it is a rounded fraction that exporting has to carry through
    every later shape: minutes of symbolic algebra.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution
        convolution.padding = (0, 0)

    def forward(self, maps: Tensor) -> Tensor:
        return self.convolution(functional.pad(maps, (1, 0, 1, 0)))


class _Positions(nn.Module):
    """The detector's sine position embedding, for sizes known only at run time."""

    def __init__(self, channels: int, temperature: float) -> None:
        super().__init__()
        self.channels, self.temperature = channels, temperature

    def forward(self, width: Any, height: Any, device: torch.device, dtype: torch.dtype) -> Tensor:
        quarter = self.channels // 4
        omega = 1.0 / self.temperature ** (torch.arange(quarter, device=device).double() / quarter)
        rows = torch.arange(height, device=device).double()[:, None] * omega
        columns = torch.arange(width, device=device).double()[:, None] * omega
        rows, columns = rows.float()[:, None], columns.float()[None]
        rows = rows.expand(height, width, quarter)
        columns = columns.expand(height, width, quarter)
        parts = [rows.sin(), rows.cos(), columns.sin(), columns.cos()]
        return torch.cat(parts, -1).reshape(1, height * width, self.channels).to(dtype)


def _anchors(
    _model: Any, shapes: Any, grid_size: float = 0.05, device: Any = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """The detector's anchors, one at each place of each map, for sizes known only at run time."""
    levels = []
    for level, (height, width) in enumerate(shapes):
        y = ((torch.arange(height, device=device) + 0.5) / height)[:, None].expand(height, width)
        x = ((torch.arange(width, device=device) + 0.5) / width)[None].expand(height, width)
        size = torch.full_like(x, grid_size * 2.0**level)
        levels.append(torch.stack([x, y, size, size], -1).reshape(1, height * width, 4))
    anchors = torch.cat(levels, 1).to(dtype)
    inside = ((anchors > 0.01) & (anchors < 0.99)).all(-1, keepdim=True)
    return torch.where(inside, torch.log(anchors / (1 - anchors)), torch.finfo(dtype).max), inside


@contextlib.contextmanager
def _exportable() -> Iterator[None]:
    """Leave out the detectors' checks of shapes against each other: ONNX has no such operator."""
    import transformers.models.d_fine.modeling_d_fine as d_fine
    import transformers.models.rt_detr.modeling_rt_detr as rt_detr
    import transformers.models.rt_detr_v2.modeling_rt_detr_v2 as rt_detr_v2

    with contextlib.ExitStack() as stack:
        for module in (d_fine, rt_detr, rt_detr_v2):
            if hasattr(module, "torch_compilable_check"):
                stack.enter_context(
                    mock.patch.object(module, "torch_compilable_check", lambda *_, **__: None)
                )
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter writes progress to standard output and warns of operators that are not used."""
    import logging

    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(None):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _strides(maps: list[Tensor], picture: Tensor) -> list[int]:
    return [round(picture.shape[1] / m.shape[2]) for m in maps]
