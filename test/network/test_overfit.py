"""One labelled picture learned by heart: under 1 px and 1 mm, so every output can say what it has to say."""

import numpy as np
import pytest
import torch
from tiny_networks import stir, tiny_config

from handos_ros.hand_model.model import load_hand_model
from handos_ros.hand_model.poses import random_rotations
from handos_ros.hand_model.posing import pose
from handos_ros.hands import LEFT, RIGHT, Camera
from handos_ros.inference.pipeline import Pipeline
from handos_ros.inference.torch_backend import TorchBackend
from handos_ros.learning.sample import Sample, collate
from handos_ros.learning.training.losses import (
    LossWeights,
    MeshTopology,
    Predictions,
    hand_losses,
    weighted_sum,
)
from handos_ros.learning.training.targets import gather_targets
from handos_ros.network.handos import HandosNetwork

HEIGHT, WIDTH, STEPS = 96, 128, 450


def labelled_picture(model, side):
    """A posed hand before a camera, with all its labels; the picture itself need not show it."""
    random = np.random.default_rng(0)
    vertices, joints = pose(model, random_rotations(model, 1, random))
    if side == LEFT:
        vertices, joints = vertices * (-1, 1, 1), joints * (-1, 1, 1)
    places = np.array([[[-0.1, 0.0, 0.55]]], np.float32)
    vertices, joints = vertices + places, joints + places
    camera = Camera(np.array([[120.0, 0, 63.5], [0, 120.0, 47.5], [0, 0, 1]]), WIDTH, HEIGHT)
    points = camera.project(joints)
    outline = camera.project(vertices)
    boxes = np.concatenate([outline.min(1), outline.max(1)], 1)
    image = np.kron(random.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3)), np.ones((8, 8, 1))).astype(
        np.uint8
    )
    sample = Sample.labelled(
        image, boxes, k=camera.k, handedness=[side], joints_2d=points, joints_3d=joints, vertices=vertices
    )
    return sample, camera


class Found(TorchBackend):
    """A backend whose detector, of random weights, has found the hand in its first candidate."""

    def __init__(self, network, boxes):
        super().__init__(network)
        self.boxes = boxes

    def detect(self, picture):
        found = super().detect(picture)
        found.scores[:] = 0
        found.boxes[: len(self.boxes)], found.scores[: len(self.boxes)] = self.boxes, [0.9]
        return found


def predictions(output):
    """What a layer says of the only picture's hands."""
    names = ("joints_2d", "joint_logits", "joints_3d", "vertices", "root_2d", "scale")
    return Predictions(*(None if getattr(output, n) is None else getattr(output, n)[0] for n in names))


@pytest.mark.parametrize(("kind", "side"), [("grounding_dino", RIGHT), ("d_fine", LEFT)])
def test_one_picture_is_learned_to_a_pixel_and_a_millimetre(kind, side):
    model = load_hand_model()
    torch.manual_seed(0)
    config = tiny_config(kind, width=64, feedforward=128, vertices="coarse")
    network = HandosNetwork(config, model)
    stir(network.detector)
    sample, camera = labelled_picture(model, side)
    batch = collate([sample])
    mesh = MeshTopology(torch.tensor(model.faces), torch.tensor(model.template))
    # Metres weigh more than in training, where millions of steps bring them to where they belong.
    weights = LossWeights(vertices=300.0, joints_3d=100.0, edge=100.0)
    targets = gather_targets(batch, torch.zeros(1, dtype=torch.long), torch.arange(1))
    seen = network.detect(batch.images)
    queries = torch.tensor([[0]])
    network.eval()  # batch statistics of one picture say nothing
    optimiser = torch.optim.AdamW(
        (p for p in network.parameters() if p.requires_grad), lr=2e-3, weight_decay=0
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=STEPS, pct_start=0.1)
    for _ in range(STEPS):
        out = network.decode(seen, queries, batch.boxes, batch.picture_size, all_layers=True)
        loss = sum(
            weighted_sum(hand_losses(predictions(layer), targets, weights, mesh), weights)
            for layer in (*out.earlier, out)
        )
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()

    pipeline = Pipeline(Found(network, batch.boxes[0].numpy()), model, model_id="learned")
    hands = pipeline(sample.image, camera)
    assert len(hands) == 1
    error = lambda a, b: np.linalg.norm(a - b, axis=-1).mean()  # noqa: E731
    assert error(hands.joints_2d, sample.joints_2d) < 1
    relative = hands.joints_3d - hands.joints_3d[:, :1]
    assert error(relative, sample.joints_3d - sample.joints_3d[:, :1]) < 1e-3
    moved = hands.vertices - hands.joints_3d[:, :1]
    assert error(moved, sample.vertices - sample.joints_3d[:, :1]) < 1e-3
    # The side is read off the mesh, and its place off both: no head of its own says either.
    assert hands.handedness.tolist() == [side] and (hands.handedness_scores > 0.7).all()
    assert error(hands.root_translation, sample.joints_3d[:, 0]) < 0.02
