"""The public data sets, each from a miniature in its official format."""

import json
import os
import pickle

import cv2
import numpy as np
import pytest

from handos_ros.errors import DataError
from handos_ros.learning.datasets import dexycb
from handos_ros.learning.datasets.coco_wholebody import CocoWholeBodyHands
from handos_ros.learning.datasets.comphand import CompHand
from handos_ros.learning.datasets.dexycb import DexYcb
from handos_ros.learning.datasets.freihand import FreiHand
from handos_ros.learning.datasets.hint import HInt
from handos_ros.learning.datasets.ho3d import H2o3d, Ho3d, from_ho3d
from handos_ros.learning.datasets.onehand10k import OneHand10K

RNG = np.random.default_rng(0)
K = np.array([[250.0, 0, 112], [0, 260, 110], [0, 0, 1]])


def picture(path, width=224, height=224, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), value, np.uint8))


def hand(n=21, depth=0.7):
    """n points of a hand before the camera, in the optical frame, fingers up (y negative)."""
    return RNG.uniform((-0.06, -0.15, depth - 0.05), (0.06, 0.0, depth + 0.05), (n, 3))


def projected(points, k=K):
    return points[:, :2] / points[:, 2:] @ np.diag([k[0, 0], k[1, 1]]) + k[:2, 2]


# FreiHAND


@pytest.fixture
def freihand(tmp_path):
    """Two labels, each on four backgrounds told apart by their grey; one evaluation picture."""
    joints, meshes = [hand(), hand()], [hand(778), hand(778)]
    for split, count, versions in (("training", 2, 4), ("evaluation", 1, 1)):
        for name, values in (("K", [K] * 2), ("xyz", joints), ("verts", meshes)):
            content = [np.asarray(v).tolist() for v in values[:count]]
            (tmp_path / f"{split}_{name}.json").write_text(json.dumps(content))
        for i in range(count * versions):
            picture(tmp_path / split / "rgb" / f"{i:08d}.jpg", value=10 * i)
    return tmp_path, joints, meshes


def test_freihand_gives_every_label_on_four_backgrounds(freihand):
    folder, joints, meshes = freihand
    dataset = FreiHand(folder)
    assert len(dataset) == 8
    for index in range(8):
        sample = dataset[index]
        assert abs(int(sample.image[0, 0, 0]) - 10 * index) <= 2
        np.testing.assert_allclose(sample.joints_3d[0], joints[index % 2], rtol=1e-5)
        np.testing.assert_allclose(sample.vertices[0], meshes[index % 2], rtol=1e-5)
    assert sample.handedness.tolist() == [1] and sample.joints_3d_absolute.all()
    np.testing.assert_allclose(sample.k, K)
    np.testing.assert_allclose(sample.joints_2d[0], projected(joints[1]), rtol=1e-4)
    mesh = np.clip(projected(meshes[1]), -0.5, 223.5)
    np.testing.assert_allclose(sample.boxes[0], [*mesh.min(0), *mesh.max(0)], rtol=1e-4)
    with pytest.raises(IndexError):
        dataset[8]


def test_freihands_evaluation_has_one_background(freihand):
    dataset = FreiHand(freihand[0], "evaluation")
    assert len(dataset) == 1
    np.testing.assert_allclose(dataset[0].joints_3d[0], freihand[1][0], rtol=1e-5)


def test_freihands_meshes_are_parsed_once_and_again_when_they_change(freihand):
    folder, _, meshes = freihand
    FreiHand(folder)
    kept = folder / "training_verts.npy"
    assert kept.exists()
    np.testing.assert_allclose(FreiHand(folder)[0].vertices[0], meshes[0], rtol=1e-5)
    path = folder / "training_verts.json"
    path.write_text(json.dumps((np.stack(meshes) + 1).tolist()))
    later = kept.stat().st_mtime + 10
    os.utime(path, (later, later))
    np.testing.assert_allclose(FreiHand(folder)[0].vertices[0], meshes[0] + 1, rtol=1e-5)


