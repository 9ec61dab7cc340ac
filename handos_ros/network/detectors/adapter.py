"""What the decoder takes from a DETR-like detector, whichever it is.

Each detector's file names the modules to watch; the watching itself is done here. The detector's own
forward pass is left alone: a pre-hook on its decoder sees the encoder's flattened maps, the queries
that enter (Q_0) and the maps' true shapes, and a hook on each backbone stage sees its map. Output
fields with nearly the same names exist but mislead: some detectors put lists of maps from before the
decoder's own projection there, some normalise hidden states, some stack layers first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from handos_ros.errors import ModelError
from handos_ros.network.config import DetectorConfig
from handos_ros.network.tensor_file import read_tensors


@dataclass
class Places:
    """What the detector's encoder says at each of the P places of its maps, before queries are chosen.

    Attributes:
        features: (B, P, D).
        boxes: (B, P, 4) centre x, centre y, width, height, fractions of the padded picture.
        logits: (B, P) of "hand": those of highest score become the detector's queries.
        finest: height and width of the finest map, whose places come first, row by row.
        fine: (B, C, h, w) the backbone's own map of stride 8, finer than the encoder's.
    """

    features: Tensor
    boxes: Tensor
    logits: Tensor
    finest: tuple[int, int]
    fine: Tensor


@dataclass
class DetectorOutput:
    """One batch seen by the detector: B pictures, Q queries.

    Attributes:
        features: the encoder's maps F^e, finest first, each (B, C, h, w).
        masks: for each of these (B, h, w), True where the picture is, False in its padding; None where
            nothing was padded.
        backbone: the backbone's four maps, finest first, each (B, C_i, h_i, w_i).
        q_first: (B, Q, D) queries entering the detector's decoder (Q_0).
        q_last: (B, Q, D) queries leaving it.
        boxes: (B, Q, 4) centre x, centre y, width, height, fractions of the padded picture.
        logits: (B, Q) of "hand".
        losses: the detector's own training losses by name, weighted; None where no labels were given.
        places: what its encoder said, before candidates were chosen; None where no labels were given, or
            where the detector does not say.
    """

    features: list[Tensor]
    masks: list[Tensor] | None
    backbone: list[Tensor]
    q_first: Tensor
    q_last: Tensor
    boxes: Tensor
    logits: Tensor
    losses: dict[str, Tensor] | None = None
    places: Places | None = None

    @property
    def scores(self) -> Tensor:
        """(B, Q), 0 to 1."""
        return self.logits.sigmoid()


class DetectorAdapter(nn.Module, ABC):
    """A detector of `transformers` behind one interface. Subclasses say what differs.

    Args:
        config: what to build; `settings` go to the detector's configuration class unchanged.
        pretrained: load `config.pretrained`; False leaves random weights (for tests, for timing and
            where the weights follow from a file of this project).
    """

    map_argument = "encoder_hidden_states"
    """The decoder's keyword argument that carries the flattened encoder maps."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    uses_mask = False
    """Whether the detector attends to a padding mask at all."""

    def __init__(self, config: DetectorConfig, *, pretrained: bool = True) -> None:
        super().__init__()
        self.config = config
        self.model = self._load(config) if pretrained and config.pretrained else self._build(config)
        self._seen: dict[str, Any] = {}
        self._decoder().register_forward_pre_hook(self._see_decoder, with_kwargs=True)
        if hasattr(self.model.model, "enc_score_head"):
            self.model.model.enc_output.register_forward_hook(self._see_places)
        for number, stage in enumerate(self._stages()):
            # A partial of a method, not a lambda: a copy of the adapter must watch its own modules.
            stage.register_forward_hook(partial(self._see_stage, number))
        self.register_buffer("_mean", 255 * torch.tensor(self.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", 255 * torch.tensor(self.std).view(1, 3, 1, 1), persistent=False)

    # What a subclass says.
    @abstractmethod
    def _classes(self) -> tuple[Any, Any]:
        """The configuration class and the model class."""

    def _decoder(self) -> nn.Module:
        """The detector's decoder."""
        decoder: nn.Module = self.model.model.decoder
        return decoder

    def _stages(self) -> Sequence[nn.Module]:
        """The backbone's four stages, finest first."""
        return list(self.model.model.backbone.model.encoder.stages)

    def _run(self, pixels: Tensor, mask: Tensor | None, labels: list[dict[str, Tensor]] | None) -> Any:
        """The detector's own forward pass."""
        return self.model(pixel_values=pixels, pixel_mask=mask, labels=labels)

    def _logits(self, output: Any) -> Tensor:
        """(B, Q) logit of "hand"."""
        return output.logits.amax(-1)

    def _stage_map(self, output: Any) -> Tensor:
        """A stage's output -> (B, C, h, w)."""
        return output

    # What all share.
    def _build(self, config: DetectorConfig) -> nn.Module:
        from huggingface_hub.errors import StrictDataclassError

        config_class, model_class = self._classes()
        try:
            model: nn.Module = model_class(config_class(**config.settings))
        except (TypeError, ValueError, KeyError, AttributeError, StrictDataclassError) as error:
            raise ModelError(f"detector.settings do not make a {config.kind}: {_one_line(error)}") from None
        # transformers begins all convolutions with a deviation of 0.02, as if weights were to follow. Those
        # under batch norms, which have no bias, a step would turn by several percent: learning stays noise.
        for module in model.modules():
            if isinstance(module, nn.Conv2d) and module.bias is None:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        return model

    def _load(self, config: DetectorConfig) -> nn.Module:
        _, model_class = self._classes()
        assert config.pretrained is not None
        try:
            return model_class.from_pretrained(config.pretrained, **config.settings)
        except (OSError, ValueError) as error:
            hint = "" if Path(config.pretrained).exists() else (
                "; where the hub cannot be reached, download it elsewhere and give the folder"
            )  # fmt: skip
            raise ModelError(
                f"cannot load the detector {config.pretrained!r}: {_one_line(error)}{hint}"
            ) from None

    _frozen = False

    def freeze(self, frozen: bool = True) -> None:
        """No gradient, no training mode: statistics, dropout and weights stay as they are. Or the reverse."""
        self._frozen = frozen
        self.requires_grad_(not frozen)
        for name, parameter in self.named_parameters():
            # The detector's own constants, which it declares as parameters.
            if name.rsplit(".", 1)[-1] in ("reg_scale", "up"):
                parameter.requires_grad_(False)
        self.train(not frozen)

    def freeze_parts(self, beginnings: Sequence[str]) -> None:
        """No gradient for the parameters whose names, in `model`, begin so.

        Raises:
            ModelError: if a beginning is no parameter's.
        """
        for beginning in beginnings:
            found = [p for name, p in self.model.named_parameters() if name.startswith(beginning)]
            if not found:
                raise ModelError(f"frozen: no parameter of the {self.config.kind} begins with {beginning!r}")
            for parameter in found:
                parameter.requires_grad_(False)

    def load_backbone(self, path: str | Path) -> None:
        """Fill the backbone from a safetensors file with exactly its parameters.

        Raises:
            ModelError: naming the file and the first thing that does not fit.
        """
        state, _ = read_tensors(path)
        backbone = self.model.model.backbone.model
        try:
            backbone.load_state_dict({name: value.float() for name, value in state.items()})
        except RuntimeError as error:
            raise ModelError(f"{path}: does not fit the detector's backbone: {_one_line(error)}") from None

    def train(self, mode: bool = True) -> DetectorAdapter:
        """As of any module, but a frozen detector stays in evaluation mode."""
        return super().train(mode and not self._frozen)

    def shift_scores(self, by: float) -> None:
        """Add `by` to every logit of "hand" that is given out.

        Raises:
            ModelError: if the detector has no bias that does that: it compares maps with words.
        """
        heads = getattr(self._decoder(), "class_embed", None)
        bias = getattr(heads[-1], "bias", None) if heads is not None else None
        if bias is None:
            raise ModelError(f"the scores of a {self.config.kind} cannot be shifted; leave out `calibrate`")
        with torch.no_grad():
            bias += by

    def compile_maps(self) -> None:
        """Have torch compile what makes the maps, at its first use for every size of picture."""
        for part in ("backbone", "encoder"):
            getattr(self.model.model, part).compile()

    @property
    def feature_channels(self) -> int:
        """Channels of every map in `DetectorOutput.features`."""
        return int(self.model.config.d_model)

    @property
    def query_channels(self) -> int:
        """Channels of `q_first` and `q_last`."""
        return int(self.model.config.d_model)

    def normalised(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) RGB, 0 to 255, of any type -> what the detector was trained on."""
        pixels = pictures.to(self._mean.dtype)
        return (pixels - self._mean) / self._std

    def forward(
        self, pictures: Tensor, mask: Tensor | None = None, labels: Sequence[Tensor] | None = None
    ) -> DetectorOutput:
        """See pictures.

        Args:
            pictures: (B, 3, H, W) RGB, 0 to 255.
            mask: (B, H, W), True where not padding.
            labels: for training the detector, the boxes (N, 4) of every hand of each picture, centre and
                size as fractions; pictures in which a hand may be unlabelled have no place there.
        """
        if not self._frozen:
            return self._see(pictures, mask, labels)
        with torch.no_grad():
            return self._see(pictures, mask, None)

    def places(self, pictures: Tensor) -> Places:
        """What the encoder says at every place of its maps; the detector's decoder does not run.

        Args:
            pictures: (B, 3, H, W) RGB, 0 to 255, none of them padded.

        Raises:
            ModelError: if the detector does not choose its queries by a score of hands alone.
        """
        model = self.model.model
        if not hasattr(model, "enc_score_head") or not hasattr(model, "encoder_input_proj"):
            raise ModelError(
                f"a {self.config.kind} cannot learn from the places of its maps; leave out `dense`"
            )
        pixels = self.normalised(pictures)
        mask = torch.ones_like(pixels[:, 0])
        maps = [
            project(seen)
            for project, (seen, _) in zip(model.encoder_input_proj, model.backbone(pixels, mask), strict=True)
        ]
        maps = model.encoder(maps).last_hidden_state
        maps = [project(m) for project, m in zip(model.decoder_input_proj, maps, strict=False)]
        fine = self._stage_map(self._seen["stage1"])
        self._seen = {}
        shapes = tuple((m.shape[2], m.shape[3]) for m in maps)
        anchors, valid = model.generate_anchors(shapes, device=pixels.device, dtype=pixels.dtype)
        memory = torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)
        features = model.enc_output(memory * valid.to(memory.dtype))
        boxes = (model.enc_bbox_head(features) + anchors).sigmoid()
        return Places(features, boxes, model.enc_score_head(features).amax(-1), shapes[0], fine)

    def _see(self, pictures: Tensor, mask: Tensor | None, labels: Sequence[Tensor] | None) -> DetectorOutput:
        if not torch.compiler.is_exporting():
            self._check_size(pictures.shape[2], pictures.shape[3])
        pixel_mask = mask.long() if mask is not None and self.uses_mask else None
        targets = None
        if labels is not None:
            zeros = [boxes.new_zeros(len(boxes), dtype=torch.long) for boxes in labels]
            targets = [{"class_labels": c, "boxes": b} for c, b in zip(zeros, labels, strict=True)]
        output = self._run(self.normalised(pictures), pixel_mask, targets)
        try:
            seen = self._seen
            shapes = [(int(h), int(w)) if not _symbolic(h, w) else (h, w) for h, w in seen["shapes"]]
            maps = seen["maps"].transpose(1, 2).split([h * w for h, w in shapes], dim=2)
            features = [
                m.reshape(m.shape[0], m.shape[1], h, w) for m, (h, w) in zip(maps, shapes, strict=True)
            ]
            backbone = [self._stage_map(seen[f"stage{n}"]) for n in range(len(self._stages()))]
            # In training, queries that denoise labels stand before the others.
            queries = self.model.config.num_queries
            q_first = seen["q_first"][:, -queries:]
        finally:
            self._seen = {}
        boxes, masks = output.pred_boxes[:, -queries:], None
        if pixel_mask is not None:
            masks = [
                nn.functional.interpolate(pixel_mask[:, None].float(), size=m.shape[-2:])[:, 0] > 0.5
                for m in features
            ]
            # These detectors measure boxes in fractions of the picture without its padding.
            valid = torch.stack([pixel_mask[:, 0].sum(1), pixel_mask[:, :, 0].sum(1)], 1)
            size = torch.tensor([pictures.shape[3], pictures.shape[2]], device=boxes.device)
            boxes = boxes * (valid / size).repeat(1, 2)[:, None]
        result = DetectorOutput(
            features,
            masks,
            backbone,
            q_first,
            output.last_hidden_state[:, -queries:],
            boxes,
            self._logits(output)[:, -queries:],
            output.loss_dict if labels is not None else None,
        )
        if self.training and "places" in seen:
            result.places = Places(
                seen["places"],
                output.enc_outputs_coord_logits.sigmoid(),
                output.enc_outputs_class.amax(-1),
                shapes[0],
                backbone[1],
            )
        return self._best(result)

    def _check_size(self, height: int, width: int) -> None:
        """ModelError where maps have fewer places than the detector picks queries from."""
        strides = getattr(self.model.config, "feat_strides", None)
        if strides is None:
            return
        places = sum(-(-height // stride) * -(-width // stride) for stride in strides)
        if places < self.model.config.num_queries:
            raise ModelError(
                f"a picture of {width}x{height} is too small for this detector: its maps have {places} "
                f"places, it needs {self.model.config.num_queries} for its queries"
            )

    def _best(self, output: DetectorOutput) -> DetectorOutput:
        """The `config.queries` candidates of highest score."""
        if output.logits.shape[1] <= self.config.queries:
            return output
        _, index = output.logits.topk(self.config.queries, dim=1)
        rows = index[..., None]
        take = lambda t: t.gather(1, rows.expand(-1, -1, t.shape[2]))  # noqa: E731
        return DetectorOutput(
            output.features, output.masks, output.backbone, take(output.q_first), take(output.q_last),
            take(output.boxes), output.logits.gather(1, index), output.losses, output.places,
        )  # fmt: skip

    def _see_decoder(self, _module: nn.Module, _args: Any, kwargs: dict[str, Any]) -> None:
        self._seen["maps"] = kwargs[self.map_argument]
        self._seen["shapes"] = kwargs["spatial_shapes_list"]
        self._seen["q_first"] = kwargs["inputs_embeds"]

    def _see_places(self, _module: nn.Module, _args: Any, output: Any) -> None:
        self._seen["places"] = output

    def _see_stage(self, number: int, _module: nn.Module, _args: Any, output: Any) -> None:
        self._seen[f"stage{number}"] = output


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _symbolic(*sizes: Any) -> bool:
    return any(isinstance(size, torch.SymInt) for size in sizes)
