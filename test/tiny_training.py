"""A training run in miniature: photographs with labels, a network of seconds, three stages of a few steps."""

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml
from tiny_networks import tiny_config

from handos_ros.hand_model.model import load_hand_model
from handos_ros.learning.sample import Sample
from handos_ros.learning.training.config import SourceConfig, TrainingConfig, load_training_config
from handos_ros.learning.training.losses import MeshTopology
from handos_ros.learning.training.stages import StageStep
from handos_ros.network.config import config_to_dict

HEIGHT, WIDTH = 96, 128
K = np.array([[120.0, 0, 63.5], [0, 120.0, 47.5], [0, 0, 1]])
STAGES = [
    {"name": "detector", "steps": 2, "detector": True, "decoder": "full"},
    {"name": "joints", "steps": 2, "decoder": "2d"},
    {"name": "full", "steps": 2, "decoder": "full"},
]


def hand(seed=0):
    """(21, 3) and (V, 3) m: the resting right hand, turned to the camera, somewhere before it."""
    model, rng = load_hand_model(), np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    place = rng.uniform((-0.1, -0.05, 0.5), (0.1, 0.05, 0.6))
    vertices = model.template @ turn.T + place
    return model.joint_regressor @ vertices, vertices


def annotation(seed, image):
    """A right hand with all labels that COCO's format has."""
    joints, vertices = hand(seed)
    points, outline = ((p @ K.T)[:, :2] / p[:, 2:] for p in (joints, vertices))
    low, high = outline.min(0), outline.max(0)
    return {
        "id": seed, "image_id": image, "bbox": [*low.tolist(), *(high - low).tolist()], "handedness": "right",
        "keypoints": np.concatenate([points, np.full((21, 1), 2)], 1).ravel().tolist(),
        "joints_3d": joints.tolist(), "joints_3d_absolute": True,
    }  # fmt: skip


def write_photographs(folder, count=5, *, hands=1, exhaustive=True, colour=None):
    """`annotations.json` beside `images/`; smooth colours, or all of one."""
    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(count)
    pictures = []
    for number in range(count):
        coarse = rng.integers(0, 256, (HEIGHT // 16, WIDTH // 16, 3)).astype(np.uint8)
        image = cv2.resize(coarse, (WIDTH, HEIGHT)) if colour is None else np.full((HEIGHT, WIDTH, 3), colour)
        cv2.imwrite(str(folder / "images" / f"{number:03d}.png"), image)
        about = {"id": number, "file_name": f"{number:03d}.png", "width": WIDTH, "height": HEIGHT}
        pictures.append({**about, "exhaustive": exhaustive, "k": K.ravel().tolist()})
    labels = [annotation(hands * i + n, i) for i in range(count) for n in range(hands)]
    path = folder / "annotations.json"
    path.write_text(json.dumps({"images": pictures, "annotations": labels}))
    return path


def write_network(path, kind="d_fine", **changes):
    """A tiny configuration as a file."""
    path.write_text(yaml.safe_dump({**config_to_dict(tiny_config(kind)), **changes}))
    return path


def write_run(folder, *, sources=None, stages=STAGES, batch=2, **changes):
    """`run.yaml` with its network and its photographs; the file."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "network.yaml").exists():
        write_network(folder / "network.yaml")
    if sources is None:
        write_photographs(folder / "photographs")
        sources = [{"kind": "coco", "share": 1.0, "annotations": "photographs/annotations.json"}]
    common = {"batch": batch, "sizes": [[HEIGHT, WIDTH]], "warmup": 0, "decay": 0.0, "learning_rate": 1e-3}
    content = {
        "network": "network.yaml", "sources": sources, "ema": 0.5, "hands": 2,
        "stages": [{**common, **stage} for stage in stages], **changes,
    }  # fmt: skip
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def tiny_run(folder, **changes) -> TrainingConfig:
    """The same, read; see `write_run`."""
    return load_training_config(write_run(folder, **changes))


def changed(config: TrainingConfig, **changes) -> TrainingConfig:
    """A copy with other values."""
    return dataclasses.replace(config, **changes)


def write_freihand(folder, count=2):
    """FreiHAND's training split with hands of `mano`'s number of vertices; boxes follow from them."""
    rng, folder = np.random.default_rng(3), Path(folder)
    (folder / "training" / "rgb").mkdir(parents=True)
    joints = rng.uniform((-0.06, -0.15, 0.45), (0.06, 0.0, 0.5), (count, 21, 3))
    meshes = rng.uniform((-0.06, -0.15, 0.45), (0.06, 0.0, 0.5), (count, 778, 3))
    for name, values in (("K", np.tile(K, (count, 1, 1))), ("xyz", joints), ("verts", meshes)):
        (folder / f"training_{name}.json").write_text(json.dumps(values.tolist()))
    for number in range(4 * count):
        image = rng.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / "training" / "rgb" / f"{number:08d}.jpg"), image)


def write_hint(folder, count=3):
    """HInt's New Days, training split."""
    home = Path(folder) / "TRAIN_newdays_img"
    home.mkdir(parents=True)
    for number in range(count):
        label = annotation(number, 0)
        points = np.reshape(label["keypoints"], (21, 3))[:, :2]
        x, y, w, h = label["bbox"]
        content = {"bbox": [[x, y, x + w, y + h]], "keypoints": points.tolist(), "occlusion": [0] * 21}
        (home / f"ND_{number}_r.json").write_text(json.dumps([content]))
        cv2.imwrite(str(home / f"ND_{number}_r.jpg"), np.full((HEIGHT, WIDTH, 3), 40 * number, np.uint8))


def sample(seeds):
    """Hands with every label there is, in a picture that does not show them."""
    coarse = np.random.default_rng(len(seeds)).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    image = cv2.resize(coarse, (WIDTH, HEIGHT))
    if not seeds:
        return Sample.labelled(image, k=K)
    joints, vertices = (np.stack(parts) for parts in zip(*map(hand, seeds), strict=True))
    points, outline = ((p @ K.T)[..., :2] / p[..., 2:] for p in (joints, vertices))
    return Sample.labelled(
        image,
        np.concatenate([outline.min(1), outline.max(1)], 1),
        k=K,
        handedness=[1] * len(seeds),
        joints_2d=points,
        joints_3d=joints,
        vertices=vertices,
    )


def training(stage, network, **changes):
    """The network in the stage's state, and its step."""
    config = TrainingConfig("tiny", (SourceConfig("synthesis", 1.0),), (stage,), hands=3, **changes)
    model = load_hand_model()
    mesh = MeshTopology(torch.from_numpy(model.faces.copy()), torch.from_numpy(model.template.copy()))
    network.detector.freeze(not stage.detector)
    network.train()
    return StageStep(network, config, stage, mesh)