def test_freihand_works_without_meshes(freihand):
    folder, joints, _ = freihand
    (folder / "training_verts.json").unlink()
    sample = FreiHand(folder)[0]
    assert not sample.has_vertices.any()
    extent = np.ptp(projected(joints[0]), axis=0).max()
    left = projected(joints[0])[:, 0].min() - sample.boxes[0, 0]
    assert left == pytest.approx(0.08 * extent, rel=1e-3)


def test_freihands_files_must_fit(freihand):
    folder = freihand[0]
    with pytest.raises(DataError, match="no split 'test'"):
        FreiHand(folder, "test")
    (folder / "training_xyz.json").write_text(json.dumps([hand().tolist()]))
    with pytest.raises(DataError, match=r"training_xyz\.json: 1 entries for 2 cameras"):
        FreiHand(folder)
    (folder / "training_xyz.json").unlink()
    with pytest.raises(DataError, match=r"training_xyz\.json: cannot read"):
        FreiHand(folder)


# HInt


@pytest.fixture
def hint(tmp_path):
    label = {
        "bbox": [[10.0, 20.0, 110.0, 90.0]], "keypoints": [[10.0 + j, 20.0 + j] for j in range(21)],
        "occlusion": [0, 1] + [0] * 19,
    }  # fmt: skip
    for name in ("TEST_newdays_img/ND_a_frame1_l", "TEST_newdays_img/ND_a_frame1_r", "TEST_ego4d_img/x_r"):
        picture(tmp_path / f"{name}.jpg", 320, 240)
        (tmp_path / f"{name}.json").write_text(json.dumps([label]))
    return tmp_path, label


def test_hints_name_tells_the_side_and_its_boxes_are_corners(hint):
    dataset = HInt(hint[0], "test", "newdays")
    assert [dataset[i].handedness.tolist() for i in range(len(dataset))] == [[0], [1]]
    sample = dataset[0]
    assert sample.boxes.tolist() == [[10, 20, 110, 90]]
    assert sample.joints_2d[0, 3].tolist() == [13, 23]
    assert sample.visibility[0, :3].tolist() == [1, 0, 1]
    assert sample.joints_2d_weight.all() and not sample.has_joints_3d.any()
    assert not sample.exhaustive and sample.k is None


def test_hint_reads_one_subset_or_all(hint):
    assert len(HInt(hint[0], "test")) == 3 and len(HInt(hint[0], "test", "ego4d")) == 1
    with pytest.raises(DataError, match="TRAIN_newdays_img"):
        HInt(hint[0], "train")
    with pytest.raises(DataError, match="no subset 'visor'"):
        HInt(hint[0], "test", "visor")


def test_hints_unplaced_joints_have_no_label(hint):
    folder, label = hint
    path = folder / "TEST_ego4d_img" / "x_r.json"
    path.write_text(json.dumps([{**label, "keypoints": [[0, 0], *label["keypoints"][1:]]}]))
    sample = HInt(folder, "test", "ego4d")[0]
    assert sample.joints_2d_weight[0, :2].tolist() == [0, 1] and np.isnan(sample.visibility[0, 0])


def test_hints_bad_labels_and_missing_frames_are_named(hint):
    folder, label = hint
    dataset = HInt(folder, "test", "ego4d")
    (folder / "TEST_ego4d_img" / "x_r.jpg").unlink()
    with pytest.raises(DataError, match=r"x_r\.jpg"):
        dataset[0]
    for content in ([label, label], [{"bbox": [[1, 2, 3, 4]]}], [{**label, "occlusion": [0]}]):
        (folder / "TEST_ego4d_img" / "x_r.json").write_text(json.dumps(content))
        with pytest.raises(DataError, match=r"x_r\.json: not a label of HInt"):
            dataset[0]


# HO-3D


