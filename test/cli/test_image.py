"""`handos image` as a user runs it."""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from handos_ros.hands import JOINT_NAMES, LEFT, RIGHT
from standin import draw_disc, standin_hand_model


def picture(*discs: tuple[float, float, float, int], size: tuple[int, int] = (200, 160)) -> np.ndarray:
    """RGB picture of the size (width, height) with discs: x, y, diameter, side."""
    image = np.full((size[1], size[0], 3), 60, np.uint8)
    for x, y, diameter, side in discs:
        draw_disc(image, (x, y), diameter, side)
    return image


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    flat = image if image.ndim == 2 else image[..., [2, 1, 0, 3][: image.shape[2]]]
    assert cv2.imwrite(str(path), flat)


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if ".part" in path.name]


BOTH = [(60, 80, 60, RIGHT), (140, 80, 40, LEFT)]


def test_json_is_as_documented(handos) -> None:
    save(handos.folder / "a.png", picture(*BOTH))
    result = handos("image", "a.png", "-o", "out")
    assert result.returncode == 0
    assert result.stdout.startswith("1 pictures, 2 hands, 0 failed") and result.stdout.count("\n") == 1
    found = read(handos.folder / "out/a.json")
    assert list(found) == ["image", "width", "height", "camera", "model", "hands"]
    assert (found["image"], found["width"], found["height"]) == ("a.png", 200, 160)
    assert found["camera"] == {"k": [[200, 0, 99.5], [0, 200, 79.5], [0, 0, 1]], "source": "assumed"}
    assert found["model"] == "stand-in"
    right, left = found["hands"]
    assert list(right) == [
        "id", "score", "handedness", "handedness_score", "box", "joints_2d", "joint_scores", "joints_3d",
        "root_translation",
    ]  # fmt: skip
    assert [hand["handedness"] for hand in (right, left)] == ["right", "left"]
    assert right["box"] == pytest.approx([30, 50, 90, 110], abs=2)
    assert np.shape(right["joints_2d"]) == (21, 2) and np.shape(right["joints_3d"]) == (21, 3)
    assert right["joints_3d"][0] == right["root_translation"]
    # A disc of 60 px is a hand of 0.2 m: f = 200 px sees it at 200 * 0.2 / 60 m.
    assert right["root_translation"][2] == pytest.approx(200 * 0.2 / 60, rel=0.05)
    assert right["id"] == -1


def test_a_calibrated_camera(handos) -> None:
    save(handos.folder / "a.png", picture(*BOTH))
    (handos.folder / "k.yaml").write_text(
        "image_width: 400\nimage_height: 320\n"
        "camera_matrix: {data: [800, 0, 199.5, 0, 800, 159.5, 0, 0, 1]}\n"
    )
    assert handos("image", "a.png", "-o", "out", "--camera", "k.yaml").returncode == 0
    found = read(handos.folder / "out/a.json")
    assert found["camera"]["source"] == "parameter" and found["camera"]["k"][0][0] == 400
    assert found["hands"][0]["root_translation"][2] == pytest.approx(400 * 0.2 / 60, rel=0.05)


def test_rectified_pictures_have_intrinsics_of_their_own(handos) -> None:
    save(handos.folder / "a.png", picture(*BOTH))
    (handos.folder / "k.yaml").write_text(
        "image_width: 200\nimage_height: 160\ncamera_matrix: {data: [400, 0, 99.5, 0, 400, 79.5, 0, 0, 1]}\n"
        "distortion_coefficients: {data: [-0.2, 0.05, 0, 0, 0]}\n"
        "projection_matrix: {data: [300, 0, 99.5, 0, 0, 300, 79.5, 0, 0, 0, 1, 0]}\n"
    )
    assert handos("image", "a.png", "-o", "out", "--camera", "k.yaml", "--rectified").returncode == 0
    found = read(handos.folder / "out/a.json")
    assert found["camera"]["k"][0][0] == 300
    assert found["hands"][0]["root_translation"][2] == pytest.approx(300 * 0.2 / 60, rel=0.05)
    result = handos("image", "a.png", "-o", "other", "--rectified")
    assert result.returncode == 1 and "give --camera K.yaml" in result.stderr


def test_a_camera_of_another_shape_is_named_with_the_picture(handos) -> None:
    save(handos.folder / "a.png", picture(*BOTH))
    (handos.folder / "k.yaml").write_text(
        "image_width: 640\nimage_height: 480\ncamera_matrix: {data: [800, 0, 320, 0, 800, 240, 0, 0, 1]}\n"
    )
    save(handos.folder / "b.png", picture(*BOTH, size=(320, 240)))
    result = handos("image", "a.png", "b.png", "-o", "out", "--camera", "k.yaml")
    assert result.returncode == 1
    assert "handos: error: a.png: " in result.stderr and "cropped" in result.stderr
    assert not (handos.folder / "out/a.json").exists() and (handos.folder / "out/b.json").exists()


