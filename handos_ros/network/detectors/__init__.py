"""Detectors behind one interface, one file each."""

from __future__ import annotations

from handos_ros.network.config import DetectorConfig
from handos_ros.network.detectors.adapter import DetectorAdapter, DetectorOutput, Places

__all__ = ["DetectorAdapter", "DetectorOutput", "Places", "build_detector"]


def build_detector(config: DetectorConfig, *, pretrained: bool = True) -> DetectorAdapter:
    """The adapter for `config.kind`, not yet frozen."""
    if config.kind == "grounding_dino":
        from handos_ros.network.detectors.grounding_dino import GroundingDinoAdapter as adapter
    elif config.kind == "rt_detr":
        from handos_ros.network.detectors.rt_detr import RTDetrAdapter as adapter
    elif config.kind == "rt_detr_v2":
        from handos_ros.network.detectors.rt_detr_v2 import RTDetrV2Adapter as adapter
    else:
        from handos_ros.network.detectors.d_fine import DFineAdapter as adapter
    return adapter(config, pretrained=pretrained)