def to_ho3d(joints):
    """Our joints as HO-3D lists them: MANO's order, then the tips from thumb to little finger; OpenGL."""
    fingers = {
        f: joints[1 + 4 * i : 5 + 4 * i] for i, f in enumerate(("thumb", "index", "middle", "ring", "little"))
    }
    bases = [fingers[f][:3] for f in ("index", "middle", "little", "ring", "thumb")]
    tips = [fingers[f][3:] for f in ("thumb", "index", "middle", "ring", "little")]
    return np.concatenate([joints[:1], *bases, *tips]) * [1, -1, -1]


@pytest.fixture
def ho3d(tmp_path):
    joints = hand()
    meta = {"camMat": K, "handJoints3D": to_ho3d(joints), "objName": "banana", "handPose": np.zeros(48)}
    given = {"camMat": K, "handJoints3D": to_ho3d(joints)[0], "handBoundingBox": [5, 6, 70, 80]}
    for split, content in (("train", meta), ("evaluation", given)):
        folder = tmp_path / split / "ABF10"
        picture(folder / "rgb" / "0003.jpg")
        (folder / "meta").mkdir()
        (folder / "meta" / "0003.pkl").write_bytes(pickle.dumps(content, protocol=2))
        (tmp_path / f"{split}.txt").write_text("ABF10/0003\n")
    return tmp_path, joints


def test_ho3ds_axes_and_order_become_ours(ho3d):
    folder, joints = ho3d
    sample = Ho3d(folder)[0]
    np.testing.assert_allclose(sample.joints_3d[0], joints, rtol=1e-5)
    np.testing.assert_allclose(sample.joints_2d[0], projected(joints), rtol=1e-4)
    assert sample.handedness.tolist() == [1]
    assert sample.boxes[0, 0] < projected(joints)[:, 0].min()
    np.testing.assert_allclose(from_ho3d(from_ho3d(joints)), joints)


def test_ho3ds_evaluation_gives_the_box_and_later_the_truth(ho3d):
    folder, joints = ho3d
    sample = Ho3d(folder, "evaluation")[0]
    assert sample.boxes.tolist() == [[5, 6, 70, 80]]
    assert not sample.has_joints_3d.any() and not sample.joints_2d_weight.any()
    mesh = hand(778)
    (folder / "evaluation_xyz.json").write_text(json.dumps([to_ho3d(joints).tolist()]))
    (folder / "evaluation_verts.json").write_text(json.dumps([(mesh * [1, -1, -1]).tolist()]))
    sample = Ho3d(folder, "evaluation")[0]
    np.testing.assert_allclose(sample.joints_3d[0], joints, rtol=1e-5)
    np.testing.assert_allclose(sample.vertices[0], mesh, rtol=1e-5)


class Evil:
    def __reduce__(self):
        return (print, ("run",))


def test_ho3ds_pickles_run_nothing(ho3d, capsys):
    folder, _ = ho3d
    path = folder / "train" / "ABF10" / "meta" / "0003.pkl"
    path.write_bytes(pickle.dumps({"camMat": Evil()}, protocol=2))
    with pytest.raises(DataError, match=r"0003\.pkl: refused"):
        Ho3d(folder)[0]
    assert capsys.readouterr().out == ""
    path.write_bytes(pickle.dumps({"camMat": K}, protocol=2))
    with pytest.raises(DataError, match=r"0003\.pkl: not a label of HO-3D.*handJoints3D"):
        Ho3d(folder)[0]
    with pytest.raises(DataError, match="no split 'test'"):
        Ho3d(folder, "test")


def test_ho3ds_frames_without_a_label_are_no_evidence_of_absence(ho3d):
    folder, _ = ho3d
    path = folder / "train" / "ABF10" / "meta" / "0003.pkl"
    path.write_bytes(pickle.dumps({"camMat": K, "handJoints3D": None}, protocol=2))
    sample = Ho3d(folder)[0]
    assert len(sample) == 0 and not sample.exhaustive


# H2O-3D


