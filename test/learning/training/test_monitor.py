"""What a run measures of itself: the right pictures, the right network, and nothing of it changed."""

import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tiny_networks import tiny_network  # noqa: E402
from tiny_training import write_photographs  # noqa: E402

from handos_ros.errors import DataError  # noqa: E402
from handos_ros.hand_model.model import load_hand_model  # noqa: E402
from handos_ros.inference.pipeline import Pipeline  # noqa: E402
from handos_ros.inference.torch_backend import TorchBackend  # noqa: E402
from handos_ros.learning.datasets.reading import read_picture  # noqa: E402
from handos_ros.learning.training.config import MonitorConfig  # noqa: E402
from handos_ros.learning.training.monitor import Monitor, monitor_from  # noqa: E402

REAL = {"recall", "precision", "ap50", "pck@0.1", "pck@0.2", "side_accuracy", "pa_mpjpe_proper_mm", "size"}


@pytest.fixture(scope="module")
def network():
    network = tiny_network(seed=2)
    network.detector.shift_scores(1.5)  # sure enough of itself to find hands
    return network


@pytest.fixture(scope="module")
def own_words(network, tmp_path_factory):
    """Three photographs labelled with what the network itself says of them."""
    folder = tmp_path_factory.mktemp("photographs")
    path = write_photographs(folder, 3)
    content = json.loads(path.read_text())
    content["annotations"] = []
    pipeline = Pipeline(TorchBackend(network), load_hand_model(), model_id="tiny")
    for image in content["images"]:
        hands = pipeline(read_picture(folder / "images" / image["file_name"]))
        for box, joints_2d, joints_3d, side in zip(
            hands.boxes, hands.joints_2d, hands.joints_3d, hands.handedness, strict=True
        ):
            content["annotations"].append(
                {
                    "id": len(content["annotations"]), "image_id": image["id"],
                    "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
                    "handedness": ("left", "right")[side],
                    "keypoints": np.concatenate([joints_2d, np.full((21, 1), 2)], 1).ravel().tolist(),
                    "joints_3d": joints_3d.tolist(), "joints_3d_absolute": True,
                }
            )  # fmt: skip
    assert content["annotations"]
    path.write_text(json.dumps(content))
    return path


def test_who_says_the_labels_has_full_marks(network, own_words):
    found = Monitor(MonitorConfig(str(own_words)), load_hand_model())(network, 7)
    assert set(found) == {f"real/{name}" for name in REAL}
    assert found.pop("real/pa_mpjpe_proper_mm") == pytest.approx(0, abs=0.01)
    assert found.pop("real/size") == pytest.approx(1)
    # AP50 counts candidates below 0.5 too, and those have no label.
    assert found.pop("real/ap50") > 0.9
    assert set(found.values()) == {1.0}


def test_the_network_that_is_given_is_the_one_that_is_measured(network, own_words):
    monitor = Monitor(MonitorConfig(str(own_words)), load_hand_model())
    own = monitor(network, 1)
    other = monitor(tiny_network(seed=1), 2)
    assert other["real/recall"] < 1 and other["real/ap50"] < own["real/ap50"]
    assert monitor(network, 3) == own


def test_measuring_changes_nothing_of_the_network(network, own_words):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    Monitor(MonitorConfig(str(own_words), pictures=1), load_hand_model())(network, 1)
    assert torch.is_grad_enabled()
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    ("wanted", "numbers"), [(2, [0, 2]), (3, [0, 1, 3]), (5, [0, 1, 2, 3, 4]), (9, range(5))]
)
def test_pictures_are_spread_evenly(tmp_path, wanted, numbers):
    path = write_photographs(tmp_path, 5)
    monitor = Monitor(MonitorConfig(str(path), pictures=wanted), load_hand_model())
    assert [entry.id for entry in monitor.entries] == list(numbers)


def test_synthetic_pictures_are_measured_beside_the_real_ones(network, own_words):
    config = MonitorConfig(str(own_words), pictures=1, synthetic=2)
    found = Monitor(config, load_hand_model())(network, 1)
    assert found["synthetic/hands"] >= 1 and 0 <= found["synthetic/recall"] <= 1
    assert {f"real/{name}" for name in REAL} < set(found)


def test_no_monitor_where_none_is_named_or_its_pictures_are_not_there(tmp_path):
    hand_model = load_hand_model()
    assert monitor_from(None, hand_model) is None
    config = MonitorConfig(str(tmp_path / "annotations.json"))
    assert monitor_from(config, hand_model) is None
    write_photographs(tmp_path, 2)
    assert isinstance(monitor_from(config, hand_model), Monitor)
    elsewhere = dataclasses.replace(config, images=str(tmp_path))
    with pytest.raises(DataError, match=r"000\.png: no such picture for the monitor"):
        monitor_from(elsewhere, hand_model)
