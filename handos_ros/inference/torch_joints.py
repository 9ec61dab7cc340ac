"""A 2D model in torch: every decoder layer over joint queries alone, as in the first of the two trainings."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from handos_ros.inference.backend import Detections
from handos_ros.inference.torch_backend import TorchBackend


class TorchJointsBackend(TorchBackend):
    """Runs a `HandosNetwork` whose 3D half has learned nothing."""

    def decode_joints(
        self, detections: Detections, queries: NDArray[np.int64], boxes: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """As of `JointsBackend`."""
        seen, size = detections.features
        with self._running():
            index = torch.from_numpy(np.ascontiguousarray(queries, np.int64))[None].to(self._device)
            given = torch.from_numpy(np.ascontiguousarray(boxes, np.float32))[None].to(self._device)
            out = self._network.decode(seen, index, given, size, only_2d=True)
            joints = out.joints_2d[0].float().cpu().numpy()
            scores = out.joint_logits[0].float().sigmoid().cpu().numpy()
            assert out.presence_logits is not None
            presence = out.presence_logits[0].float().cpu().numpy()
        return joints, scores, presence