def test_h2o3d_has_both_hands_and_tells_the_joints_that_are_unsure(tmp_path):
    right, left = hand(), hand()
    trusted = np.ones(21)
    trusted[16] = 0  # in HO-3D's order the thumb's tip
    meta = {
        "camMat": K, "rightHandJoints3D": to_ho3d(right), "leftHandJoints3D": to_ho3d(left),
        "jointValidRight": np.ones(21), "jointValidLeft": trusted,
    }  # fmt: skip
    picture(tmp_path / "train" / "A" / "rgb" / "0000.jpg")
    path = tmp_path / "train" / "A" / "meta" / "0000.pkl"
    path.parent.mkdir()
    path.write_bytes(pickle.dumps(meta, protocol=2))
    (tmp_path / "train.txt").write_text("A/0000\n")
    sample = H2o3d(tmp_path)[0]
    assert sample.handedness.tolist() == [1, 0] and sample.exhaustive
    np.testing.assert_allclose(sample.joints_3d, [right, left], rtol=1e-5)
    assert sample.has_joints_3d.tolist() == [True, False]
    assert sample.joints_2d_weight[0].all() and np.flatnonzero(sample.joints_2d_weight[1] == 0).tolist() == [
        4
    ]
    path.write_bytes(pickle.dumps({**meta, "jointValidLeft": np.zeros(21)}, protocol=2))
    sample = H2o3d(tmp_path)[0]
    assert sample.handedness.tolist() == [1] and not sample.exhaustive


# COCO-WholeBody


@pytest.fixture
def wholebody(tmp_path):
    def person(number, image, **valid):
        out = {"id": number, "image_id": image, "iscrowd": 0}
        for i, name in enumerate(("left", "right")):
            out[f"{name}hand_box"] = [10.0 + i, 20.0, 30.0, 40.0]
            out[f"{name}hand_kpts"] = [v for j in range(21) for v in (10.0 + j, 20.0 + i, [2, 1, 0][j % 3])]
            out[f"{name}hand_valid"] = valid.get(name, False)
        return out

    images = [{"id": i, "file_name": f"{i:012d}.jpg", "width": 200, "height": 100} for i in (1, 2, 3)]
    people = [
        person(1, 1, left=True),
        person(2, 1, left=True, right=True),
        person(3, 2),
        person(4, 3, right=True),
    ]
    people[3]["iscrowd"] = 1
    for image in images:
        picture(tmp_path / "val2017" / image["file_name"], 200, 100)
    path = tmp_path / "wholebody.json"
    path.write_text(json.dumps({"images": images, "annotations": people}))
    return path, tmp_path / "val2017"


def test_wholebodys_valid_flags_choose_the_hands(wholebody):
    dataset = CocoWholeBodyHands(*wholebody)
    assert len(dataset) == 1
    sample = dataset[0]
    assert sample.handedness.tolist() == [0, 0, 1] and not sample.exhaustive
    assert sample.boxes[2].tolist() == [11, 20, 41, 60]
    assert sample.joints_2d[2, 3].tolist() == [13, 21]
    assert sample.joints_2d_weight[0, :3].tolist() == [1, 1, 0]
    assert sample.visibility[0, :2].tolist() == [1, 0] and np.isnan(sample.visibility[0, 2])


def test_wholebodys_surenesses_say_nothing_of_whether_a_joint_is_seen(wholebody):
    path, images = wholebody
    content = json.loads(path.read_text())
    content["annotations"][0]["lefthand_kpts"][2] = 0.14
    path.write_text(json.dumps(content))
    sample = CocoWholeBodyHands(path, images)[0]
    assert np.isnan(sample.visibility[0, 0]) and sample.joints_2d_weight[0, 0] == 1
    assert sample.visibility[0, 1] == 0


def test_wholebodys_faults_are_named(wholebody, tmp_path):
    path, images = wholebody
    with pytest.raises(DataError, match="nowhere"):
        CocoWholeBodyHands(path, tmp_path / "nowhere")
    content = json.loads(path.read_text())
    content["annotations"][0]["lefthand_kpts"] = [1, 2, 3]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="annotation 1"):
        CocoWholeBodyHands(path, images)


