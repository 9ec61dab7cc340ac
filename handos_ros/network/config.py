"""What a network is made of, as typed objects that refuse what cannot work, and as YAML.

`load_config("handos")` and `load_config("handos_lite")` give the two shipped configurations; a path to
a YAML file gives another.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from handos_ros.errors import HandosError, ModelError

DETECTOR_KINDS = ("grounding_dino", "rt_detr", "rt_detr_v2", "d_fine")


@dataclass(frozen=True)
class DetectorConfig:
    """The frozen DETR-like detector.

    Attributes:
        kind: one of `DETECTOR_KINDS`.
        settings: the keyword arguments of its configuration class in `transformers`; what is not named
            keeps that class's default.
        pretrained: a folder or a name on the hub whose weights the detector starts from, None where
            its weights come with this project's own weights file.
        prompt_ids: for detectors that read text, the token numbers of the prompt, special tokens
            included. They stand here so that no tokenizer file is needed.
        queries: how many of the best candidates are passed on.
    """

    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    pretrained: str | None = None
    prompt_ids: tuple[int, ...] = ()
    queries: int = 100

    def __post_init__(self) -> None:
        if self.kind not in DETECTOR_KINDS:
            raise ModelError(f"detector.kind is {self.kind!r}; known are {', '.join(DETECTOR_KINDS)}")
        if self.kind == "grounding_dino" and len(self.prompt_ids) < 3:
            raise ModelError("detector.prompt_ids must hold the prompt's tokens, special ones included")
        if self.queries < 1:
            raise ModelError(f"detector.queries must be at least 1, got {self.queries}")


@dataclass(frozen=True)
class SideConfig:
    """The trainable side network: three convolutions (1x1, 3x3, 1x1) on each backbone scale.

    Attributes:
        channels: channels between the first and the third convolution, finest scale first.
        depthwise: whether the 3x3 convolution is depthwise (light) or dense.
    """

    channels: tuple[int, ...] = (64, 64, 128, 128)
    depthwise: bool = True

    def __post_init__(self) -> None:
        if not self.channels or min(self.channels) < 1:
            raise ModelError(f"side.channels must be positive, got {self.channels}")


@dataclass(frozen=True)
class DecoderConfig:
    """The interactive 2D-3D decoder.

    Attributes:
        width: channels of every query.
        heads: attention heads; `width` is a multiple of it.
        feedforward: hidden channels of each layer's feed-forward part.
        layers_2d: layers over the 21 joint queries before lifting.
        layers_interactive: layers over joint, vertex and camera queries after lifting.
        strides: strides of the feature maps F^GD that queries look into, finest first.
        points: sampling points per head in each of these maps.
        value_projection: whether each layer projects the maps anew (as in Deformable DETR) or all
            layers read the same maps (as in D-FINE; light).
        looking: which queries look into the maps after lifting: `all`, or `joints`, the joint and camera
            queries alone, from which vertex queries then hear by attention (light: five in six queries
            of a hand are vertices).
        vertices: `all`, a query for every vertex of the hand model, or `coarse`, one for each of its
            coarse vertices, the rest upsampled.
        dropout: in training, on attention and feed-forward outputs.
    """

    width: int = 128
    heads: int = 4
    feedforward: int = 256
    layers_2d: int = 2
    layers_interactive: int = 2
    strides: tuple[int, ...] = (8, 16, 32)
    points: tuple[int, ...] = (4, 2, 2)
    value_projection: bool = False
    looking: str = "joints"
    vertices: str = "coarse"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ModelError(
                f"decoder.width ({self.width}) must be a multiple of decoder.heads ({self.heads})"
            )
        if len(self.strides) != len(self.points):
            raise ModelError(f"decoder.points has {len(self.points)} entries for {len(self.strides)} strides")
        if list(self.strides) != sorted(set(self.strides)):
            raise ModelError(f"decoder.strides must rise, got {self.strides}")
        if min(self.points, default=0) < 1 or self.layers_2d < 0 or self.layers_interactive < 1:
            raise ModelError("decoder needs sampling points on every map and at least one interactive layer")
        if self.vertices not in ("all", "coarse"):
            raise ModelError(f"decoder.vertices is {self.vertices!r}; known are all, coarse")
        if self.looking not in ("all", "joints"):
            raise ModelError(f"decoder.looking is {self.looking!r}; known are all, joints")
        if not 0 <= self.dropout < 1:
            raise ModelError(f"decoder.dropout must be in [0, 1), got {self.dropout}")


@dataclass(frozen=True)
class SecondLookConfig:
    """Which hands are looked at once more, and how; all in px of a network picture.

    Attributes:
        below, above: hands whose box's longer side is less, or more.
        size: what this side becomes.
        cell: side of the square that is seen around the hand.
    """

    below: int
    above: int
    size: int
    cell: int

    def __post_init__(self) -> None:
        if not 0 <= self.below < self.above:
            raise ModelError(
                f"second_look.below ({self.below}) must be under second_look.above ({self.above}) and not "
                "negative"
            )
        if not 1 <= self.size <= self.cell:
            raise ModelError(
                f"second_look.size ({self.size}) must be at least 1 and fit second_look.cell ({self.cell})"
            )


@dataclass(frozen=True)
class HandosConfig:
    """A whole network.

    Attributes:
        name: what weights made for it carry.
        long_side: px of the network picture's longer side.
        stride: both sides of the network picture are padded to a multiple of it.
        hand_model: name of the hand model whose mesh it predicts, or `mano` for the user's own file.
        second_look: for hands of sizes that it sees less well, None where every hand is seen once.
    """

    name: str
    long_side: int
    stride: int
    hand_model: str
    detector: DetectorConfig
    side: SideConfig
    decoder: DecoderConfig
    second_look: SecondLookConfig | None = None

    def __post_init__(self) -> None:
        if self.stride < 1 or self.long_side < self.stride or self.long_side % self.stride:
            raise ModelError(
                f"long_side ({self.long_side}) must be a positive multiple of stride ({self.stride})"
            )


def load_config(name_or_path: str | Path) -> HandosConfig:
    """Read a shipped configuration by name or any by path.

    Raises:
        ModelError: naming the file and the key that cannot be used.
    """
    import yaml

    text = str(name_or_path)
    if text in shipped_configs():
        source = (
            resources.files("handos_ros.network")
            .joinpath("configs")
            .joinpath(f"{text}.yaml")
            .read_text("utf-8")
        )
    else:
        path = Path(name_or_path)
        if not path.is_file():
            raise ModelError(
                f"no configuration {text!r}: neither a file nor one of {', '.join(shipped_configs())}"
            )
        try:
            source = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{text}: cannot read the configuration: {error}") from None
    try:
        data = yaml.safe_load(source)
    except yaml.YAMLError as error:
        raise ModelError(f"{text}: not YAML: {error}") from None
    return build_config(HandosConfig, data, text)


def shipped_configs() -> list[str]:
    """Names of the configurations that come with the package."""
    folder = resources.files("handos_ros.network").joinpath("configs")
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def config_from_dict(data: Any) -> HandosConfig:
    """Build a configuration from plain data, every key checked. The inverse of `config_to_dict`."""
    return build_config(HandosConfig, data, "the configuration")


def config_to_dict(config: HandosConfig) -> dict[str, Any]:
    """Plain lists, numbers and strings, ready for YAML or json."""
    return typing.cast("dict[str, Any]", _plain(dataclasses.asdict(config)))


T = typing.TypeVar("T")


def build_config(cls: type[T], data: Any, origin: str, error: type[HandosError] = ModelError) -> T:
    """A frozen dataclass, nested ones included, from plain data with every key and type checked.

    Raises:
        error: naming `origin` and the key that cannot be used.
    """
    try:
        return typing.cast("T", _build(cls, data, ""))
    except (HandosError, TypeError) as problem:
        raise error(f"{origin}: {problem}") from None


def _build(cls: Any, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise ModelError(f"{where or 'the configuration'} must be a mapping, got {type(data).__name__}")
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(data) - set(hints))
    if unknown:
        raise ModelError(f"unknown key {where}{unknown[0]}; known are {', '.join(sorted(hints))}")
    values = {key: _convert(hints[key], value, f"{where}{key}") for key, value in data.items()}
    missing = [
        f.name
        for f in dataclasses.fields(cls)
        if f.name not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ModelError(f"missing key {where}{missing[0]}")
    return cls(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, f"{where}.")
    origin = typing.get_origin(hint)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ModelError(f"{where} must be a list, got {value!r}")
        return tuple(_convert(typing.get_args(hint)[0], item, where) for item in value)
    if origin is dict and isinstance(value, dict) and typing.get_args(hint)[1] is not Any:
        key_hint, item_hint = typing.get_args(hint)
        return {
            _convert(key_hint, key, f"a key of {where}"): _convert(item_hint, item, f"{where}.{key}")
            for key, item in value.items()
        }
    if origin is dict:
        hint = dict
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        # YAML reads on, off, yes and no as truth values.
        quote = "; a word like on or no must be in quotes" if hint is str and isinstance(value, bool) else ""
        raise ModelError(f"{where} must be of type {hint.__name__}, got {value!r}{quote}")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
