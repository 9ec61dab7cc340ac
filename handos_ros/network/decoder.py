"""The interactive 2D-3D decoder: from a candidate and its box to joints, mesh and place.

Every quantity is measured against the hand's own box and comes out free of the focal length; see
`docs/method.md` for what is published of this decoder and what is chosen here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from handos_ros.hand_model.model import HandModel
from handos_ros.hands import NUM_JOINTS
from handos_ros.network.config import DecoderConfig
from handos_ros.network.layers import DecoderLayer, mlp

_CAMERA = NUM_JOINTS
"""Number of the camera query among a hand's queries."""
HAND_LENGTH = 0.18
"""m, wrist to middle fingertip of a middling adult: brings outputs near 1, so that layers can start small."""


@dataclass
class DecoderOutput:
    """Of K hands in each of B pictures; frames as in `handos_ros.inference.backend`.

    Attributes:
        joints_2d: (B, K, 21, 2) fractions of the picture.
        joint_logits: (B, K, 21), sigmoid gives the confidence.
        presence_logits: (B, K), added to the logit of the candidate's score: whether this is a hand, now that
            it was looked at closely. None of earlier layers.
        vertices: (B, K, V, 3) m, ray frame, wrist at 0; None from a 2D model and of earlier layers, whose
            mesh would cost more than it teaches.
        joints_3d: (B, K, 21, 3) m, likewise; None from a 2D model.
        root_2d: (B, K, 2) the wrist by the camera query, fractions; None from a 2D model.
        scale: (B, K) px of the picture per metre at the wrist; None from a 2D model.
        earlier: the same after each earlier layer, for training; empty in inference.
    """

    joints_2d: Tensor
    joint_logits: Tensor
    presence_logits: Tensor | None = None
    vertices: Tensor | None = None
    joints_3d: Tensor | None = None
    root_2d: Tensor | None = None
    scale: Tensor | None = None
    earlier: list[DecoderOutput] = field(default_factory=list)


