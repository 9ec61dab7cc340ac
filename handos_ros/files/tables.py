"""Tables of hands: one row for each hand and picture, as csv or parquet, out of bags that hold hands."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.serde import SerdeError

from handos_ros.errors import DataError, HandosError
from handos_ros.extras import how_to_install
from handos_ros.files.atomic import refuse_existing, whole
from handos_ros.files.bags_reading import BagReader
from handos_ros.files.rosmsg import HAND_ARRAY, hands_from_message, typestore
from handos_ros.hand_model.wrist import wrist_orientations
from handos_ros.hands import JOINT_NAMES, LEFT, Hands, KSource, TranslationSource

COLUMNS: dict[str, tuple[str, str]] = {
    "bag": ("string", "name of the bag"),
    "camera": ("string", "name of the camera: what stands between /handos/ and /hands in the topic"),
    "picture": ("int64", "number of the HandArray among those of its camera, from 0: of the pictures that "
                "could be read, or that the node looked at; numbers are missing where a picture shows no "
                "hand. To join with pictures, go by `stamp_ns`"),
    "stamp_ns": ("int64", "the picture's own time stamp, ns since 1970 or since the robot started"),
    "recorded_ns": ("int64", "when the picture was recorded, ns since 1970"),
    "frame_id": ("string", "the camera's optical frame, in which x y z are: x right, y down, z forward"),
    "width": ("int32", "of the picture, px"),
    "height": ("int32", "of the picture, px"),
    "fx": ("float64", "focal length used, px"),
    "fy": ("float64", "focal length used, px"),
    "cx": ("float64", "principal point used, px"),
    "cy": ("float64", "principal point used, px"),
    "k_source": ("string", "where these came from: assumed, camera_info or parameter"),
    "hand_id": ("int32", "the same for one hand over time within its camera; -1 where untracked"),
    "side": ("string", "left or right: the person's own"),
    "side_score": ("float32", "0.5 (no idea) to 1 (sure)"),
    "score": ("float32", "0 to 1, that this is a hand; one that is there stays at half of what begins one"),
    "box_x_min": ("float32", "px"),
    "box_y_min": ("float32", "px"),
    "box_x_max": ("float32", "px"),
    "box_y_max": ("float32", "px"),
    "place_source": ("string", "what the distance rests on: network or reprojection"),
    **{f"wrist_q{axis}": ("float32", "how the wrist is turned, quaternion, axes as in Hand.msg")
       for axis in "xyzw"},
    **{
        f"{joint}_{part}": ("float32", f"{joint.replace('_', ' ')}: {text}")
        for joint in JOINT_NAMES
        for part, text in (("u", "px right"), ("v", "px down"), ("score", "0 to 1"), ("x", "m right"),
                           ("y", "m down"), ("z", "m forward"))
    },
}  # fmt: skip
"""Name -> (type, meaning) of each column, in order."""

# Hands gathered before they are written: some megabytes.
_ROWS_AT_ONCE = 4096


def write_table(
    bags: Sequence[tuple[str, Path]],
    output: Path,
    *,
    overwrite: bool = False,
    damage: list[str] | None = None,
) -> int:
    """Write the hands that bags hold, made by `handos bag` or recorded from the node, into one table.

    Args:
        bags: name and path of each.
        output: the file; it ends in `.csv` or `.parquet`. It appears when it is whole.
        overwrite: replace it where it is there.
        damage: what is wrong with bags is added here, and what they hold is written all the same.

    Returns:
        The number of rows.

    Raises:
        DataError: if the table cannot be written; if a bag is damaged or holds no hands, without `damage`
            for it or where none of them holds anything.
    """
    check_table(output, overwrite=overwrite)
    write = _write_csv if output.suffix == ".csv" else _write_parquet
    found: list[str] = []

    def rows() -> Iterator[dict[str, Any]]:
        for name, path in bags:
            yield from rows_of(name, path, found)
            if found and damage is None:
                raise DataError(found[0])

    with whole(output, overwrite=overwrite) as partial:
        count = write(_blocks(rows()), partial)
        if found and not count:
            raise DataError("; ".join(found))
    if damage is not None:
        damage += found
    return count


def check_table(output: Path, *, overwrite: bool = False) -> None:
    """Say no before the work begins.

    Raises:
        DataError: if `output` is there, is of no known type, or needs a package that is missing.
    """
    if output.suffix not in (".csv", ".parquet"):
        raise DataError(f"{output}: a table ends in .csv or .parquet")
    refuse_existing(output, overwrite=overwrite)
    if output.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise DataError(
                f"{output}: parquet needs pyarrow: {how_to_install('table')}, or choose .csv"
            ) from None


def rows_of(name: str, path: Path, damage: list[str]) -> Iterator[dict[str, Any]]:
    """The rows of one bag, each a column's name -> arrays over the hands of a picture.

    What is wrong with the bag is added to `damage`.
    """
    try:
        reader = BagReader(path)
    except DataError as error:
        damage.append(str(error))
        return
    topics = [topic for topic, (kind, _) in reader.topics.items() if kind == HAND_ARRAY]
    if not topics:
        damage.append(f"{path}: holds no hands ({HAND_ARRAY})")
        return
    broken = 0
    counts = dict.fromkeys(topics, 0)
    for message in reader.messages(topics):
        topic = message.topic.name
        try:
            hands, frame, stamp = hands_from_message(typestore().deserialize_cdr(message.data, HAND_ARRAY))
        except (SerdeError, HandosError, ValueError):
            broken += 1
            counts[topic] += 1
            continue
        if len(hands):
            camera = topic.removeprefix("/handos").removesuffix("/hands").strip("/")
            row: dict[str, Any] = {
                "bag": name,
                "camera": camera,
                "picture": counts[topic],
                "stamp_ns": stamp,
                "recorded_ns": message.stamp,
                "frame_id": frame,
            }
            yield {**{key: np.repeat(value, len(hands)) for key, value in row.items()}, **_columns(hands)}
        counts[topic] += 1
    if broken:
        damage.append(f"{path}: {broken} messages cannot be read")
    if reader.damage:
        damage.append(f"{path}: " + "; ".join(reader.damage))


def _columns(hands: Hands) -> dict[str, Any]:
    n, camera = len(hands), hands.camera
    whole = {
        "width": camera.width,
        "height": camera.height,
        "fx": camera.k[0, 0],
        "fy": camera.k[1, 1],
        "cx": camera.k[0, 2],
        "cy": camera.k[1, 2],
        "k_source": KSource(camera.source).name.lower(),
    }
    columns: dict[str, Any] = {key: np.repeat(value, n) for key, value in whole.items()}
    columns["hand_id"] = hands.ids
    columns["side"] = np.where(hands.handedness == LEFT, "left", "right")
    columns["side_score"], columns["score"] = hands.handedness_scores, hands.scores
    for i, side in enumerate(("x_min", "y_min", "x_max", "y_max")):
        columns[f"box_{side}"] = hands.boxes[:, i]
    columns["place_source"] = np.array(
        [TranslationSource(int(source)).name.lower() for source in hands.translation_source]
    )
    wrist = wrist_orientations(hands.joints_3d, hands.handedness)
    for i, axis in enumerate("xyzw"):
        columns[f"wrist_q{axis}"] = wrist[:, i]
    for j, joint in enumerate(JOINT_NAMES):
        columns[f"{joint}_u"], columns[f"{joint}_v"] = hands.joints_2d[:, j].T
        columns[f"{joint}_score"] = hands.joint_scores[:, j]
        for i, axis in enumerate("xyz"):
            columns[f"{joint}_{axis}"] = hands.joints_3d[:, j, i]
    return columns


def _blocks(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Some thousand rows at a time, each column of its type."""
    waiting: list[dict[str, Any]] = []
    count = 0
    for row in rows:
        waiting.append(row)
        count += len(row["score"])
        if count >= _ROWS_AT_ONCE:
            yield _joined(waiting)
            waiting, count = [], 0
    yield _joined(waiting)


def _joined(rows: list[dict[str, Any]]) -> dict[str, Any]:
    columns = {}
    for name, (kind, _) in COLUMNS.items():
        dtype = object if kind == "string" else np.dtype(kind)
        columns[name] = np.concatenate([row[name].astype(dtype) for row in rows] or [np.zeros(0, dtype)])
    return columns


def _write_csv(blocks: Iterable[dict[str, Any]], path: Path) -> int:
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for block in blocks:
            # As strings float32 keep no more digits than they have.
            texts = [block[name].astype(str) for name in COLUMNS]
            writer.writerows(zip(*texts, strict=True))
            count += len(texts[0])
    return count


def _write_parquet(blocks: Iterable[dict[str, Any]], path: Path) -> int:
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema([(name, pyarrow.type_for_alias(kind)) for name, (kind, _) in COLUMNS.items()])
    count = 0
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for block in blocks:
            arrays = [pyarrow.array(block[field.name], field.type) for field in schema]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
            count += len(arrays[0])
    return count
