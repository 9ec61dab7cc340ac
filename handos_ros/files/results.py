"""`Hands` as files: json, npz and obj."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handos_ros.files.atomic import whole
from handos_ros.hand_model.model import HandModel
from handos_ros.hands import JOINT_NAMES, LEFT, Hands

_PX, _METRES, _SCORE = 2, 5, 4  # decimals: a hundredth of a pixel, of a millimetre, of a per cent


def hands_to_dict(image: str, hands: Hands, model: str) -> dict[str, Any]:
    """What the json file of a picture holds; points in px, metric ones in m in the optical frame.

    Args:
        image: the picture's name, for people.
        hands: found in it.
        model: `Pipeline.model_id`.
    """
    camera = hands.camera
    columns = {
        "id": hands.ids.tolist(),
        "score": _numbers(hands.scores, _SCORE),
        "handedness": ["left" if side == LEFT else "right" for side in hands.handedness],
        "handedness_score": _numbers(hands.handedness_scores, _SCORE),
        "box": _numbers(hands.boxes, _PX),
        "joints_2d": _numbers(hands.joints_2d, _PX),
        "joint_scores": _numbers(hands.joint_scores, _SCORE),
        "joints_3d": _numbers(hands.joints_3d, _METRES),
        "root_translation": _numbers(hands.root_translation, _METRES),
    }
    return {
        "image": readable(image),
        "width": camera.width,
        "height": camera.height,
        "camera": {"k": camera.k.tolist(), "source": camera.source.name.lower()},
        "model": model,
        "hands": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
    }


def readable(name: str | Path) -> str:
    """A file's name as text that UTF-8 can hold: what is none, as in old Latin-1 names, becomes a mark."""
    return str(name).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def dump_json(result: dict[str, Any]) -> str:
    """One line of json, which every reader takes: no NaN."""
    return json.dumps(result, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def write_json(path: Path, result: dict[str, Any], *, overwrite: bool = False) -> None:
    """Write a picture's json file.

    Raises:
        DataError: see `whole`.
    """
    with whole(path, overwrite=overwrite) as partial:
        partial.write_text(dump_json(result) + "\n", encoding="utf-8")


def write_npz(
    path: Path, image: str, hands: Hands, model: str, hand_model: HandModel, *, overwrite: bool = False
) -> None:
    """Write all arrays of `Hands`, the camera and the triangles; nothing in it needs pickle.

    Raises:
        DataError: see `whole`.
    """
    camera = hands.camera
    arrays = {name: value for name, value in vars(hands).items() if name != "camera"}
    with whole(path, overwrite=overwrite) as partial, partial.open("wb") as file:
        np.savez_compressed(
            file,
            image=np.array(readable(image)),
            model=np.array(model),
            joint_names=np.array(JOINT_NAMES),
            faces=hand_model.faces,
            k=camera.k,
            k_source=np.array(camera.source.name.lower()),
            distortion=camera.distortion,
            distortion_model=np.array(camera.distortion_model),
            width=camera.width,
            height=camera.height,
            **arrays,
        )


def write_obj(
    path: Path, vertices: NDArray, faces: NDArray, *, comment: str = "", overwrite: bool = False
) -> None:
    """Write one mesh as Wavefront OBJ, in metres, in the camera's optical frame.

    Args:
        path: of the file.
        vertices: (V, 3) m.
        faces: (F, 3), counter-clockwise from outside: `HandModel.faces_for` of the hand's side.
        comment: first line.
        overwrite: replace what is there.

    Raises:
        DataError: see `whole`.
    """
    lines = [f"# {readable(comment)}", "# metres; x right, y down, z away from the camera"]
    lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices.tolist()]
    lines += [f"f {a} {b} {c}" for a, b, c in (faces + 1).tolist()]
    with whole(path, overwrite=overwrite) as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _numbers(array: NDArray, decimals: int) -> list:
    """Nested lists of rounded floats, None for what is not finite."""
    values = np.round(array.astype(np.float64), decimals)
    finite = np.isfinite(values)
    if not finite.all():
        values = values.astype(object)
        values[~finite] = None
    return values.tolist()