# OneHand10K


def test_onehand10ks_minus_ones_are_joints_without_a_label(tmp_path):
    picture(tmp_path / "Test" / "source" / "7.jpg", 300, 200)
    joints = [[50 + 4 * j, 60 + 2 * j] for j in range(21)]
    joints[8] = [-1, -1]
    hidden = [[-1, -1]] * 15 + joints[15:]

    def line(name, points):
        return f"{name},300,200,1," + ",".join(str(v) for point in points for v in point)

    path = tmp_path / "Test" / "label_joint.txt"
    path.write_text(line("7.jpg", joints) + "\n" + line("8.jpg", hidden) + "\n")
    dataset = OneHand10K(tmp_path, "test")
    assert len(dataset) == 1  # the second shows too few joints
    sample = dataset[0]
    assert np.flatnonzero(sample.joints_2d_weight[0] == 0).tolist() == [8] and np.isnan(
        sample.visibility[0, 8]
    )
    assert sample.joints_2d[0, 20].tolist() == [130, 100] and sample.handedness.tolist() == [-1]
    np.testing.assert_allclose(sample.boxes[0], [50 - 6.4, 60 - 6.4, 130 + 6.4, 100 + 6.4], atol=1e-4)
    path.write_text(line("7.jpg", joints[:20]))
    with pytest.raises(DataError, match="line 1: 20 joints"):
        OneHand10K(tmp_path, "test")


# CompHand


def test_comphands_meshes_belong_to_pictures_by_number(tmp_path):
    mesh = hand(778)
    # Joint j of its own order is vertex 10 j.
    regressor = np.zeros((21, 778))
    regressor[np.arange(21), 10 * np.arange(21)] = 1
    np.save(tmp_path / "j_reg.npy", regressor)
    np.save(tmp_path / "K256.npy", K)
    picture(tmp_path / "data" / "s1" / "pic256" / "fist" / "dark" / "view.12.png", 256, 256)
    obj = tmp_path / "data" / "s1" / "model_mano" / "fist" / "12.obj"
    obj.parent.mkdir(parents=True)
    obj.write_text("# mesh\n" + "".join(f"v {x} {y} {z}\n" for x, y, z in mesh) + "f 1 2 3\n")
    sample = CompHand(tmp_path)[0]
    assert sample.handedness.tolist() == [0]
    np.testing.assert_allclose(sample.vertices[0], mesh, rtol=1e-5)
    order = ["W", *"iii", *"mmm", *"lll", *"rrr", *"ttt", "I", "M", "L", "R", "T"]
    wanted = ["W", *"tttTiiiImmmMrrrRlllL"]
    rows = [int(np.argmin(np.abs(sample.joints_3d[0, j] - mesh[::10][:21]).sum(1))) for j in range(21)]
    assert [order[row] for row in rows] == wanted and len(set(rows)) == 21
    np.testing.assert_allclose(sample.joints_2d[0], projected(sample.joints_3d[0]), rtol=1e-3)
    obj.write_text("v 1 2 3\n")
    with pytest.raises(DataError, match=r"12\.obj: 1 vertices"):
        CompHand(tmp_path)[0]


# DexYCB


