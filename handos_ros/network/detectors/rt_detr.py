"""RT-DETR as `transformers` ships it."""

from __future__ import annotations

from typing import Any

from handos_ros.network.detectors.adapter import DetectorAdapter


class RTDetrAdapter(DetectorAdapter):
    """RT-DETR.

    Its `init_reference_points` are logits and its `encoder_last_hidden_state` is a list of maps from
    before the decoder's projection; neither is used here.
    """

    def _classes(self) -> tuple[Any, Any]:
        from transformers import RTDetrConfig, RTDetrForObjectDetection

        return RTDetrConfig, RTDetrForObjectDetection
