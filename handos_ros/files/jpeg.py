"""Whether a JPEG is all there: some OpenCV versions fill the rest with grey and say nothing."""

from __future__ import annotations

import re

_START, _END = b"\xff\xd8", 0xD9

# Inside the compressed data 0xFF is followed by 0x00 or by a restart marker, 0xD0 to 0xD7; in front of any
# marker it may stand several times (ITU-T T.81, B.1.1.2 and B.1.1.5).
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def is_cut_off_jpeg(data: bytes | memoryview) -> bool:
    """Whether the bytes begin as a JPEG does and lack the picture's own end marker.

    Just looking for the marker is not enough: a thumbnail inside has one too, so segments are stepped over
    by their length. What stands behind the end is no business of the picture: cameras pad, and a phone's
    motion picture has a film there.
    """
    view = memoryview(data)
    if bytes(view[:2]) != _START:
        return False
    place = len(_START)
    while (found := _MARKER.search(view, place)) is not None:
        if view[found.end() - 1] == _END:
            return False
        length = int.from_bytes(view[found.end() : found.end() + 2], "big")
        place = found.end() + max(length, 2)
    return True
