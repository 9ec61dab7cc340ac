"""A run that travels: labels stay on what they label, what is kept out stays at home, the limit holds."""

import json
import re
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")

from tiny_training import STAGES, K, tiny_run, write_network, write_photographs  # noqa: E402

from handos_ros.errors import DataError  # noqa: E402
from handos_ros.hand_model.model import load_hand_model  # noqa: E402
from handos_ros.learning.datasets.coco_keypoints import CocoKeypoints  # noqa: E402
from handos_ros.learning.datasets.reading import project, read_picture  # noqa: E402
from handos_ros.learning.training import packing  # noqa: E402
from handos_ros.learning.training.config import load_training_config  # noqa: E402
from handos_ros.learning.training.loop import Run, train  # noqa: E402
from handos_ros.learning.training.monitor import Monitor  # noqa: E402
from handos_ros.learning.training.packed_pictures import Album, Rung  # noqa: E402
from handos_ros.learning.training.packing import LADDER, Pack  # noqa: E402

WIDE, TALL = 643, 401
FINE = Rung(1.0, 95)


def write_dots(folder):
    """A hand of 21 white discs on black, labelled with everything; one joint has no label."""
    points = np.stack(np.meshgrid(100 + 60 * np.arange(7), 80 + 90 * np.arange(3)), -1).reshape(21, 2) + 0.25
    image = np.zeros((TALL, WIDE, 3), np.uint8)
    for x, y in points:
        cv2.circle(image, (round(x * 16), round(y * 16)), 12 * 16, (255,) * 3, -1, cv2.LINE_AA, shift=4)
    (folder / "images").mkdir(parents=True)
    cv2.imwrite(str(folder / "images" / "dots.png"), image)
    k = np.array([[600.0, 0, 310], [0, 620, 190], [0, 0, 1]])
    joints = np.column_stack([(points - k[:2, 2]) / k[[0, 1], [0, 1]], np.ones(21)]) * 0.6
    keypoints = np.column_stack([points, np.full(21, 2)])
    keypoints[5] = 0
    hand = {
        "id": 9, "image_id": 4, "category_id": 1, "bbox": [87.5, 67.5, 385.5, 205.5], "area": 1000.0,
        "keypoints": keypoints.ravel().tolist(), "num_keypoints": 20, "handedness": "left",
        "joints_3d": joints.tolist(), "joints_3d_absolute": True, "label_source": "hand", "label_score": 0.75,
        "segmentation": [[1, 2, 3, 4, 5, 6]],
    }  # fmt: skip
    about = {"id": 4, "file_name": "dots.png", "width": WIDE, "height": TALL, "license": 2}
    content = {
        "licenses": [{"id": 2, "name": "CC0"}], "annotations": [hand],
        "images": [{**about, "exhaustive": False, "k": k.ravel().tolist()}],
    }  # fmt: skip
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder / "annotations.json"


