"""What a system says about the hands of pictures: from a pipeline, or from json files of any system."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handos_ros.errors import CameraError, DataError
from handos_ros.hands import LEFT, NUM_JOINTS, RIGHT, Camera, Hands
from handos_ros.learning.sample import SIDE_UNKNOWN

if TYPE_CHECKING:
    from handos_ros.inference.joints import Joints
    from handos_ros.inference.pipeline import Pipeline

_SIDES = {"left": LEFT, "right": RIGHT, None: SIDE_UNKNOWN}


@dataclass(eq=False)
class Prediction:
    """N hands that a system found in one picture.

    Attributes:
        boxes: (N, 4) px x_min y_min x_max y_max.
        scores: (N,).
        handedness: (N,) 0 left, 1 right, -1 if the system does not say.
        joints_2d: (N, 21, 2) px, NaN if it does not say.
        joints_3d: (N, 21, 3) m in any frame, NaN if it does not say.
        projected: (N, 21, 2) px, `joints_3d` seen through the picture's camera; NaN if it does not say.
        size: width and height in px of the picture, None if it does not say.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    handedness: NDArray[np.int64]
    joints_2d: NDArray[np.float64]
    joints_3d: NDArray[np.float64]
    projected: NDArray[np.float64]
    size: tuple[int, int] | None = None

    @classmethod
    def from_hands(cls, hands: Hands) -> Prediction:
        """The same of a pipeline's result."""
        return cls(
            hands.boxes.astype(np.float64),
            hands.scores.astype(np.float64),
            hands.handedness.astype(np.int64),
            hands.joints_2d.astype(np.float64),
            hands.joints_3d.astype(np.float64),
            hands.camera.project(hands.joints_3d),
        )

    @classmethod
    def from_joints(cls, joints: Joints) -> Prediction:
        """The same of a 2D model's result."""
        n = len(joints.boxes)
        return cls(
            joints.boxes.astype(np.float64),
            joints.scores.astype(np.float64),
            np.full(n, SIDE_UNKNOWN, np.int64),
            joints.joints_2d.astype(np.float64),
            np.full((n, NUM_JOINTS, 3), np.nan),
            np.full((n, NUM_JOINTS, 2), np.nan),
        )

    def select(self, index: NDArray) -> Prediction:
        """The hands that a mask over N or an array of numbers names."""
        arrays = {f.name: getattr(self, f.name)[index] for f in fields(self) if f.name != "size"}
        return Prediction(**arrays, size=self.size)


def predict(
    pipeline: Pipeline,
    pictures: Sequence[Callable[[], NDArray[np.uint8]]],
    cameras: Sequence[Camera | None],
) -> Iterator[Prediction | DataError]:
    """One prediction for each picture, in order; the error of a picture that cannot be read.

    `pictures` are functions that read one each: while the network works on one picture, a thread reads
    the next, so that reading costs no time where there is a second core. `cameras` took them; None for
    one that nobody knows.
    """
    for image, camera in zip(_ahead(pictures), cameras, strict=True):
        if isinstance(image, DataError):
            yield image
        else:
            yield Prediction.from_hands(pipeline(image, camera, mesh=False))


_T = TypeVar("_T")


def _ahead(tasks: Iterable[Callable[[], _T]]) -> Iterator[_T | DataError]:
    """The tasks' results, each begun while the consumer works on the one before."""

    def attempt(task: Callable[[], _T]) -> _T | DataError:
        try:
            return task()
        except DataError as error:
            return error

    with ThreadPoolExecutor(1) as pool:
        pending = None
        for task in tasks:
            following = pool.submit(attempt, task)
            if pending is not None:
                yield pending.result()
            pending = following
        if pending is not None:
            yield pending.result()


def load_predictions(path: str | Path) -> dict[str, Prediction]:
    """Predictions by file name of the picture, without folders.

    Reads what `handos image` writes: a folder of json files, a json file with one picture or a list of
    them, or one picture a line. Of each hand `box` and `score` are needed; `handedness`, `joints_2d` and
    `joints_3d` count where they are, and of the picture its `width` and `height`. Where `joints_3d` are in
    the camera's optical frame and the picture has its `camera` (`k`), they count as projected joints too.

    Raises:
        DataError: naming the file, the picture and the hand that cannot be used.
    """
    path = Path(path)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path}: no json files in this folder")
    found: dict[str, Prediction] = {}
    for file in files:
        for record in _records(file):
            if not isinstance(record, dict) or "image" not in record:
                raise DataError(f'{file}: not predictions: every picture needs "image" and "hands"')
            name = Path(str(record["image"])).name
            if name in found:
                raise DataError(f"{file}: a second result for the picture {name}")
            said = _prediction(f"{file}: {name}", record.get("hands", []), record.get("camera"))
            found[name] = replace(said, size=_size(f"{file}: {name}", record))
    return found


def _size(where: str, record: dict[str, Any]) -> tuple[int, int] | None:
    if "width" not in record or "height" not in record:
        return None
    try:
        return int(record["width"]), int(record["height"])
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: width and height: {error}") from None


def _records(file: Path) -> list[Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{file}: cannot read the predictions: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{file}: not a json file") from None
    try:
        content = json.loads(text)
    except json.JSONDecodeError:
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError as error:
            raise DataError(f"{file}: not a json file: {error}") from None
    return content if isinstance(content, list) else [content]


def _prediction(where: str, hands: list[dict[str, Any]], camera: dict[str, Any] | None) -> Prediction:
    def stacked(name: str, shape: tuple[int, ...], needed: bool = False) -> NDArray[np.float64]:
        out = np.full((len(hands), *shape), np.nan)
        for i, hand in enumerate(hands):
            value: ArrayLike | None = hand.get(name)
            if value is None and not needed:
                continue
            try:
                out[i] = np.asarray(value, np.float64).reshape(shape)
            except (TypeError, ValueError):
                raise DataError(f"{where}: hand {i}: {name} must be numbers of shape {shape}") from None
            if needed and not np.isfinite(out[i]).all():
                raise DataError(f"{where}: hand {i}: {name} is missing or not finite")
        return out

    if not isinstance(hands, list) or not all(isinstance(hand, dict) for hand in hands):
        raise DataError(f'{where}: "hands" must be a list of hands')
    sides = [hand.get("handedness") for hand in hands]
    unknown = [side for side in sides if side not in ("left", "right", None)]
    if unknown:
        raise DataError(f"{where}: handedness {unknown[0]!r}, must be left, right or null")
    joints_3d = stacked("joints_3d", (NUM_JOINTS, 3))
    return Prediction(
        boxes=stacked("box", (4,), needed=True),
        scores=stacked("score", (), needed=True),
        handedness=np.array([_SIDES[side] for side in sides], np.int64),
        joints_2d=stacked("joints_2d", (NUM_JOINTS, 2)),
        joints_3d=joints_3d,
        projected=_projected(where, joints_3d, camera),
    )


def _projected(
    where: str, joints_3d: NDArray[np.float64], camera: dict[str, Any] | None
) -> NDArray[np.float64]:
    """(N, 21, 2) px; NaN without a camera and for joints that are not before it."""
    if camera is None:
        return np.full((len(joints_3d), NUM_JOINTS, 2), np.nan)
    try:
        # The picture's size plays no part in projection.
        return Camera(camera["k"], 1, 1).project(joints_3d)
    except (KeyError, TypeError, CameraError) as error:
        raise DataError(f"{where}: camera: {error!r}; its k must be 3 x 3 intrinsics in px") from None
