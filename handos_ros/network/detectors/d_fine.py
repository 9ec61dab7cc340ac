"""D-FINE as `transformers` ships it: the detector of `handos_lite`."""

from __future__ import annotations

from typing import Any

from handos_ros.network.detectors.adapter import DetectorAdapter


class DFineAdapter(DetectorAdapter):
    """D-FINE. Its `intermediate_hidden_states` stack layers first; `last_hidden_state` does not."""

    def _classes(self) -> tuple[Any, Any]:
        from transformers import DFineConfig, DFineForObjectDetection

        import handos_ros.network.detectors.blaze  # noqa: F401  makes its backbone known to transformers

        return DFineConfig, DFineForObjectDetection
