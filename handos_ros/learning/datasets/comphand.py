"""CompHand (github.com/SeanChenxy/HandMesh): rendered left hands with MANO meshes.

Folder tree, as unpacked:

    j_reg.npy                                   (21, 778) joints of a mesh, in MANO's order, tips at the end
    K256.npy                                    (3, 3) intrinsics of all pictures
    data/**/pic256/POSE/LIGHT/NAME.NUMBER.png
    data/**/model_mano/POSE/NUMBER.obj          its mesh, metres, optical frame

The hands are left ones with the vertex numbering of a mirrored right hand, as this package's are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handos_ros.errors import DataError
from handos_ros.hands import LEFT, NUM_JOINTS
from handos_ros.learning.datasets.reading import box_around, project, read_picture
from handos_ros.learning.sample import Sample

JOINTS_FROM_COMPHAND = (0, 13, 14, 15, 20, 1, 2, 3, 16, 4, 5, 6, 17, 10, 11, 12, 19, 7, 8, 9, 18)
"""Where each of our joints stands in `j_reg`: as in HO-3D, but the tips are those of index, middle, little,
ring finger and thumb."""
_VERTICES = 778


class CompHand:
    """All pictures; `len` and `[i]` -> `Sample` with one hand.

    Args:
        folder: what holds `data` and `j_reg.npy`.

    Raises:
        DataError: naming the file that is missing or cannot be used.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.regressor = _array(self.folder / "j_reg.npy", (NUM_JOINTS, _VERTICES))[
            list(JOINTS_FROM_COMPHAND)
        ]
        self.k = _array(self.folder / "K256.npy", (3, 3))
        self.pictures = sorted((self.folder / "data").glob("**/pic256/**/*.png"))
        if not self.pictures:
            raise DataError(f"{self.folder / 'data'}: no pictures in folders called pic256")

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Sample:
        path = self.pictures[index]
        parts = path.name.split(".")
        if len(parts) < 3:
            raise DataError(f"{path}: the name must be NAME.NUMBER.png")
        home = Path(*("model_mano" if part == "pic256" else part for part in path.parts[:-2]))
        vertices = _read_obj(home / f"{parts[1]}.obj")
        joints = self.regressor @ vertices
        image = read_picture(path)
        height, width = image.shape[:2]
        return Sample.labelled(
            image,
            [box_around(project(vertices, self.k), width, height, margin=0.0)],
            k=self.k,
            handedness=[LEFT],
            joints_2d=[project(joints, self.k)],
            joints_3d=[joints],
            vertices=[vertices],
            source=f"comphand:{path.relative_to(self.folder)}",
        )


def _array(path: Path, shape: tuple[int, ...]) -> NDArray[np.float64]:
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise DataError(f"{path}: cannot read the file: {error.strerror or error}") from None
    except ValueError as error:
        raise DataError(f"{path}: not an array: {error}") from None
    if array.shape != shape:
        raise DataError(f"{path}: an array of {array.shape}, CompHand's is {shape}")
    return np.asarray(array, np.float64)


def _read_obj(path: Path) -> NDArray[np.float64]:
    """The (778, 3) vertices of an obj file, in its order."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot read the mesh: {error.strerror}") from None
    try:
        vertices = np.array([line.split()[1:4] for line in lines if line.startswith("v ")], np.float64)
    except ValueError as error:
        raise DataError(f"{path}: not a mesh: {error}") from None
    if vertices.shape != (_VERTICES, 3):
        raise DataError(f"{path}: {len(vertices)} vertices, a MANO mesh has {_VERTICES}")
    return vertices