def write_noise(folder, count, *, side=160):
    """Pictures that cannot be made small without loss."""
    rng = np.random.default_rng(1)
    folder.mkdir()
    for number in range(count):
        image = cv2.resize(rng.integers(0, 256, (side // 3, side // 2, 3)).astype(np.uint8), (side, side))
        cv2.imwrite(str(folder / f"{number:02d}.png"), image)
    return folder


def size_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def album(annotations):
    return Album.labelled("album", 320, str(annotations), "")


def test_labels_stay_on_what_they_label(tmp_path):
    annotations = write_dots(tmp_path / "dots")
    album(annotations).write(tmp_path, FINE, lambda _count: None)
    before, after = CocoKeypoints(annotations)[0], CocoKeypoints(tmp_path / "album" / "annotations.json")[0]
    assert after.image.shape == (200, 320, 3)
    bright = after.image[..., 0] / 255.0
    labelled = after.joints_2d_weight[0] > 0
    assert labelled.sum() == 20 and not labelled[5]
    for point in after.joints_2d[0][labelled]:
        x, y = point.round().astype(int)
        disc = bright[y - 10 : y + 11, x - 10 : x + 11]
        rows, columns = np.mgrid[y - 10 : y + 11, x - 10 : x + 11]
        found = np.array([(columns * disc).sum(), (rows * disc).sum()]) / disc.sum()
        np.testing.assert_allclose(found, point, atol=0.06)
    # From edge to edge, in pixels whose centres are at whole numbers.
    ys, xs = np.nonzero(bright > 0.5)
    edges = [xs.min() - 0.5, ys.min() - 0.5, xs.max() + 0.5, ys.max() + 0.5]
    np.testing.assert_allclose(after.boxes[0], edges, atol=0.8)
    np.testing.assert_allclose(
        project(after.joints_3d[0], after.k)[labelled], after.joints_2d[0][labelled], atol=0.02
    )
    np.testing.assert_array_equal(after.joints_3d, before.joints_3d)
    np.testing.assert_array_equal(after.visibility, before.visibility)
    assert after.handedness.tolist() == [0] and not after.exhaustive and after.joints_3d_absolute.all()
    assert after.joints_2d_weight[0].max() == pytest.approx(0.75)

    content = json.loads((tmp_path / "album" / "annotations.json").read_text())
    (image,), (hand,) = content["images"], content["annotations"]
    assert content["licenses"][0]["name"] == "CC0" and image["license"] == 2
    assert (image["file_name"], image["width"], image["height"]) == ("dots.jpg", 320, 200)
    assert hand["area"] == pytest.approx(1000 * (320 / WIDE) * (200 / TALL), abs=0.01)
    assert hand["label_source"] == "hand" and "segmentation" not in hand


def test_a_small_jpeg_travels_as_it_is(tmp_path):
    annotations = write_photographs(tmp_path / "a", 1)
    content = json.loads(annotations.read_text())
    images = tmp_path / "a" / "images"
    picture = cv2.imread(str(images / "000.png"))
    cv2.imwrite(str(images / "000.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 30])
    content["images"][0]["file_name"] = "000.jpg"
    annotations.write_text(json.dumps(content))
    album(annotations).write(tmp_path, FINE, lambda _count: None)
    packed = tmp_path / "album" / "images" / "000.jpg"
    assert packed.read_bytes() == (images / "000.jpg").read_bytes()
    np.testing.assert_allclose(CocoKeypoints(tmp_path / "album" / "annotations.json")[0].k, K)


def test_a_hand_at_the_edge_can_still_be_read(tmp_path):
    """Less than half a pixel of it is inside: in the small picture it would be outside."""
    annotations = write_dots(tmp_path / "dots")
    content = json.loads(annotations.read_text())
    hand = {"id": 1, "image_id": 4}
    content["annotations"] = [{**hand, "bbox": [-80, 9, 80.1, 40]}, {**hand, "bbox": [WIDE - 0.1, 9, 8, 40]}]
    annotations.write_text(json.dumps(content))
    album(annotations).write(tmp_path, FINE, lambda _count: None)
    boxes = CocoKeypoints(tmp_path / "album" / "annotations.json")[0].boxes
    np.testing.assert_allclose(boxes[:, [0, 2]], [[-39.86, 0], [319.7, 323.68]], atol=0.02)


def test_names_that_meet_or_leave_the_folder(tmp_path):
    annotations = write_photographs(tmp_path / "a", 4)
    content = json.loads(annotations.read_text())
    images = tmp_path / "a" / "images"
    (images / "deep").mkdir()
    moves = {"001.png": "000.bmp", "002.png": "deep/000.png", "003.png": "../outside.png"}
    for old, new in moves.items():
        picture = cv2.imread(str(images / old))
        cv2.imwrite(str(images / new), picture)
    for image in content["images"][1:]:
        image["file_name"] = moves[image["file_name"]]
    annotations.write_text(json.dumps(content))
    album(annotations).write(tmp_path, FINE, lambda _count: None)
    packed = CocoKeypoints(tmp_path / "album" / "annotations.json")
    assert [e.file_name for e in packed.entries] == ["000.jpg", "000_2.jpg", "deep/000.jpg", "outside.jpg"]
    for one, other in zip(CocoKeypoints(annotations), packed, strict=True):
        assert np.abs(one.image.astype(int) - other.image).mean() < 5


def test_backgrounds_that_are_kept_out_do_not_travel(tmp_path):
    rooms = write_noise(tmp_path / "rooms", 12, side=300)
    sources = [
        {"kind": "negatives", "share": 1.0, "images": "rooms", "exclude": [0, 3]},
        {"kind": "synthesis", "share": 1.0, "settings": {"backgrounds": "rooms", "exclude": [0, 3]}},
        {"kind": "negatives", "share": 1.0, "images": "rooms"},
        {"kind": "synthesis", "share": 1.0, "settings": {"weather": False}},
    ]
    config = tiny_run(tmp_path, sources=sources)
    packed = Pack(config).write(tmp_path / "pack", megabytes=30)
    kept = [path.stem for n, path in enumerate(sorted(rooms.iterdir())) if n % 10 not in (0, 3)]
    assert [path.name for path in sorted((tmp_path / "pack" / "rooms").iterdir())] == [
        f"{n}.jpg" for n in kept
    ]
    assert read_picture(tmp_path / "pack" / "rooms" / "01.jpg").shape == (256, 256, 3)
    assert len(list((tmp_path / "pack" / "rooms_2").iterdir())) == 12 and packed.pictures == 9 + 12
    run = load_training_config(tmp_path / "pack" / "run.yaml")
    first, second, third, fourth = run.sources
    assert first.images == second.settings["backgrounds"] == str(tmp_path / "pack" / "rooms")
    assert first.exclude == third.exclude == () and "exclude" not in second.settings
    assert third.images == str(tmp_path / "pack" / "rooms_2") and fourth == config.sources[3]


def test_surroundings_travel_once_with_the_photographs(tmp_path):
    labels = str(write_photographs(tmp_path / "people", 3))
    write_photographs(tmp_path / "others", 2)
    sources = [
        {"kind": "coco", "share": 1.0, "annotations": labels},
        {"kind": "synthesis", "share": 1.0, "settings": {"surroundings": labels}},
        {"kind": "synthesis", "share": 1.0, "settings": {"surroundings": "others/annotations.json"}},
    ]
    packed = Pack(tiny_run(tmp_path, sources=sources)).write(tmp_path / "pack", megabytes=30)
    assert packed.pictures == 3 + 2
    photographs, same, others = load_training_config(tmp_path / "pack" / "run.yaml").sources
    assert same.settings["surroundings"] == photographs.annotations
    assert photographs.annotations == str(tmp_path / "pack" / "people" / "annotations.json")
    assert others.settings["surroundings"] == str(tmp_path / "pack" / "others" / "annotations.json")
    assert len(CocoKeypoints(others.settings["surroundings"])) == 2


def test_the_monitor_takes_along_what_it_looks_at(tmp_path):
    write_photographs(tmp_path / "kept_out", 11)
    monitor = {"annotations": "kept_out/annotations.json", "pictures": 4, "every": 7}
    config = tiny_run(tmp_path, monitor=monitor)
    Pack(config).write(tmp_path / "pack", megabytes=30)
    run = load_training_config(tmp_path / "pack" / "run.yaml")
    there = Monitor(run.monitor, load_hand_model())
    here = Monitor(config.monitor, load_hand_model())
    assert len(there.dataset) == len(there.entries) == 4 and run.monitor.every == 7
    assert [e.id for e in there.entries] == [e.id for e in here.entries] != [0, 1, 2, 3]
    assert all(len(entry.labels) for entry in there.entries)
    # As in training, pictures to be measured on need not be there.
    shutil.rmtree(tmp_path / "kept_out")
    assert Pack(config).config.monitor is None


def test_it_trains_where_nothing_else_is(tmp_path, monkeypatch):
    home, there = tmp_path / "home", tmp_path / "there"
    monkeypatch.setenv("HANDOS_DATA", str(home))
    write_photographs(home / "photographs")
    write_noise(home / "rooms", 3)
    sources = [
        {"kind": "coco", "share": 1.0, "annotations": "${HANDOS_DATA}/photographs/annotations.json"},
        {"kind": "negatives", "share": 1.0, "images": "${HANDOS_DATA}/rooms"},
    ]
    config = tiny_run(home, sources=sources, stages=STAGES[:1], monitor={"annotations": "nowhere.json"})
    train(config, load_hand_model(), Run(home / "out", progress=False))
    again = replace(config, initial=str(home / "out" / "weights.safetensors"))
    Pack(again).write(home / "pack", megabytes=30)
    shutil.move(home / "pack", there)
    shutil.rmtree(home)
    monkeypatch.delenv("HANDOS_DATA")
    run = load_training_config(there / "run.yaml")
    assert run.stages == config.stages and run.losses == config.losses and run.monitor is None
    assert run.initial == str(there / "initial.safetensors")
    assert train(run, load_hand_model(), Run(tmp_path / "out", progress=False))
    assert (tmp_path / "out" / "weights.safetensors").is_file()


def test_the_limit_holds_and_is_used(tmp_path):
    write_noise(tmp_path / "rooms", 20)
    config = tiny_run(tmp_path, sources=[{"kind": "negatives", "share": 1.0, "images": "rooms"}])
    rungs, sizes = [], []
    for number, megabytes in enumerate((1.0, 0.15, 0.1)):
        folder = tmp_path / f"pack{number}"
        packed = Pack(config).write(folder, megabytes=megabytes)
        assert packed.size == size_of(folder) <= megabytes * 1e6
        rungs.append(LADDER.index(packed.rung))
        sizes.append(packed.size)
    assert 0 == rungs[0] < rungs[1] < rungs[2] and sizes[1] > 0.12e6 and sizes[2] > 0.08e6

    with pytest.raises(DataError, match=r"the run's 20 pictures .*, more than 0.01: allow --megabytes ") as e:
        Pack(config).write(tmp_path / "small", megabytes=0.01)
    enough = float(re.search(r"--megabytes ([\d.]+)", str(e.value))[1])
    Pack(config).write(tmp_path / "enough", megabytes=enough)
    assert not (tmp_path / "small").exists() and enough < 0.15


def test_a_wrong_estimate_is_made_good(tmp_path, monkeypatch):
    write_noise(tmp_path / "rooms", 6)
    config = tiny_run(tmp_path, sources=[{"kind": "negatives", "share": 1.0, "images": "rooms"}])
    told = []
    right = Pack(config).write(tmp_path / "right", megabytes=0.05)
    monkeypatch.setattr(packing.Album, "estimate", lambda self, rung: 0)
    packed = Pack(config).write(tmp_path / "pack", megabytes=0.05, advance=told.append)
    assert packed == right and size_of(tmp_path / "pack") <= 50_000
    assert sum(told) == 6 and min(told) < 0
    with pytest.raises(DataError, match="allow --megabytes"):
        Pack(config).write(tmp_path / "small", megabytes=0.01)
    assert sorted(path.name for path in tmp_path.iterdir() if "small" in path.name) == []


def test_what_cannot_travel_is_named(tmp_path):
    hint = tiny_run(tmp_path / "a", sources=[{"kind": "hint", "share": 1.0, "images": "hint"}])
    with pytest.raises(DataError, match="the source hint cannot be packed"):
        Pack(hint)
    config = tiny_run(tmp_path / "b")
    with pytest.raises(DataError, match=r"nowhere\.safetensors: no such file"):
        Pack(replace(config, initial="nowhere.safetensors"))
    (tmp_path / "full").mkdir()
    with pytest.raises(DataError, match="full is there already"):
        Pack(config).write(tmp_path / "full", megabytes=30)
    network = write_network(tmp_path / "b" / "network.yaml")
    content = yaml.safe_load(network.read_text())
    content["detector"]["pretrained"] = "somewhere/dino"
    network.write_text(yaml.safe_dump(content))
    with pytest.raises(DataError, match="takes its detector from somewhere/dino"):
        Pack(config)


@pytest.mark.parametrize("damage", ["missing", "another size"])
def test_a_picture_that_cannot_be_used_is_named_and_nothing_is_left(tmp_path, damage):
    config = tiny_run(tmp_path)
    path = tmp_path / "photographs" / "images" / "003.png"
    if damage == "missing":
        path.unlink()
    else:
        cv2.imwrite(str(path), np.zeros((40, 30, 3), np.uint8))
    with pytest.raises(
        DataError, match=r"003\.png: .*(No such file|is 30x40, but its labels are for 128x96)"
    ):
        Pack(config).write(tmp_path / "pack", megabytes=30)
    assert not [path for path in tmp_path.iterdir() if "pack" in path.name]
