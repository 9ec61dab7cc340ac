"""Grounding DINO as `transformers` ships it: the detector of `handos`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from handos_ros.network.config import DetectorConfig
from handos_ros.network.detectors.adapter import DetectorAdapter


class GroundingDinoAdapter(DetectorAdapter):
    """Grounding DINO under one fixed prompt.

    Its text axis is padded with -inf up to `max_text_len`, and only the prompt's own words, not the
    special tokens, speak of hands. Q_0 is a learned embedding, the same for every picture (here as in the
    public weights, where `embedding_init_target` is set): what tells candidates apart is Q_last.
    """

    map_argument = "vision_encoder_hidden_states"
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    uses_mask = True

    def __init__(self, config: DetectorConfig, *, pretrained: bool = True) -> None:
        super().__init__(config, pretrained=pretrained)
        self.register_buffer("_prompt", torch.tensor([config.prompt_ids]), persistent=False)
        special = set(self.model.model.special_tokens.tolist())
        words = [n for n, token in enumerate(config.prompt_ids) if token not in special]
        self.register_buffer("_words", torch.tensor(words), persistent=False)
        self.model.model.text_backbone = _OncePerPrompt(self.model.model.text_backbone)

    def freeze(self, frozen: bool = True) -> None:
        """As of any detector; a frozen one also answers its prompt from memory."""
        super().freeze(frozen)
        self.model.model.text_backbone.remember = frozen

    def _classes(self) -> tuple[Any, Any]:
        from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection

        return GroundingDinoConfig, GroundingDinoForObjectDetection

    def _stages(self) -> Sequence[nn.Module]:
        return list(self.model.model.backbone.conv_encoder.model.swin.encoder.layers)

    def _stage_map(self, output: Any) -> Tensor:
        # A Swin stage gives tokens after its downsampling, then the map before it.
        return output[1]

    def _run(self, pixels: Tensor, mask: Tensor | None, labels: list[dict[str, Tensor]] | None) -> Any:
        prompt = self._prompt.expand(pixels.shape[0], -1)
        return self.model(pixel_values=pixels, pixel_mask=mask, input_ids=prompt, labels=labels)

    def _logits(self, output: Any) -> Tensor:
        return output.logits[..., self._words].amax(-1)


class _OncePerPrompt(nn.Module):
    """A text branch that answers from memory once the detector is frozen: its prompt never changes."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.remember = False
        self._answer: Tensor | None = None
        self._answered: tuple[torch.device, torch.dtype, int] | None = None

    def forward(self, input_ids: Tensor, *args: Any, **kwargs: Any) -> Any:
        if not self.remember:
            return self.branch(input_ids, *args, **kwargs)
        weights = list(self.branch.parameters())
        # Weights that are loaded later, in place, raise their versions.
        now = weights[0].device, weights[0].dtype, sum(w._version for w in weights)
        if self._answer is None or self._answered != now:
            first = [a[:1] if isinstance(a, Tensor) else a for a in args]
            output = self.branch(input_ids[:1], *first, **{**kwargs, "return_dict": True})
            self._answer, self._answered = output.last_hidden_state, now
        expanded = self._answer.expand(input_ids.shape[0], -1, -1)
        return BaseModelOutput(last_hidden_state=expanded) if kwargs.get("return_dict", True) else (expanded,)
