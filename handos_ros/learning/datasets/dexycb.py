"""DexYCB (dex-ycb.github.io): one hand of either side grasps an object before eight cameras.

Folder tree, as unpacked:

    calibration/intrinsics/SERIAL_640x480.yml     color: fx fy ppx ppy
    calibration/mano_NAME/mano.yml                betas: MANO's shape of one person, for either hand
    20200709-subject-01/SEQUENCE/meta.yml         num_frames, mano_sides: [left or right], mano_calib: [NAME]
    20200709-subject-01/SEQUENCE/SERIAL/color_000000.jpg
    20200709-subject-01/SEQUENCE/SERIAL/labels_000000.npz
                                                  joint_3d (1, 21, 3) m, joint_2d (1, 21, 2) px,
                                                  pose_m (1, 51), seg

Joints are in this package's order and in the optical frame; all of them are -1 in frames in which the hand
is not there, which stay as pictures without a hand. `pose_m` holds the hand's turn (3), all 45 principal
components of MANO's pose space about its mean pose, and the translation (3): manopth's
`ManoLayer(flat_hand_mean=False, ncomps=45, use_pca=True)`, as in the toolkit's `mano_layer.py`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handos_ros.errors import DataError
from handos_ros.hands import LEFT, NUM_JOINTS, RIGHT
from handos_ros.learning.datasets.mano_meshes import ManoMeshes
from handos_ros.learning.datasets.reading import JOINT_MARGIN, box_around, read_picture
from handos_ros.learning.sample import Sample

SUBJECTS = (
    "20200709-subject-01", "20200813-subject-02", "20200820-subject-03", "20200903-subject-04",
    "20200908-subject-05", "20200918-subject-06", "20200928-subject-07", "20201002-subject-08",
    "20201015-subject-09", "20201022-subject-10",
)  # fmt: skip
SERIALS = (
    "836212060125", "839512060362", "840412060917", "841412060263",
    "932122060857", "932122060861", "932122061900", "932122062010",
)  # fmt: skip
_SEQUENCES = 100
"""Recordings of each subject, five a grasped object."""
_WIDTH, _HEIGHT = 640, 480


@dataclass(frozen=True)
class Part:
    """What belongs to one split: numbers of subjects, cameras, and of each subject's recordings."""

    subjects: tuple[int, ...]
    serials: tuple[int, ...]
    sequences: tuple[int, ...]


def _part(subjects: Iterable[int], serials: Iterable[int], sequences: Iterable[int]) -> Part:
    return Part(tuple(subjects), tuple(serials), tuple(sequences))


