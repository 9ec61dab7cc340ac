"""A window on the screen, where there is one."""

from __future__ import annotations

import os
import re
import sys

import cv2
import numpy as np
from numpy.typing import NDArray

_ESCAPE = 27


def why_no_window() -> str | None:
    """What keeps a window from opening here and what to do about it; None if nothing does."""
    toolkit = re.search(r"GUI:\s*(\S+)", cv2.getBuildInformation())
    if toolkit is not None and toolkit.group(1) == "NONE":
        return (
            "this OpenCV is made without windows (opencv-python-headless); for a window: "
            "pip uninstall opencv-python-headless; pip install opencv-python"
        )
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no screen (neither DISPLAY nor WAYLAND_DISPLAY is set)"
    return None


def show(title: str, image: NDArray[np.uint8]) -> bool:
    """Show an (H, W, 3) RGB picture; False when the user has closed the window or pressed q or Esc."""
    cv2.imshow(title, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    key = cv2.waitKey(1) & 0xFF
    return key not in (ord("q"), _ESCAPE) and cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) >= 1
