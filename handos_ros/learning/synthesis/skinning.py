"""The hand model in PyTorch: bone rotations and shape -> vertices and joints, as `hand_model.posing`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from handos_ros.hand_model.model import HandModel
from handos_ros.hand_model.poses import bone_limits
from handos_ros.learning.synthesis.rotations import axis_rotations


@dataclass
class Bones:
    """N posed skeletons: what poses are solved on, at a tenth of the cost of the skin.

    Attributes:
        turns: (N, B, 3, 3) global rotations from the rest pose.
        heads, tails: (N, B, 3) m.
    """

    turns: Tensor
    heads: Tensor
    tails: Tensor


class TorchHand:
    """A `HandModel` on a device. Right hands; the left hand is the mirror image."""

    def __init__(self, model: HandModel, device: torch.device | str = "cpu"):
        def tensor(array: np.ndarray) -> Tensor:
            return torch.tensor(np.asarray(array, np.float32), device=device)

        self.model, self.device = model, torch.device(device)
        self.faces = torch.tensor(model.faces, dtype=torch.int64, device=device)
        self.template, self.skinning = tensor(model.template), tensor(model.skinning)
        self.shape_basis = tensor(model.shape_basis)
        self.bone_regressor, self.joint_regressor = (
            tensor(model.bone_regressor),
            tensor(model.joint_regressor),
        )
        self.flexion_axes, self.abduction_axes = tensor(model.flexion_axes), tensor(model.abduction_axes)
        self.pose_basis = None if model.pose_basis is None else tensor(model.pose_basis)
        self.rest_heads, self.rest_tails = tensor(model.bone_heads), tensor(model.bone_tails)
        self.limits = tensor(bone_limits(model))
        self.levels = [torch.tensor(level, device=device) for level in _levels(model.bone_parents)]
        self.parents = torch.tensor(model.bone_parents, dtype=torch.int64, device=device)

    def pose(self, rotations: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
        """Pose N right hands.

        Args:
            rotations: (N, B, 3, 3) local turns as in `hand_model.posing.pose`.
            shape: (N, S) standard deviations.

        Returns:
            (N, V, 3) vertices and (N, 21, 3) joints in m, the root bone's head at the origin.
        """
        rest = self.template + torch.einsum("ns,svi->nvi", shape, self.shape_basis)
        heads = self.bone_regressor @ rest
        rest, heads = rest - heads[:, :1], heads - heads[:, :1]
        if self.pose_basis is not None:
            offsets = (rotations[:, 1:] - torch.eye(3, device=self.device)).flatten(1)
            rest = rest + torch.einsum("np,pvi->nvi", offsets, self.pose_basis)
        turns, places = self._chain(rotations, heads)
        shifts = places - (turns @ heads[..., None])[..., 0]
        transforms = torch.cat([turns, shifts[..., None]], -1).flatten(2)
        blended = (self.skinning @ transforms).unflatten(-1, (3, 4))
        vertices = (blended[..., :3] * rest[..., None, :]).sum(-1) + blended[..., 3]
        return vertices, self.joint_regressor @ vertices

    def bones(self, rotations: Tensor) -> Bones:
        """The skeletons of N hands of mean shape: (N, B, 3, 3) local turns."""
        heads = self.rest_heads - self.rest_heads[:1]
        turns, places = self._chain(rotations, heads.expand(len(rotations), -1, -1))
        along = self.rest_tails - self.rest_heads
        return Bones(turns, places, places + (turns @ along[..., None])[..., 0])

    def rotations(self, flexion: Tensor, abduction: Tensor, twist: Tensor | None = None) -> Tensor:
        """Local turns (..., B, 3, 3) from angles (..., B) rad, as `posing.anatomical_rotations`."""
        turns = axis_rotations(self.abduction_axes, abduction) @ axis_rotations(self.flexion_axes, flexion)
        if twist is not None:
            axes = torch.linalg.cross(self.flexion_axes, self.abduction_axes)
            turns = turns @ axis_rotations(axes, twist)
        return turns

    def _chain(self, rotations: Tensor, heads: Tensor) -> tuple[Tensor, Tensor]:
        """Global turns and places of all bones, a level of the tree at a time."""
        turns, places = rotations.clone(), heads.clone()
        for level in self.levels:
            parents = self.parents[level]
            above = turns[:, parents]
            turns[:, level] = above @ rotations[:, level]
            step = (heads[:, level] - heads[:, parents])[..., None]
            places[:, level] = places[:, parents] + (above @ step)[..., 0]
        return turns, places


def _levels(parents: np.ndarray) -> list[list[int]]:
    """Bones by their distance from the root, without the root."""
    depth = [0] * len(parents)
    for bone in range(1, len(parents)):
        depth[bone] = depth[parents[bone]] + 1
    return [[b for b, d in enumerate(depth) if d == level] for level in range(1, max(depth) + 1)]
