"""Weights on disk: safetensors with their configuration inside, refused where they do not fit.

Matrices and convolutions are kept in half precision, vectors (biases, norms, batch statistics) whole:
half the size, and nothing whose range half precision would cut.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from handos_ros.errors import ModelError
from handos_ros.files.atomic import whole
from handos_ros.hand_model.model import HandModel, load_hand_model
from handos_ros.network.config import HandosConfig, config_from_dict, config_to_dict
from handos_ros.network.handos import HandosNetwork
from handos_ros.network.tensor_file import read_tensors

FORMAT = "1"


def save_weights(
    network: HandosNetwork, path: str | Path, *, hand_model: HandModel, info: dict[str, str] | None = None
) -> None:
    """Write a network's weights, whole or not at all.

    A detector that came pretrained from elsewhere is left out: its file is its own and larger than all
    the rest. `info` goes into the file's metadata; `handos.learned` there says what its decoder has learned.
    """
    path = Path(path)
    state = {name: _stored(tensor) for name, tensor in _state(network).items()}
    metadata = {
        "handos.format": FORMAT,
        "handos.config": json.dumps(config_to_dict(network.config)),
        "handos.hand_model": hand_model.name,
        "handos.num_vertices": str(hand_model.num_vertices),
        "handos.hand_model_hash": network.hand_model_hash,
        **(info or {}),
    }
    with whole(path, overwrite=True) as partial:
        try:
            save_file(state, partial, metadata)
        except SafetensorError as error:
            raise ModelError(f"{path}: cannot write the weights: {error}") from None


def load_weights(network: HandosNetwork, path: str | Path) -> None:
    """Fill a network from a file made for the same configuration, at whatever size of picture.

    Raises:
        ModelError: naming the file and the first thing that does not fit.
    """
    path = Path(path)
    config, metadata, state = _read(path)
    if not same_weights(config, network.config):
        theirs = config_to_dict(_looking_as(config, network.config))
        ours = config_to_dict(network.config)
        raise ModelError(f"{path}: made for another configuration: {_difference(theirs, ours)}")
    wanted = _state(network)
    for name in wanted:
        if name not in state:
            raise ModelError(
                f"{path}: lacks the tensor {name}: made by another version of this package, whose network "
                "had none, or damaged; train it again, or take the weights that come with the package"
            )
        if state[name].shape != wanted[name].shape:
            raise ModelError(
                f"{path}: {name} has shape {tuple(state[name].shape)}, "
                f"the network needs {tuple(wanted[name].shape)} (hand model {metadata['handos.hand_model']})"
            )
        if state[name].is_floating_point() and not torch.isfinite(state[name]).all():
            raise ModelError(f"{path}: {name} holds a value that is not finite; the file is damaged")
    extra = sorted(set(state) - set(wanted))
    if extra:
        raise ModelError(f"{path}: holds the tensor {extra[0]}, which the network does not have")
    if metadata.get("handos.hand_model_hash") != network.hand_model_hash:
        raise ModelError(
            f"{path}: made for another version of the hand model {metadata['handos.hand_model']}: as many "
            "vertices, but other faces, joints or coarse vertices; use the one that it was trained with"
        )
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(state[name])


def same_weights(first: HandosConfig, second: HandosConfig) -> bool:
    """Whether weights of the one fit the other: no weight depends on the sizes at which pictures are seen."""
    return config_to_dict(_looking_as(first, second)) == config_to_dict(second)


def _looking_as(config: HandosConfig, other: HandosConfig) -> HandosConfig:
    return replace(config, long_side=other.long_side, second_look=other.second_look)


def load_network(path: str | Path, *, hand_model: HandModel | None = None) -> tuple[HandosNetwork, HandModel]:
    """Build the network that a weights file was made for and fill it; in evaluation mode.

    Args:
        hand_model: needed where the configuration's own is not shipped (MANO).
    """
    config, metadata, _ = _read(Path(path))
    if hand_model is None:
        if config.hand_model == "mano":
            raise ModelError(f"{path}: predicts MANO's mesh; give your own MANO file with --hand-model")
        hand_model = load_hand_model(config.hand_model)
    expected = metadata.get("handos.num_vertices")
    if expected != str(hand_model.num_vertices):
        raise ModelError(
            f"{path}: made for a hand model of {expected} vertices, "
            f"{hand_model.name} has {hand_model.num_vertices}"
        )
    network = HandosNetwork(config, hand_model)
    load_weights(network, path)
    return network.eval(), hand_model


def _state(network: HandosNetwork) -> dict[str, Tensor]:
    skip = "detector." if network.config.detector.pretrained else None
    state = {}
    seen: set[int] = set()
    for name, tensor in network.state_dict().items():
        # Tied weights stand once, under their first name.
        if (skip and name.startswith(skip)) or (tensor.numel() and tensor.data_ptr() in seen):
            continue
        seen.add(tensor.data_ptr())
        state[name] = tensor
    return state


def _stored(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor.clone()


def _read(path: Path) -> tuple[HandosConfig, dict[str, str], dict[str, Tensor]]:
    state, metadata = read_tensors(path)
    if metadata.get("handos.format") != FORMAT:
        raise ModelError(f"{path}: not a weights file of this package, or of another version of it")
    try:
        described = json.loads(metadata["handos.config"])
    except (KeyError, ValueError):
        raise ModelError(f"{path}: its configuration is damaged") from None
    try:
        return config_from_dict(described), metadata, state
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def _difference(theirs: Any, ours: Any, where: str = "") -> str:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(set(theirs) | set(ours)):
            if theirs.get(key) != ours.get(key):
                return _difference(theirs.get(key), ours.get(key), f"{where}.{key}" if where else key)
    return f"{where} is {theirs!r} there and {ours!r} here"
