"""FreiHAND (lmb.informatik.uni-freiburg.de/projects/freihand): right hands with 3D joints and MANO meshes.

Folder tree, as unpacked from `FreiHAND_pub_v2` and `FreiHAND_pub_v2_eval`:

    training/rgb/00000000.jpg ...       32,560 pictures on green screen, then the same with three other
                                        backgrounds: picture i + 32560 v shows sample i on background v
    training_{K,xyz,verts}.json         a list with an entry for each of the 32,560 samples
    evaluation/rgb/00000000.jpg ...     3,960 pictures
    evaluation_{K,xyz,verts}.json       xyz and verts came out with the end of the challenge

Joints are in this package's order, all points in metres in the optical frame.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handos_ros.errors import DataError
from handos_ros.files.atomic import whole
from handos_ros.hands import NUM_JOINTS, RIGHT
from handos_ros.learning.datasets.reading import JOINT_MARGIN, box_around, project, read_json, read_picture
from handos_ros.learning.sample import Sample

BACKGROUNDS = ("gs", "hom", "sample", "auto")
"""Green screen, homogenised, and two ways of recolouring, in the order of the picture numbers."""
_VERTICES = 778


class FreiHand:
    """The samples of one split; `len` and `[i]` -> `Sample`.

    Training samples come with all four backgrounds, so that `len` is four times the number of labels.
    The mesh file takes minutes to parse as json: it is parsed once and kept beside it as `.npy`, where
    the folder lets itself be written.

    Args:
        folder: what holds `training` and `evaluation`.
        split: `training` or `evaluation`.

    Raises:
        DataError: naming the file that is missing or does not fit the others.
    """

    def __init__(self, folder: str | Path, split: str = "training") -> None:
        self.folder, self.split = Path(folder), split
        if split not in ("training", "evaluation"):
            raise DataError(f"FreiHAND has no split {split!r}: it is training or evaluation")
        self.k = self._numbers("K", (3, 3))
        self.joints = self._numbers("xyz", (NUM_JOINTS, 3))
        has_vertices = (self.folder / f"{split}_verts.json").exists()
        self.vertices = self._numbers("verts", (_VERTICES, 3)) if has_vertices else None
        for name, array in (("xyz", self.joints), ("verts", self.vertices)):
            if array is not None and len(array) != len(self.k):
                entries = f"{len(array)} entries for {len(self.k)} cameras"
                raise DataError(f"{self.folder / f'{split}_{name}.json'}: {entries}")

    def __len__(self) -> int:
        return len(self.k) * (len(BACKGROUNDS) if self.split == "training" else 1)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        # The picture's number is the index itself: backgrounds follow one another.
        path = self.folder / self.split / "rgb" / f"{index:08d}.jpg"
        label = index % len(self.k)
        image = read_picture(path)
        height, width = image.shape[:2]
        joints, k = self.joints[label], self.k[label]
        mesh = None if self.vertices is None else np.asarray(self.vertices[label])
        around, margin = (joints, JOINT_MARGIN) if mesh is None else (mesh, 0.0)
        return Sample.labelled(
            image,
            [box_around(project(around, k), width, height, margin=margin)],
            k=k,
            handedness=[RIGHT],
            joints_2d=project(joints, k)[None],
            joints_3d=joints[None],
            vertices=None if mesh is None else mesh[None],
            source=f"freihand:{self.split}/{path.name}",
        )

    def _numbers(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """(N, *shape) of one json file, mapped from its `.npy` where there is a newer one."""
        path = self.folder / f"{self.split}_{name}.json"
        kept = path.with_suffix(".npy")
        if kept.exists() and kept.stat().st_mtime >= (path.stat().st_mtime if path.exists() else 0):
            array = np.load(kept, mmap_mode="r", allow_pickle=False)
        else:
            try:
                array = np.asarray(read_json(path), np.float32)
            except (TypeError, ValueError) as error:
                raise DataError(f"{path}: not a list of {shape} numbers: {error}") from None
            if name == "verts":
                # A folder that cannot be written costs time on every start, no more.
                with contextlib.suppress(DataError), whole(kept, overwrite=True) as partial:
                    np.save(partial, array)
        if array.shape[1:] != shape:
            raise DataError(f"{path}: entries of shape {array.shape[1:]}, FreiHAND has {shape}")
        return array