class InteractiveDecoder(nn.Module):
    """Expansion, 2D layers, lifting, interactive layers, heads.

    Args:
        hand_model: gives the number of vertices, the lifting's start and the joint regressor.
        query_channels: channels of the detector's queries.
    """

    _upsampling: Tensor | None
    _regressor: Tensor
    _joints_of_lifted: Tensor
    _reference_lifting: Tensor
    _mask: Tensor

    def __init__(self, config: DecoderConfig, hand_model: HandModel, query_channels: int) -> None:
        super().__init__()
        self.config = config
        width = config.width
        coarse = config.vertices == "coarse"
        lifting = torch.from_numpy(
            np.array(hand_model.coarse_lifting if coarse else hand_model.lifting, np.float32)
        )
        upsampling = torch.from_numpy(np.array(hand_model.upsampling, np.float32)) if coarse else None
        regressor = torch.from_numpy(np.array(hand_model.joint_regressor, np.float32))
        self.num_lifted = len(lifting)
        # Geometry follows from the hand model, so it is no part of the weights.
        self.register_buffer("_upsampling", upsampling, persistent=False)
        self.register_buffer("_regressor", regressor, persistent=False)
        self.register_buffer(
            "_joints_of_lifted",
            regressor @ upsampling if upsampling is not None else regressor,
            persistent=False,
        )
        self.register_buffer("_reference_lifting", lifting, persistent=False)

        # Expansion.
        self.first_norm, self.last_norm = nn.LayerNorm(query_channels), nn.LayerNorm(query_channels)
        self.instance = nn.Linear(2 * query_channels, width)
        # As large as what they are added to: with embeddings ten times smaller, queries of one hand start
        # nearly alike, and one picture takes many times as long to learn by heart.
        self.joint_embedding = nn.Parameter(torch.randn(NUM_JOINTS, width))
        self.joint_size = nn.Parameter(torch.full((NUM_JOINTS, 2), -1.0))
        self.joint_start = mlp(width, width, 2, last_zero=True)

        self.position = mlp(4, width, width)
        self.layers = nn.ModuleList(
            DecoderLayer(config) for _ in range(config.layers_2d + config.layers_interactive)
        )

        # Lifting: a row for the camera and one for each vertex.
        camera_row = torch.full((1, NUM_JOINTS), 1 / NUM_JOINTS)
        self.lifting = nn.Parameter(torch.cat([camera_row, lifting]))
        # Vertices under the same bones have the same row: without a mark of their own, palm and back of
        # the hand would start as one query.
        self.lifted_embedding = nn.Parameter(torch.randn(1 + self.num_lifted, width))

        # Heads, shared by all layers.
        self.joint_move = mlp(width, width, 2, last_zero=True)
        self.joint_score = nn.Linear(width, 1)
        self.presence = mlp(width, width, 1, last_zero=True)
        self.vertex = mlp(width, width, 3)
        self.camera = mlp(width, width, 3, last_zero=True)

        # The order of queries after lifting: 21 joints, the camera, vertices.
        tokens = NUM_JOINTS + 1 + self.num_lifted
        # Finite, so that it can be averaged and halved; its exponential is 0 all the same.
        mask = torch.zeros(tokens, tokens)
        mask[:, _CAMERA] = -1e4
        mask[_CAMERA, _CAMERA] = 0
        self.register_buffer("_mask", mask, persistent=False)
        self._start_vertices()

    def _start_vertices(self) -> None:
        # Meshes of near zero size at first: the 3D losses then pull them open instead of untangling them.
        last = self.vertex[2]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=0.01)
        nn.init.zeros_(last.bias)

    def forward(
        self,
        maps: Sequence[Tensor],
        q_first: Tensor,
        q_last: Tensor,
        boxes: Tensor,
        picture_size: tuple[int, int],
        *,
        only_2d: bool = False,
        all_layers: bool = False,
    ) -> DecoderOutput:
        """Decode K hands of each of B pictures.

        Args:
            maps: F^GD, each (B, width, h, w).
            q_first, q_last: (B, K, C) the detector's queries of the candidates that are kept.
            boxes: (B, K, 4) centre and size, fractions of the picture.
            picture_size: height and width of the picture in px.
            only_2d: run every layer over joint queries alone: the model of the first training stage.
            all_layers: also give the output after each earlier layer.
        """
        instance = self.instance(torch.cat([self.first_norm(q_first), self.last_norm(q_last)], -1))
        queries = instance[:, :, None] + self.joint_embedding
        sizes = boxes[:, :, None, 2:] * self.joint_size.sigmoid()
        centres = boxes[:, :, None, :2] + boxes[:, :, None, 2:] * self.joint_start(queries)
        earlier: list[DecoderOutput] = []
        output = None
        for number, layer in enumerate(self.layers):
            lifted = not only_2d and number >= self.config.layers_2d
            if lifted and number == self.config.layers_2d:
                queries = self._lift(queries)
            # Detached between layers, but not before the first: else nothing would teach the start.
            references = torch.cat([centres.detach() if number else centres, sizes], -1)
            if lifted:
                references = self._lifted_references(references, boxes)
            position = self.position(_relative(references, boxes))
            looking = queries.shape[2] if self.config.looking == "all" else NUM_JOINTS + lifted
            queries = layer(queries, position, references, maps, self._mask if lifted else None, looking)
            joints = queries[:, :, :NUM_JOINTS]
            centres = references[:, :, :NUM_JOINTS, :2] + boxes[:, :, None, 2:] * self.joint_move(joints)
            last = number == len(self.layers) - 1
            if all_layers or last:
                if output is not None:
                    earlier.append(output)
                output = self._heads(queries, centres, boxes, picture_size, lifted, last)
        assert output is not None
        output.earlier = earlier
        return output

    def shift_presence(self, by: float) -> None:
        """Add `by` to what is said on whether candidates are hands."""
        last = self.presence[2]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.bias.add_(by)

    def _lift(self, queries: Tensor) -> Tensor:
        """(B, K, 21, D) -> (B, K, 21 + 1 + V, D)."""
        return torch.cat([queries, self.lifting @ queries + self.lifted_embedding], 2)

    def _lifted_references(self, joints: Tensor, boxes: Tensor) -> Tensor:
        """A vertex looks where its joints do, the camera query over the whole hand."""
        return torch.cat(
            [joints, boxes[:, :, None], _whole(torch.matmul, self._reference_lifting, joints)], 2
        )

    def _heads(
        self,
        queries: Tensor,
        centres: Tensor,
        boxes: Tensor,
        picture_size: tuple[int, int],
        lifted: bool,
        last: bool,
    ) -> DecoderOutput:
        joints = queries[:, :, :NUM_JOINTS]
        joint_logits = self.joint_score(joints)[..., 0]
        presence_logits = self.presence(joints.mean(2))[..., 0] if last else None
        if not lifted:
            return DecoderOutput(centres, joint_logits, presence_logits)
        shape = _whole(self.vertex, queries[:, :, _CAMERA + 1 :]) * HAND_LENGTH
        joints_3d = _whole(torch.matmul, self._joints_of_lifted, shape)
        wrist = joints_3d[:, :, :1]
        place = self.camera(queries[:, :, _CAMERA])
        height, width = picture_size
        # The longer side tells a hand's size in the picture best: it shrinks least as the hand turns.
        longer = torch.maximum(boxes[..., 2] * width, boxes[..., 3] * height)
        return DecoderOutput(
            centres,
            joint_logits,
            presence_logits,
            self._mesh(shape) - wrist if last else None,
            joints_3d - wrist,
            boxes[..., :2] + boxes[..., 2:] * place[..., :2],
            longer / HAND_LENGTH * place[..., 2].clamp(-6, 6).exp(),
        )

    def _mesh(self, lifted: Tensor) -> Tensor:
        """(B, K, C, 3) vertices that have a query -> (B, K, V, 3) all."""
        return lifted if self._upsampling is None else _whole(torch.matmul, self._upsampling, lifted)


def _whole(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """What `function` makes of these places, in single precision also where autocast would halve it."""
    kind = tensors[-1].device.type
    if not torch.is_autocast_enabled(kind):
        return function(*tensors)
    with torch.autocast(kind, enabled=False):
        return function(*(tensor.float() for tensor in tensors))


def _relative(references: Tensor, boxes: Tensor) -> Tensor:
    """Reference boxes as seen from the hand's box, so that a hand means the same anywhere at any size."""
    centre, size = boxes[:, :, None, :2], boxes[:, :, None, 2:].clamp(min=1e-4)
    return torch.cat([(references[..., :2] - centre) / size, references[..., 2:] / size], -1)