@pytest.fixture
def dex(tmp_path, monkeypatch):
    """Two subjects of five recordings before two cameras: split s0 keeps every fifth out."""
    monkeypatch.setattr(dexycb, "_SEQUENCES", 5)
    monkeypatch.setitem(dexycb.SPLITS, ("s0", "train"), dexycb.Part((0, 1), (0, 1), (0, 1, 2, 3)))
    monkeypatch.setitem(dexycb.SPLITS, ("s0", "test"), dexycb.Part((1,), (1,), (4,)))
    joints = hand(depth=0.9)
    k = np.array([[600.0, 0, 310], [0, 610, 240], [0, 0, 1]])
    for serial in dexycb.SERIALS[:2]:
        path = tmp_path / "calibration" / "intrinsics" / f"{serial}_640x480.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("color: {fx: 600.0, fy: 610.0, ppx: 310.0, ppy: 240.0}\ndepth: {}\n")
    for subject in dexycb.SUBJECTS[:2]:
        for number in range(5):
            recording = tmp_path / subject / f"20200709_14{number}000"
            recording.mkdir(parents=True)
            side = "left" if number == 4 else "right"
            (recording / "meta.yml").write_text(f"num_frames: 2\nmano_sides: [{side}]\nserials: []\n")
            for serial in dexycb.SERIALS[:2]:
                for frame in range(2):
                    picture(recording / serial / f"color_{frame:06d}.jpg", 640, 480)
                    there = frame == 1
                    np.savez(
                        recording / serial / f"labels_{frame:06d}.npz",
                        joint_3d=joints[None] if there else np.full((1, 21, 3), -1.0),
                        joint_2d=projected(joints, k)[None] if there else np.full((1, 21, 2), -1.0),
                        seg=np.zeros((480, 640), np.uint8),
                    )
    return tmp_path, joints, k


def test_dexycbs_splits_follow_recordings_cameras_and_frames(dex):
    folder = dex[0]
    train = DexYcb(folder)
    assert len(train) == 2 * 4 * 2 * 2
    assert [f[1] for f in train.frames[:4]] == [0, 1, 0, 1]
    assert train.frames[0][0].name == dexycb.SERIALS[0] and train.frames[2][0].name == dexycb.SERIALS[1]
    test = DexYcb(folder, "s0", "test")
    assert len(test) == 2 and "144000" in str(test.frames[0][0])


def test_dexycbs_frames_of_minus_one_are_pictures_without_a_hand(dex):
    folder, joints, k = dex
    none, there = DexYcb(folder)[0], DexYcb(folder)[1]
    assert len(none) == 0 and none.exhaustive
    np.testing.assert_allclose(there.joints_3d[0], joints, rtol=1e-5)
    np.testing.assert_allclose(there.k, k)
    np.testing.assert_allclose(there.joints_2d[0], projected(joints, k), rtol=1e-4)
    assert there.joints_3d_absolute.all() and not there.has_vertices.any()


def test_dexycbs_side_is_the_recordings(dex):
    assert DexYcb(dex[0])[1].handedness.tolist() == [1]
    assert DexYcb(dex[0], "s0", "test")[1].handedness.tolist() == [0]


def test_dexycbs_official_splits_have_their_official_sizes():
    def recordings(setup, split):
        part = dexycb.SPLITS[setup, split]
        return len(part.subjects) * len(part.serials) * len(part.sequences)

    assert [recordings("s0", s) for s in ("train", "val", "test")] == [6400, 320, 1280]
    assert [recordings("s1", s) for s in ("train", "val", "test")] == [5600, 800, 1600]
    assert [recordings("s2", s) for s in ("train", "val", "test")] == [6000, 1000, 1000]
    assert [recordings("s3", s) for s in ("train", "val", "test")] == [6000, 800, 1200]


def test_dexycbs_faults_are_named(dex):
    folder = dex[0]
    label = DexYcb(folder).frames[0][0] / "labels_000000.npz"
    label.write_bytes(b"no npz")
    with pytest.raises(DataError, match=r"labels_000000\.npz: not a label"):
        DexYcb(folder)[0]
    with pytest.raises(DataError, match="no s9 train"):
        DexYcb(folder, "s9")
    meta = label.parents[1] / "meta.yml"
    meta.write_text("num_frames: 2\n")
    with pytest.raises(DataError, match=r"meta\.yml.*mano_sides"):
        DexYcb(folder)
    for path in sorted(meta.parent.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    meta.parent.rmdir()
    with pytest.raises(DataError, match="4 recordings, DexYCB has 5"):
        DexYcb(folder)
