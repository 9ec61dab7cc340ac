"""One labelled picture learned by heart: under 1 px and 1 mm, so every output can say what it has to say."""

import numpy as np
import pytest
import torch
from tiny_networks import pictures, stir, tiny_config

from handos_ros.hand_model.model import load_hand_model
from handos_ros.hand_model.poses import random_rotations
from handos_ros.hand_model.posing import pose
from handos_ros.hands import Camera
from handos_ros.inference.filtering import match
from handos_ros.inference.letterbox import Letterbox
from handos_ros.inference.pipeline import Pipeline
from handos_ros.inference.torch_backend import TorchBackend
from handos_ros.learning.sample import Sample, collate
from handos_ros.learning.training.losses import LossWeights, MeshTopology, Predictions, hand_losses, weighted_sum
from handos_ros.learning.training.targets import gather_targets
from handos_ros.network.handos import HandosNetwork

HEIGHT, WIDTH = 96, 128


def labelled_picture(model):
    """Two posed hands, a right and a left one, before a camera; the picture itself need not show them."""
    random = np.random.default_rng(3)
    vertices, joints = pose(model, random_rotations(model, 2, random))
    vertices[1, :, 0] *= -1
    joints[1, :, 0] *= -1
    places = np.array([[[-0.1, 0.0, 0.55]], [[0.09, 0.04, 0.5]]], np.float32)
    vertices, joints = vertices + places, joints + places
    camera = Camera(np.array([[120.0, 0, 63.5], [0, 120.0, 47.5], [0, 0, 1]]), WIDTH, HEIGHT)
    points = camera.project(joints)
    outline = camera.project(vertices)
    boxes = np.concatenate([outline.min(1), outline.max(1)], 1)
    image = pictures(1, HEIGHT, WIDTH)[0].permute(1, 2, 0).numpy()
    sample = Sample.labelled(
        image, boxes, k=camera.k, handedness=[1, 0], joints_2d=points, joints_3d=joints, vertices=vertices
    )
    return sample, camera


def predictions(output):
    """What a layer says of the only picture's hands."""
    names = ("joints_2d", "joint_logits", "joints_3d", "vertices", "root_2d", "scale")
    return Predictions(*(None if getattr(output, n) is None else getattr(output, n)[0] for n in names))


@pytest.mark.parametrize(("kind", "steps"), [("grounding_dino", 300), ("d_fine", 400)])
def test_one_picture_is_learned_to_a_pixel_and_a_millimetre(kind, steps):
    model = load_hand_model()
    torch.manual_seed(0)
    config = tiny_config(kind, width=64, feedforward=128, vertices="coarse")
    network = HandosNetwork(config, model)
    stir(network.detector)
    sample, camera = labelled_picture(model)
    batch = collate([sample])
    mesh, weights = MeshTopology(torch.tensor(model.faces), torch.tensor(model.template)), LossWeights()
    targets = gather_targets(batch, torch.zeros(2, dtype=torch.long), torch.arange(2))
    seen = network.detect(batch.images)
    candidates = Letterbox.fit(WIDTH, HEIGHT, WIDTH, 32).boxes_to_pixels(seen.boxes[0].numpy())
    queries = torch.from_numpy(match(sample.boxes.astype(float), candidates))[None]
    network.eval()  # batch statistics of one picture say nothing
    optimiser = torch.optim.AdamW((p for p in network.parameters() if p.requires_grad), lr=2e-3, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
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

    pipeline = Pipeline(TorchBackend(network), model, model_id="learned")
    hands = pipeline(sample.image, camera, boxes=sample.boxes)
    error = lambda a, b: np.linalg.norm(a - b, axis=-1).mean()  # noqa: E731
    assert error(hands.joints_2d, sample.joints_2d) < 1
    relative = hands.joints_3d - hands.joints_3d[:, :1]
    assert error(relative, sample.joints_3d - sample.joints_3d[:, :1]) < 1e-3
    moved = hands.vertices - hands.joints_3d[:, :1]
    assert error(moved, sample.vertices - sample.joints_3d[:, :1]) < 1e-3
    # The side is read off the mesh, and its place off both: no head of its own says either.
    assert hands.handedness.tolist() == [1, 0] and (hands.handedness_scores > 0.7).all()
    assert error(hands.root_translation, sample.joints_3d[:, 0]) < 0.02
