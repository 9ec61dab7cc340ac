"""Public data sets, one file each, all giving the same `Sample`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

DATASETS: dict[str, tuple[str, str]] = {
    "freihand": ("freihand", "FreiHand"),
    "hint": ("hint", "HInt"),
    "coco_wholebody": ("coco_wholebody", "CocoWholeBodyHands"),
    "onehand10k": ("onehand10k", "OneHand10K"),
    "ho3d": ("ho3d", "Ho3d"),
    "h2o3d": ("ho3d", "H2o3d"),
    "dexycb": ("dexycb", "DexYcb"),
    "comphand": ("comphand", "CompHand"),
}
"""Name of each data set -> its module here and its class."""

POSED_BY_MANO = {"ho3d": "HO-3D", "h2o3d": "H2O-3D", "dexycb": "DexYCB"}
"""Those whose meshes are made with the user's own MANO files, their option `mano`; and their full names."""


def open_dataset(name: str, *paths: str, **options: Any) -> Any:
    """A data set by its name in `DATASETS`; `len` and `[i]` -> `Sample`.

    Raises:
        DataError: as the data set does, for files that are missing or not as they should be.
    """
    module, cls = DATASETS[name]
    return getattr(import_module(f"handos_ros.learning.datasets.{module}"), cls)(*paths, **options)
