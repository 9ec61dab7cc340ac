"""Batched triangle rasteriser in plain PyTorch: which triangle does each pixel of each picture see?

Triangles become rows, rows become runs of pixels, and one `scatter_reduce` keeps the nearest of all
candidates. No triangle's bounding box is searched, so the work is the covered area. The same lines run
on CPU and GPU; the nearest candidate is found on whole numbers, so the order in which threads come does
not matter, and equal corners give equal pictures.
"""

from __future__ import annotations

import torch
from torch import Tensor

EMPTY = 0
"""Value of `Raster.key` where no triangle covers the pixel."""

_FACE_BITS = 31
_CACHED = 1 << 16
"""Pixels in work at a time on a CPU: some ten arrays of them stay in its second-level cache."""

_LAST_FACE = (1 << _FACE_BITS) - 1


def rasterise(corners: Tensor, picture: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Find the nearest triangle at each pixel's centre.

    A pixel centre on the border of two triangles belongs to one of them only (upper and left borders are
    inside). Of triangles at the same depth the one that stands first wins. Winding does not matter.

    Args:
        corners: (T, 3, 3) float32 x px, y px (pixel centres at whole numbers) and inverse depth (> 0,
            1/m; linear in the picture) of three corners; they may lie far outside.
        picture: (T,) int64 the picture that each triangle belongs to.
        size: B pictures of H x W px.

    Returns:
        (B * H * W,) int64 keys, `EMPTY` where nothing is; `faces_of` and `inverse_depths_of` read them.
    """
    b, height, width = size
    keys = torch.zeros(b * height * width, dtype=torch.int64, device=corners.device)
    rows = _rows(corners, picture, height, width)
    for piece in _pieces(rows.count):
        owner, place = expand(rows.count[piece])
        inverse_depth = rows.inverse_depth[piece].index_select(0, owner)
        inverse_depth += rows.step[piece].index_select(0, owner) * place
        key = inverse_depth.view(torch.int32).to(torch.int64) << 32
        key |= rows.rank[piece].index_select(0, owner)
        pixel = rows.pixel[piece].index_select(0, owner) + place
        keys.scatter_reduce_(0, pixel, key, "amax")
    return keys


def faces_of(keys: Tensor) -> Tensor:
    """Number of the triangle behind each key that is not `EMPTY`."""
    return _LAST_FACE - (keys & _LAST_FACE)


def inverse_depths_of(keys: Tensor) -> Tensor:
    """float32 inverse depth of each key, 0 where it is `EMPTY`."""
    return (keys >> 32).to(torch.int32).view(torch.float32)


def expand(count: Tensor) -> tuple[Tensor, Tensor]:
    """Runs of `count` (N,) entries each, one after the other: (owner, place within the run) of each.

    As `repeat_interleave(arange(N), count)`, but ten times as fast on the CPU.
    """
    ends = count.cumsum(0)
    total = int(ends[-1]) if len(ends) else 0
    starts = ends - count
    marks = torch.zeros(total + 1, dtype=torch.int64, device=count.device)
    marks.scatter_add_(0, starts, torch.ones_like(starts))
    owner = marks[:total].cumsum(0) - 1
    place = torch.arange(total, device=count.device) - starts.index_select(0, owner)
    return owner, place


def _pieces(count: Tensor) -> list[slice]:
    """Cut rows into pieces whose pixels fit a CPU's cache; a GPU takes them all at once."""
    ends = count.cumsum(0)
    total = int(ends[-1]) if len(ends) and count.device.type == "cpu" else 0
    if total <= _CACHED:
        return [slice(None)]
    cuts = torch.searchsorted(ends, torch.arange(_CACHED, total, _CACHED)).tolist()
    return [slice(a, b) for a, b in zip([0, *cuts], [*cuts, len(count)], strict=True)]


class _Rows:
    """One run of pixels of one triangle each: R of them."""

    def __init__(self, pixel: Tensor, count: Tensor, inverse_depth: Tensor, step: Tensor, rank: Tensor):
        self.pixel, self.count, self.rank = pixel, count, rank
        self.inverse_depth, self.step = inverse_depth, step


def _rows(corners: Tensor, picture: Tensor, height: int, width: int) -> _Rows:
    """Cut T triangles into the rows of pixels that they cover."""
    order = corners[..., 1].argsort(dim=1, stable=True)
    a, b, c = corners.gather(1, order[..., None].expand(-1, -1, 3)).unbind(1)
    ax, ay, az = a.unbind(1)
    bx, by, bz = b.unbind(1)
    cx, cy, cz = c.unbind(1)
    # Both neighbours of an edge compute its crossing with a row from the same upper end and the same
    # slope, to the bit: no gap and no pixel twice.
    long = (cx - ax) / (cy - ay)
    upper = (bx - ax) / (by - ay)
    lower = (cx - bx) / (cy - by)
    # Inverse depth is a plane over the picture: its slope along x.
    area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
    step_x = ((bz - az) * (cy - ay) - (cz - az) * (by - ay)) / area
    step_y = ((bx - ax) * (cz - az) - (cx - ax) * (bz - az)) / area
    nearest, farthest = corners[..., 2].amax(1), corners[..., 2].amin(1)

    first = ay.clamp(0, height).ceil()
    last = cy.clamp(0, height).ceil()
    # One contiguous row per quantity: a CPU's vector units want that.
    table = torch.stack([first, ax, ay, long, bx, by, upper, lower, az, step_x, step_y, nearest, farthest])
    owner, place = expand((last - first).to(torch.int64).clamp_(min=0))
    table = table.index_select(1, owner)
    first, ax, ay, long, bx, by, upper, lower, az, step_x, step_y, nearest, farthest = table
    y = first + place
    left = ax + (y - ay) * long
    right = torch.where(y < by, ax + (y - ay) * upper, bx + (y - by) * lower)
    left, right = torch.minimum(left, right), torch.maximum(left, right)
    start = left.clamp(0, width).ceil()
    end = right.clamp(0, width).ceil()
    count = (end - start).to(torch.int64)

    # Rounding in slivers must not carry a depth out of the triangle's own range.
    at_start = az + (start - ax) * step_x + (y - ay) * step_y
    at_end = at_start + (end - 1 - start) * step_x
    at_start = torch.minimum(torch.maximum(at_start.nan_to_num_(0), farthest), nearest)
    at_end = torch.minimum(torch.maximum(at_end.nan_to_num_(0), farthest), nearest)
    step = (at_end - at_start) / (end - 1 - start).clamp(min=1)

    pixel = (picture.index_select(0, owner) * height + y.to(torch.int64)) * width + start.to(torch.int64)
    return _Rows(pixel, count, at_start, step, _LAST_FACE - owner)
