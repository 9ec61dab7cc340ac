"""Tables of hands: every column of the right type and place, and documented."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bag_makers import START, STEP, write_bag
from rosbags.highlevel import AnyReader

from handos_ros.errors import DataError
from handos_ros.files.bags import BagOptions, process_bag
from handos_ros.files.tables import COLUMNS, write_table
from standin import standin_pipeline

REPOSITORY = Path(__file__).resolve().parents[2]
pandas = pytest.importorskip("pandas")


@pytest.fixture
def hands(tmp_path: Path) -> Path:
    """A bag with hands: 12 pictures, 20 hands."""
    process_bag(write_bag(tmp_path / "in"), tmp_path / "hands", [standin_pipeline()], BagOptions())
    return tmp_path / "hands"


def load(path: Path):
    return pandas.read_csv(path) if path.suffix == ".csv" else pandas.read_parquet(path)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_row_for_each_hand_and_picture(hands: Path, tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"table{suffix}"
    assert write_table([("first", hands)], path) == 20
    table = load(path)
    assert list(table.columns) == list(COLUMNS) and len(table) == 20
    assert not table.isna().any().any()

    with AnyReader([hands]) as reader:
        connections = [c for c in reader.connections if c.topic == "/handos/cam/hands"]
        arrays = [reader.deserialize(data, c.msgtype) for c, _, data in reader.messages(connections)]
    expected = [(i, array, hand) for i, array in enumerate(arrays) for hand in array.hands]
    for (_, row), (i, array, hand) in zip(table.iterrows(), expected, strict=True):
        assert (row.bag, row.camera, row.picture) == ("first", "cam", i)
        assert (row.stamp_ns, row.recorded_ns) == (START + i * STEP, START + i * STEP + 3_000_000)
        assert (row.frame_id, row.width, row.height) == ("camera_optical", 320, 240)
        assert (row.fx, row.fy, row.cx, row.cy, row.k_source) == (300, 300, 160, 120, "camera_info")
        assert (row.hand_id, row.side) == (hand.id, ["left", "right"][hand.handedness])
        values = [hand.score, hand.handedness_score, *hand.box, hand.wrist.orientation.w]
        names = ["score", "side_score", "box_x_min", "box_y_min", "box_x_max", "box_y_max", "wrist_qw"]
        assert np.allclose(row[names].astype(float), values, rtol=1e-5)
        for joint, number in [("wrist", 0), ("thumb_tip", 4), ("little_tip", 20)]:
            pixel, point = hand.joints_2d[number], hand.joints_3d[number]
            values = [pixel.u, pixel.v, pixel.score, point.x, point.y, point.z]
            assert np.allclose(
                row[[f"{joint}_{p}" for p in ("u", "v", "score", "x", "y", "z")]].astype(float), values
            )
        assert array.k[0] == row.fx


def test_csv_and_parquet_agree(hands: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    for suffix in (".csv", ".parquet"):
        write_table([("one", hands), ("two", hands)], tmp_path / f"table{suffix}")
    parquet = load(tmp_path / "table.parquet")
    assert list(parquet.bag) == ["one"] * 20 + ["two"] * 20
    for name, (kind, _) in COLUMNS.items():
        if kind != "string":
            assert str(parquet[name].dtype) == kind
    csv = load(tmp_path / "table.csv").astype(parquet.dtypes)
    # float32 survives being written as text.
    pandas.testing.assert_frame_equal(csv, parquet, check_exact=True)


def test_more_rows_than_are_written_at_once(hands: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("handos_ros.files.tables._ROWS_AT_ONCE", 3)
    whole = tmp_path / "blocks.csv"
    assert write_table([("b", hands)], whole) == 20 and len(load(whole)) == 20


def test_no_hands_is_an_empty_table(tmp_path: Path) -> None:
    process_bag(write_bag(tmp_path / "in"), tmp_path / "out", [standin_pipeline(min_score=1.0)], BagOptions())
    assert write_table([("b", tmp_path / "out")], tmp_path / "none.csv") == 0
    assert list(load(tmp_path / "none.csv").columns) == list(COLUMNS)


def test_what_a_damaged_bag_still_holds_is_kept(hands: Path, tmp_path: Path) -> None:
    """A recording that was killed has no end and no metadata.yaml."""
    (tmp_path / "cut").mkdir()
    (part,) = hands.glob("*.mcap")
    (tmp_path / "cut" / part.name).write_bytes(part.read_bytes()[: part.stat().st_size * 2 // 3])
    bags = [("cut", tmp_path / "cut" / part.name), ("none", tmp_path / "in"), ("whole", hands)]
    damage: list[str] = []
    rows = write_table(bags, tmp_path / "t.csv", damage=damage)
    table = load(tmp_path / "t.csv")
    assert len(table) == rows and (table.bag == "whole").sum() == 20
    assert 5 < (table.bag == "cut").sum() < 20
    assert len(damage) == 2 and "cut" in damage[0] and "holds no hands" in damage[1]
    with pytest.raises(DataError, match="cut"):
        write_table(bags, tmp_path / "other.csv")
    with pytest.raises(DataError, match="holds no hands"):
        write_table(bags[1:2], tmp_path / "other.csv", damage=[])
    assert not (tmp_path / "other.csv").exists()


def test_what_cannot_be_written_is_named(hands: Path, tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("mine")
    (tmp_path / "file").write_text("")
    for path, words in [
        (tmp_path / "old.csv", "is there"),
        (tmp_path / "hands.json", ".csv or .parquet"),
        (tmp_path / "file" / "t.csv", "cannot be written"),
    ]:
        with pytest.raises(DataError, match=words) as error:
            write_table([("b", hands)], path)
        assert str(path) in str(error.value)
    with pytest.raises(DataError, match="holds no hands"):
        write_table([("b", tmp_path / "in")], tmp_path / "new.csv")
    assert (tmp_path / "old.csv").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "hands", "in", "old.csv"]


def test_every_column_is_documented() -> None:
    """docs/table.md says what `COLUMNS` says, joints apart, which it shows once for all."""
    text = (REPOSITORY / "docs" / "table.md").read_text(encoding="utf-8")
    for name, (kind, meaning) in COLUMNS.items():
        if not any(
            name.startswith(f"{finger}_") for finger in ("thumb", "index", "middle", "ring", "little")
        ):
            assert f"| `{name}` | {kind} | {meaning} |" in text
