"""Take the backbone out of MediaPipe's palm detector: how network/weights/palm_backbone.safetensors was made.

pip download --no-deps mediapipe==0.10.21 && unzip mediapipe-*.whl 'mediapipe/modules/palm_detection/*'
pip install tflite
python tools/extract_palm_backbone.py palm_detection_full.tflite -o palm_backbone.safetensors

The model is Apache-2.0 (its card: "MediaPipe Hands", Google, 2021). Its weights are in half precision there,
and here.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tflite
import torch
from safetensors.torch import save_file
from torch import nn

from handos_ros.network.detectors.blaze import BlazeBackbone, BlazeConfig, Block, Down

TYPES = {tflite.TensorType.FLOAT32: np.float32, tflite.TensorType.FLOAT16: np.float16}


def tensors(path: Path) -> tuple[Iterator, Iterator]:
    """Weight and bias of each convolution, and slopes of each PReLU, in the order in which the graph runs."""
    model = tflite.Model.GetRootAsModel(path.read_bytes(), 0)
    graph = model.Subgraphs(0)

    def constant(index: int) -> np.ndarray:
        tensor = graph.Tensors(index)
        data = model.Buffers(tensor.Buffer()).DataAsNumpy().tobytes()
        return np.frombuffer(data, TYPES[tensor.Type()]).reshape(tensor.ShapeAsNumpy())

    whole, convolutions, slopes = {}, [], []
    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        given = operator.InputsAsNumpy()
        if kind == tflite.BuiltinOperator.DEQUANTIZE:
            whole[operator.OutputsAsNumpy()[0]] = constant(given[0])
        elif kind == tflite.BuiltinOperator.CONV_2D:
            convolutions.append((whole[given[1]].transpose(0, 3, 1, 2), whole[given[2]]))
        elif kind == tflite.BuiltinOperator.DEPTHWISE_CONV_2D:
            convolutions.append((whole[given[1]].transpose(3, 0, 1, 2), whole[given[2]]))
        elif kind == tflite.BuiltinOperator.PRELU:
            slopes.append(whole[given[1]].reshape(-1))
    return iter(convolutions), iter(slopes)


def fill(backbone: BlazeBackbone, path: Path) -> None:
    """The backbone's parameters, in the graph's order; the heads in between are passed over."""
    convolutions, slopes = tensors(path)

    def convolution(layer: nn.Conv2d) -> None:
        weight, bias = next(convolutions)
        assert weight.shape == layer.weight.shape, (weight.shape, layer)
        layer.weight.data, layer.bias.data = torch.tensor(weight), torch.tensor(bias)

    def slope(layer: nn.PReLU) -> None:
        values = next(slopes)
        assert values.shape == layer.weight.shape, (values.shape, layer)
        layer.weight.data = torch.tensor(values)

    def block(layer: Block) -> None:
        convolution(layer.depthwise)
        convolution(layer.pointwise)
        slope(layer.activation)

    def down(layer: Down) -> None:
        convolution(layer.project)
        slope(layer.activation)
        for part in layer.blocks:
            block(part)

    encoder = backbone.encoder
    convolution(encoder.stem)
    slope(encoder.activation)
    for scale in encoder.scales:
        for part in scale:
            block(part)
    down(encoder.down16)
    for _ in ("scores", "boxes and palm joints"):
        next(convolutions)
    down(encoder.down8)


def main() -> None:
    """Read, fill, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="palm_detection_full.tflite")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    backbone = BlazeBackbone(BlazeConfig(out_indices=[3, 4]))
    fill(backbone, args.model)
    # Single values and vectors whole, as in the project's other weights.
    state = {
        name: (value if value.ndim > 1 else value.float()).contiguous()
        for name, value in backbone.state_dict().items()
    }
    source = "palm_detection_full.tflite of the Python package mediapipe 0.10.21"
    save_file(state, args.output, {"license": "Apache-2.0", "source": source})


if __name__ == "__main__":
    main()
