"""Every hand in a camera picture: box, 21 joints in 2D and 3D, mesh, side and place in metres.

Importing the package loads nothing heavy: names are fetched from their modules on first use.
"""

from __future__ import annotations

from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handos_ros.hands import Camera, Hands
    from handos_ros.inference.pipeline import Pipeline

# Python started in the sources finds `handos_ros` there; the generated messages are in colcon's install
# space. One package, two folders.
__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"
__all__ = ["Camera", "Hands", "Pipeline", "__version__"]

_HOME = {
    "Camera": "handos_ros.hands",
    "Hands": "handos_ros.hands",
    "Pipeline": "handos_ros.inference.pipeline",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
