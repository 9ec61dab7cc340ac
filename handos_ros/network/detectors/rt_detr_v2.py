"""RT-DETR version 2 as `transformers` ships it."""

from __future__ import annotations

from typing import Any

from handos_ros.network.detectors.adapter import DetectorAdapter


class RTDetrV2Adapter(DetectorAdapter):
    """RT-DETR v2: the same traps as RT-DETR, other sampling inside."""

    def _classes(self) -> tuple[Any, Any]:
        from transformers import RTDetrV2Config, RTDetrV2ForObjectDetection

        return RTDetrV2Config, RTDetrV2ForObjectDetection