@pytest.mark.parametrize(
    ("orientation", "upright"), [(1, (150, 40)), (3, (49, 119)), (6, (119, 150)), (8, (40, 49))]
)
def test_exif_rotation_is_honoured(handos, orientation: int, upright: tuple[int, int]) -> None:
    _, data = cv2.imencode(".jpg", picture((150, 40, 40, RIGHT))[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])
    tiff = b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0) + b"\0\0\0\0"
    exif = b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff
    (handos.folder / "a.jpg").write_bytes(data[:2].tobytes() + exif + data[2:].tobytes())
    assert handos("image", "a.jpg", "-o", "out").returncode == 0
    found = read(handos.folder / "out/a.json")
    assert (found["width"], found["height"]) == ((160, 200) if orientation > 4 else (200, 160))
    box = np.array(found["hands"][0]["box"])
    assert (box[:2] + box[2:]) / 2 == pytest.approx(upright, abs=2)


def test_deep_grey_and_transparent_pictures(handos) -> None:
    image = picture(*BOTH)
    save(handos.folder / "deep.png", image.astype(np.uint16) * 257)
    save(handos.folder / "deep_grey.tiff", image[..., 0].astype(np.uint16) * 257)
    save(handos.folder / "grey.png", image[..., 0])
    save(handos.folder / "alpha.png", np.dstack([image, np.full(image.shape[:2], 128, np.uint8)]))
    result = handos("image", "deep.png", "deep_grey.tiff", "grey.png", "alpha.png", "-o", "out", "--overlay")
    assert result.returncode == 0, result.stderr
    counts = {path.stem: len(read(path)["hands"]) for path in (handos.folder / "out").glob("*.json")}
    assert counts == {"deep": 2, "deep_grey": 0, "grey": 0, "alpha": 2}