_ALL = range(_SEQUENCES)
SPLITS: dict[tuple[str, str], Part] = {
    # s0: known subjects, cameras and objects; every fifth recording is kept out.
    ("s0", "train"): _part(range(10), range(8), [i for i in _ALL if i % 5 != 4]),
    ("s0", "val"): _part((0, 1), range(8), range(4, _SEQUENCES, 5)),
    ("s0", "test"): _part(range(2, 10), range(8), range(4, _SEQUENCES, 5)),
    # s1: unknown subjects.
    ("s1", "train"): _part((0, 1, 2, 3, 4, 5, 9), range(8), _ALL),
    ("s1", "val"): _part((6,), range(8), _ALL),
    ("s1", "test"): _part((7, 8), range(8), _ALL),
    # s2: unknown cameras.
    ("s2", "train"): _part(range(10), range(6), _ALL),
    ("s2", "val"): _part(range(10), (6,), _ALL),
    ("s2", "test"): _part(range(10), (7,), _ALL),
    # s3: unknown objects.
    ("s3", "train"): _part(range(10), range(8), [i for i in _ALL if i // 5 not in (3, 7, 11, 15, 19)]),
    ("s3", "val"): _part(range(10), range(8), [i for i in _ALL if i // 5 in (3, 19)]),
    ("s3", "test"): _part(range(10), range(8), [i for i in _ALL if i // 5 in (7, 11, 15)]),
}
"""The official splits by setup and name."""


class DexYcb:
    """The frames of one split; `len` and `[i]` -> `Sample` with one hand or none.

    Frames follow one another by recording, then camera, then time.

    Args:
        folder: what holds `calibration` and the subjects' folders.
        setup: `s0` (the usual one) to `s3`.
        split: `train`, `val` or `test`.
        mano: the user's own MANO files (see `load_mano_hands`), for meshes; None for joints alone.

    Raises:
        DataError: naming what is missing or cannot be used.
        ModelError: if a MANO file cannot be used.
    """

    def __init__(
        self,
        folder: str | Path,
        setup: str = "s0",
        split: str = "train",
        *,
        mano: str | Path | None = None,
    ) -> None:
        self.folder = Path(folder)
        if (setup, split) not in SPLITS:
            raise DataError(f"DexYCB has no {setup} {split}: setups are s0 to s3, splits train, val and test")
        part = SPLITS[setup, split]
        serials = [SERIALS[i] for i in part.serials]
        self.k = {serial: self._intrinsics(serial) for serial in serials}
        self.frames: list[tuple[Path, int, int]] = []
        """The camera's folder, the frame's number, the side."""
        self._meshes = ManoMeshes(mano, "DexYCB")
        self._betas: dict[Path, NDArray[np.float64]] = {}
        """MANO's shape in each recording, where meshes are made."""
        self._shapes: dict[Path, NDArray[np.float64]] = {}
        """The same by its file: recordings of one person share it."""
        for subject in (SUBJECTS[i] for i in part.subjects):
            home = self.folder / subject
            recordings = sorted(p for p in home.iterdir() if p.is_dir()) if home.is_dir() else []
            if len(recordings) != _SEQUENCES:
                raise DataError(
                    f"{home}: {len(recordings)} recordings, DexYCB has {_SEQUENCES} of each subject: "
                    "splits go by their order, so all of them must be there"
                )
            for recording in (recordings[i] for i in part.sequences):
                side, count = self._meta(recording)
                self.frames += [(recording / s, frame, side) for s in serials for frame in range(count)]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Sample:
        folder, frame, side = self.frames[index]
        path = folder / f"labels_{frame:06d}.npz"
        try:
            with np.load(path, allow_pickle=False) as label:
                joints = np.asarray(label["joint_3d"], np.float64).reshape(NUM_JOINTS, 3)
                points = np.asarray(label["joint_2d"], np.float64).reshape(NUM_JOINTS, 2)
                pose = np.asarray(label["pose_m"], np.float64).reshape(51) if self._meshes.hands else None
        except OSError as error:
            raise DataError(f"{path}: cannot read the label: {error.strerror or error}") from None
        except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: not a label of DexYCB: {error}") from None
        image = read_picture(folder / f"color_{frame:06d}.jpg")
        k = self.k[folder.name]
        source = f"dexycb:{folder.relative_to(self.folder)}/{frame:06d}"
        if (joints == -1).all():
            return Sample.labelled(image, k=k, source=source)
        height, width = image.shape[:2]
        try:
            mesh = None if pose is None else self._mesh(folder.parent, side, pose, joints)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        return Sample.labelled(
            image,
            [box_around(points, width, height, margin=JOINT_MARGIN)],
            k=k,
            handedness=[side],
            joints_2d=points[None],
            joints_3d=joints[None],
            vertices=None if mesh is None else mesh[None],
            source=source,
        )

    def _mesh(self, recording: Path, side: int, pose: NDArray, joints: NDArray) -> NDArray[np.float64] | None:
        """The mesh of one label's pose parameters; None without a MANO file of that side."""
        shape = self._betas[recording]
        return self._meshes(side, pose[:48], shape, pose[48:], joints=joints, components=True)

    def _intrinsics(self, serial: str) -> NDArray[np.float64]:
        path = self.folder / "calibration" / "intrinsics" / f"{serial}_{_WIDTH}x{_HEIGHT}.yml"
        try:
            colour = _yaml(path)["color"]
            fx, fy, cx, cy = (float(colour[name]) for name in ("fx", "fy", "ppx", "ppy"))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: no intrinsics of DexYCB: {error!r}") from None
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])

    def _meta(self, recording: Path) -> tuple[int, int]:
        """The hand's side and the number of frames of one recording; keeps its shape for meshes."""
        path = recording / "meta.yml"
        meta = _yaml(path)
        try:
            side, count = {"left": LEFT, "right": RIGHT}[meta["mano_sides"][0]], int(meta["num_frames"])
            if self._meshes.hands:
                self._betas[recording] = self._shape(str(meta["mano_calib"][0]))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"{path}: no recording of DexYCB: {error!r}") from None
        return side, count

    def _shape(self, name: str) -> NDArray[np.float64]:
        """(10,) MANO's betas of one person."""
        path = self.folder / "calibration" / f"mano_{name}" / "mano.yml"
        if path not in self._shapes:
            try:
                self._shapes[path] = np.asarray(_yaml(path)["betas"], np.float64).reshape(10)
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{path}: no shape of DexYCB: {error!r}") from None
        return self._shapes[path]


def _yaml(path: Path) -> dict:
    import yaml

    try:
        return yaml.load(
            path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        )
    except OSError as error:
        raise DataError(f"{path}: cannot read the file: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a yaml file: {error}") from None