def test_bad_pictures_are_named_and_the_rest_is_done(handos) -> None:
    folder = handos.folder / "in"
    for name in ("a.jpg", "b.png", "c.webp"):
        save(folder / name, picture(*BOTH))
    whole = (folder / "a.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "cut.png").write_bytes((folder / "b.png").read_bytes()[:400])
    (folder / "words.jpg").write_text("not a picture")
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("not meant")
    result = handos("image", "in", "nowhere.png", "none/*.png", "-o", "out")
    assert result.returncode == 1
    assert "3 pictures, 6 hands, 6 failed" in result.stdout
    errors = [line for line in result.stderr.splitlines() if line.startswith("handos: error: ")]
    for name in ("in/cut.jpg", "in/cut.png", "in/words.jpg", "in/empty.png", "nowhere.png", "none/*.png"):
        assert sum(f" {name}: " in line for line in errors) == 1, name
    assert "cut off" in result.stderr
    assert sorted(path.name for path in (handos.folder / "out").iterdir()) == ["a.json", "b.json", "c.json"]


def test_folders_globs_and_equal_names(handos) -> None:
    save(handos.folder / "one/shot.png", picture(BOTH[0]))
    save(handos.folder / "two/shot.png", picture())
    save(handos.folder / "two/deep/shot.jpg", picture(*BOTH))
    save(handos.folder / "two/deep/shot.png", picture(*BOTH))
    result = handos("image", "one", "two/**/*", "one/shot.png", "-o", "out", "--overlay")
    assert result.returncode == 0 and result.stdout.startswith("4 pictures, 5 hands")
    out = handos.folder / "out"
    images = {str(path.relative_to(out)): read(path)["image"] for path in sorted(out.rglob("*.json"))}
    assert images == {
        "one/shot.json": "one/shot.png",
        "two/shot.json": "two/shot.png",
        "two/deep/shot.jpg.json": "two/deep/shot.jpg",
        "two/deep/shot.png.json": "two/deep/shot.png",
    }


def test_results_inside_the_searched_folder_are_no_pictures(handos) -> None:
    save(handos.folder / "a.png", picture(*BOTH))
    for _ in range(2):
        result = handos("image", ".", "-o", ".", "--overlay", "--overwrite")
        assert result.stdout.startswith("1 pictures")
        result = handos("image", ".", "-o", "out", "--overlay", "--overwrite")
        assert result.stdout.startswith("2 pictures")  # a_overlay.jpg is a picture like any other from there
        (handos.folder / "a_overlay.jpg").unlink()
    assert not list((handos.folder / "out").rglob("*_overlay_overlay_overlay*"))


def test_what_is_there_is_refused_or_replaced(handos) -> None:
    save(handos.folder / "a.png", picture(*BOTH))
    save(handos.folder / "b.png", picture(*BOTH))
    assert handos("image", "a.png", "-o", "out", "--obj").returncode == 0
    before = (handos.folder / "out/a.json").read_bytes()
    save(handos.folder / "a.png", picture(BOTH[0]))
    result = handos("image", "a.png", "b.png", "-o", "out", "--obj")
    assert result.returncode == 1
    assert "out/a.json is there already" in result.stderr and "--overwrite" in result.stderr
    assert (handos.folder / "out/a.json").read_bytes() == before
    assert (handos.folder / "out/b.json").exists()

    assert handos("image", "a.png", "-o", "out", "--obj", "--overwrite").returncode == 0
    assert len(read(handos.folder / "out/a.json")["hands"]) == 1
    # The second hand is gone, and its mesh with it; the other picture's are not touched.
    assert sorted(path.name for path in (handos.folder / "out").glob("*.obj")) == [
        "a_0_right.obj", "b_0_right.obj", "b_1_left.obj",
    ]  # fmt: skip


def test_meshes_and_arrays_read_back(handos) -> None:
    trimesh = pytest.importorskip("trimesh", reason="reads the meshes back")
    save(handos.folder / "a.png", picture(*BOTH))
    assert handos("image", "a.png", "-o", "out", "--obj", "--npz", "--overlay").returncode == 0
    out, model = handos.folder / "out", standin_hand_model()
    with np.load(out / "a.npz", allow_pickle=False) as arrays:
        assert arrays["vertices"].shape == (2, 120, 3) and arrays["joints_3d"].shape == (2, 21, 3)
        assert tuple(arrays["joint_names"]) == JOINT_NAMES
        assert (arrays["faces"] == model.faces).all()
        assert (str(arrays["k_source"]), int(arrays["width"])) == ("assumed", 200)
        vertices, handedness = arrays["vertices"], arrays["handedness"]
    assert handedness.tolist() == [RIGHT, LEFT]
    for number, side in enumerate(("right", "left")):
        mesh = trimesh.load(out / f"a_{number}_{side}.obj", process=False, maintain_order=True)
        assert np.allclose(mesh.vertices, vertices[number], atol=1e-6)
        assert mesh.volume > 0  # faces outwards on both sides
    assert cv2.imread(str(out / "a_overlay.jpg")).shape == (160, 200, 3)


def test_the_output_folder_must_not_be_a_file(handos) -> None:
    save(handos.folder / "a.png", picture(*BOTH))
    result = handos("image", "a.png", "-o", "a.png")
    assert result.returncode == 1 and "a.png is a file" in result.stderr


def test_names_that_are_not_utf_8(handos) -> None:
    """As old archives hold them: the files get such names, too, the text in them is readable."""
    names = ["a", os.fsdecode(b"caf\xe9"), "z"]
    _, data = cv2.imencode(".png", picture(BOTH[0])[..., ::-1])
    for name in names:
        (handos.folder / f"{name}.png").write_bytes(data.tobytes())
    (handos.folder / os.fsdecode(b"bad\xe9.png")).write_text("words")
    out = os.fsdecode(b"r\xe9sultats")
    result = handos("image", ".", "-o", out, "--obj", "--npz", "--overlay")
    assert result.stdout.startswith("3 pictures, 3 hands, 1 failed") and r"r\udce9sultats" in result.stdout
    assert result.returncode == 1 and r"error: bad\udce9.png: " in result.stderr
    assert [read(handos.folder / out / f"{name}.json")["image"] for name in names] == [
        "a.png", "caf\ufffd.png", "z.png",
    ]  # fmt: skip
    assert "caf\ufffd.png" in (handos.folder / out / f"{names[1]}_0_right.obj").read_text()
    with np.load(handos.folder / out / f"{names[1]}.npz", allow_pickle=False) as arrays:
        assert str(arrays["image"]) == "caf\ufffd.png"


def test_a_full_disk_ends_the_work_and_leaves_no_halves(handos) -> None:
    for name in "abc":
        save(
            handos.folder / f"{name}.png", np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
        )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    result = handos("image", "a.png", "b.png", "c.png", "-o", "out", "--overlay", hands=1, preexec_fn=limit)
    assert result.returncode == 1
    assert "out/a_overlay.jpg: cannot be written: File too large; 0 pictures were done" in result.stderr
    assert list((handos.folder / "out").iterdir()) == []


def test_a_folder_that_may_not_be_written_to(handos) -> None:
    save(handos.folder / "a.png", picture(*BOTH))
    result = handos("image", "a.png", "-o", "/proc/out")
    assert result.returncode == 1 and "handos: error: /proc/out/a.json: cannot be written: " in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_work_leaves_whole_files(handos, number: signal.Signals) -> None:
    for i in range(40):
        save(handos.folder / f"in/{i:02}.png", picture(*BOTH))
    process = handos.start("image", "in", "-o", "out", "--npz", delay=0.1)
    out = handos.folder / "out"
    deadline = time.monotonic() + 30
    while not list(out.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    done = sorted(out.glob("*.json"))
    assert 0 < len(done) < 40
    assert output.startswith(f"{len(done)} pictures") and "interrupted" in errors
    assert all(len(read(path)["hands"]) == 2 and path.with_suffix(".npz").exists() for path in done)
    assert not leftovers(out)
    # What is missing can be done later.
    assert handos("image", "in", "-o", "out", "--npz").returncode == 1
    assert len(list(out.glob("*.json"))) == 40
