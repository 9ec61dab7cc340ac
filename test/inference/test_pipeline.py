"""Tests of the whole pipeline around a stand-in network: what users give it and what they get."""

import resource
import time
import tracemalloc

import numpy as np
import pytest

from handos_ros.errors import CameraError, ModelError, PictureError
from handos_ros.hand_model.model import load_hand_model
from handos_ros.hands import Camera, Hands, KSource
from handos_ros.inference.backend import Decoded, Detections
from handos_ros.inference.pipeline import STAGES, Pipeline
from standin import HAND_LENGTH, StandInBackend, draw_disc, standin_hand_model, standin_pipeline


def picture(*discs, width=640, height=480):
    image = np.zeros((height, width, 3), np.uint8)
    for centre, diameter, side in discs:
        draw_disc(image, centre, diameter, side)
    return image


TWO = (((200, 180), 120, 1), ((450, 300), 90, 0))


@pytest.fixture
def pipeline():
    return standin_pipeline()


def test_two_hands_where_they_are(pipeline):
    hands = pipeline(picture(*TWO))
    assert hands.handedness.tolist() == [1, 0] and (hands.handedness_scores > 0.99).all()
    np.testing.assert_allclose(hands.boxes, [[140, 120, 260, 240], [405, 255, 495, 345]], atol=3)
    # Pinhole: depth = focal length * metres / pixels.
    expected = 640 * HAND_LENGTH / np.array([120, 90])
    np.testing.assert_allclose(hands.root_translation[:, 2], expected, rtol=0.05)
    assert (hands.ids == -1).all()


@pytest.mark.parametrize("size", [(640, 480), (1283, 721), (333, 777), (97, 64)])
def test_the_parts_of_a_hand_agree(size):
    width, height = size
    side = 0.3 * min(size)
    hands = standin_pipeline()(
        picture(((0.3 * width, 0.4 * height), side, 1), ((0.7 * width, 0.6 * height), side, 0),
                width=width, height=height)
    )  # fmt: skip
    assert len(hands) == 2
    # The stand-in draws joints without perspective, hence the hundredths of its size.
    np.testing.assert_allclose(hands.camera.project(hands.joints_3d), hands.joints_2d, atol=0.02 * side + 0.1)
    np.testing.assert_allclose(hands.joints_3d[:, 0], hands.root_translation, atol=1e-6)
    model = standin_hand_model()
    np.testing.assert_allclose(model.joint_regressor @ hands.vertices, hands.joints_3d, atol=1e-5)
    middles = (hands.boxes[:, :2] + hands.boxes[:, 2:]) / 2
    np.testing.assert_allclose(middles, [[0.3 * width, 0.4 * height], [0.7 * width, 0.6 * height]], atol=4)


def test_a_mirrored_picture_gives_mirrored_hands_of_the_other_side(pipeline):
    """The picture mirrored, magenta and cyan exchanged with it: what a network of no prejudice sees."""
    image = picture(*TWO)
    mirrored = picture(((639 - 200, 180), 120, 0), ((639 - 450, 300), 90, 1))
    one, other = pipeline(image), pipeline(mirrored)
    other = other.select(np.argsort(-other.root_translation[:, 0]))
    one = one.select(np.argsort(one.root_translation[:, 0]))
    assert (one.handedness + other.handedness == 1).all()
    mirror = np.array([-1, 1, 1])
    np.testing.assert_allclose(other.joints_3d, one.joints_3d * mirror, atol=2e-3)
    np.testing.assert_allclose(other.vertices, one.vertices * mirror, atol=2e-3)
    np.testing.assert_allclose(other.joints_2d, [639, 0] + one.joints_2d * [-1, 1], atol=1)


def test_mirroring_holds_for_any_output_of_the_network():
    """Random decoder outputs M x and x, for boxes at mirrored places, give mirrored hands."""
    model = standin_hand_model()
    image = np.zeros((320, 320, 3), np.uint8)
    rng = np.random.default_rng(2)
    n = 5
    outputs = {
        "joints_2d": rng.uniform(0.1, 0.9, (n, 1, 2)) + rng.normal(0, 0.08, (n, 21, 2)),
        "joint_scores": rng.uniform(0, 1, (n, 21)),
        "presence_logits": rng.normal(0, 1, n),
        "joints_3d": rng.normal(0, 0.06, (n, 21, 3)),
        "vertices": model.template * rng.choice([-1, 1], (n, 1, 1)) + rng.normal(0, 0.002, (n, 120, 3)),
        "root_2d": rng.uniform(0.1, 0.9, (n, 2)),
        "scale": rng.uniform(100, 900, n),
    }
    sign = {"joints_3d": [-1, 1, 1], "vertices": [-1, 1, 1]}
    mirrored = {
        name: value * sign.get(name, 1) if name not in ("joints_2d", "root_2d")
        else np.stack([1 - value[..., 0], value[..., 1]], -1)
        for name, value in outputs.items()
    }  # fmt: skip

    def run(values):
        backend = StandInBackend(hands=n)
        backend.decode = lambda *_: _decoded(values)
        return standin_pipeline_of(backend)(image, boxes=np.tile([10, 10, 50, 50], (n, 1)))

    one, other = run(outputs), run(mirrored)
    assert (one.handedness + other.handedness == 1).all() and 0 < one.handedness.sum() < n
    np.testing.assert_allclose(one.handedness_scores, other.handedness_scores, rtol=1e-5)
    np.testing.assert_allclose(other.joints_3d, one.joints_3d * [-1, 1, 1], atol=1e-5)
    np.testing.assert_allclose(other.vertices, one.vertices * [-1, 1, 1], atol=1e-5)
    np.testing.assert_allclose(other.joints_2d, [319, 0] + one.joints_2d * [-1, 1], atol=1e-3)
    np.testing.assert_array_equal(other.translation_source, one.translation_source)


def _decoded(values):
    return Decoded(**{name: np.asarray(value, np.float32) for name, value in values.items()})


def standin_pipeline_of(backend):
    return Pipeline(backend, standin_hand_model(), model_id="stand-in")


def test_no_hands_is_an_empty_result_with_everything_in_it(pipeline):
    hands = pipeline(picture())
    assert isinstance(hands, Hands) and len(hands) == 0
    assert hands.vertices.shape == (0, 120, 3) and hands.joints_2d.shape == (0, 21, 2)
    assert pipeline(picture(), mesh=False).vertices.shape == (0, 0, 3)


def test_without_the_mesh_all_else_is_the_same(pipeline):
    whole, bare = pipeline(picture(*TWO)), pipeline(picture(*TWO), mesh=False)
    assert bare.vertices.shape == (2, 0, 3)
    for name in ("joints_3d", "handedness", "handedness_scores", "boxes", "root_translation"):
        np.testing.assert_array_equal(getattr(bare, name), getattr(whole, name))


def test_one_hand_is_the_same_alone_and_in_company(pipeline):
    alone, both = pipeline(picture(TWO[0])), pipeline(picture(*TWO))
    np.testing.assert_allclose(alone.joints_3d[0], both.joints_3d[0], atol=1e-6)


def test_thresholds_may_change_between_pictures(pipeline):
    pipeline.max_hands = 1
    assert pipeline(picture(*TWO)).handedness.tolist() == [1]
    pipeline.max_hands, pipeline.min_score = 10, 0.9499
    assert len(pipeline(picture(*TWO))) == 1
    pipeline.min_score = 0.99
    assert len(pipeline(picture(*TWO))) == 0


class SeesDouble(StandInBackend):
    """A second query finds each hand, in a box that misses its sides."""

    def detect(self, picture):
        found = super().detect(picture)
        sides, *size = found.features
        narrow = found.boxes * np.float32([1, 1, 0.6, 1])
        return Detections(
            np.concatenate([found.boxes, narrow]),
            np.concatenate([found.scores, found.scores - 0.01]),
            (np.concatenate([sides, sides]), *size),
        )


def test_a_hand_found_twice_in_different_boxes_is_one_hand():
    hands = standin_pipeline_of(SeesDouble())(picture(*TWO))
    assert hands.handedness.tolist() == [1, 0]
    np.testing.assert_allclose(hands.scores, [0.95, 0.949], atol=1e-4)


class LooksTwice(StandInBackend):
    """Its detector is sure of the right hand and in doubt about the left; its decoder says otherwise."""

    presence = (-4.0, 3.0)

    def detect(self, picture):
        found = super().detect(picture)
        found.scores[:2] = 0.9, 0.4
        return found

    def decode(self, detections, queries, boxes):
        decoded = super().decode(detections, queries, boxes)
        decoded.presence_logits[:] = np.float32(self.presence)[queries]
        return decoded


def test_the_decoder_has_a_say_in_what_is_a_hand():
    hands = standin_pipeline_of(LooksTwice())(picture(*TWO))
    assert hands.handedness.tolist() == [0]
    np.testing.assert_allclose(hands.scores, [1 / (1 + 1.5 * np.exp(-3))], rtol=1e-5)
    # Its order is that of the scores, also where all are wanted, and the best hand is the best of these.
    pipeline = standin_pipeline_of(LooksTwice())
    pipeline.min_score = 0.1
    hands = pipeline(picture(*TWO))
    assert hands.handedness.tolist() == [0, 1]
    np.testing.assert_allclose(hands.scores[1], 1 / (1 + np.exp(4) / 9), rtol=1e-5)
    pipeline.max_hands = 1
    assert pipeline(picture(*TWO)).handedness.tolist() == [0]


def test_a_score_does_not_depend_on_the_threshold():
    """Candidates that only a low threshold brings to the decoder gain nothing there."""

    class Doubtful(LooksTwice):
        presence = (3.0, 3.0)

        def detect(self, picture):
            found = super().detect(picture)
            found.scores[:2] = 0.29, 0.31
            return found

    pipeline = standin_pipeline_of(Doubtful())
    assert pipeline(picture(*TWO)).handedness.tolist() == [0]
    pipeline.min_score = 0.05
    low = pipeline(picture(*TWO))
    assert low.handedness.tolist() == [0, 1]
    np.testing.assert_allclose(low.scores, [0.9002, 0.29], atol=1e-4)


def test_boxes_from_outside_keep_their_order_and_number(pipeline):
    left, right = [400, 250, 500, 350], [140, 120, 260, 240]
    nowhere = [10, 400, 60, 450]
    given = np.array([left, right, nowhere, right], float)
    pipeline.min_score, pipeline.max_hands = 0.99, 1
    hands = pipeline(picture(*TWO), boxes=given)
    np.testing.assert_array_equal(hands.boxes, given.astype(np.float32))
    assert hands.handedness.tolist()[:2] == [0, 1] and len(hands) == 4
    np.testing.assert_array_equal(hands.joints_3d[1], hands.joints_3d[3])
    np.testing.assert_allclose(hands.scores[:2], [0.949, 0.95], atol=1e-4)
    assert len(pipeline(picture(*TWO), boxes=[])) == len(pipeline(picture(), boxes=np.zeros((0, 4)))) == 0


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[0, 0, 10]], r"got the shape \(1, 3\)"),
        ([0, 0, 10, 10], r"got the shape \(4,\)"),
        ([[0, 0, 10, 10], [5, 5, 5, 9]], r"box 1 is no box: \[5.0, 5.0, 5.0, 9.0\]"),
        ([[0, 0, np.nan, 10]], "box 0 is no box"),
        ("everywhere", "must be numbers"),
    ],
)
def test_boxes_that_are_none_are_refused_by_name(pipeline, boxes, message):
    with pytest.raises(PictureError, match=message):
        pipeline(picture(), boxes=boxes)


def test_the_camera_is_the_one_given_at_the_size_of_the_picture(pipeline):
    camera = Camera(np.array([[1200.0, 0, 639.5], [0, 1200, 479.5], [0, 0, 1]]), 1280, 960)
    image = picture(*TWO)
    hands = pipeline(image, camera)
    assert hands.camera.width == 640 and hands.camera.k[0, 0] == 600
    assert hands.camera.source is KSource.PARAMETER
    assert pipeline(image).camera.source is KSource.ASSUMED
    np.testing.assert_allclose(
        hands.root_translation[:, 2] / pipeline(image).root_translation[:, 2], 600 / 640, rtol=0.01
    )
    with pytest.raises(CameraError, match="another shape"):
        pipeline(picture(width=640, height=360), camera)


def test_a_lens_is_taken_out_before_k(pipeline):
    k = np.array([[600.0, 0, 319.5], [0, 600, 239.5], [0, 0, 1]])
    lens = Camera(k, 640, 480, (-0.3, 0.1, 0, 0, 0))
    image = picture(((80, 70), 60, 1))
    bent, straight = pipeline(image, lens), pipeline(image, Camera(k, 640, 480))
    np.testing.assert_allclose(lens.project(bent.joints_3d), bent.joints_2d, atol=2)
    assert np.abs(bent.root_translation - straight.root_translation).max() > 0.02


def test_every_kind_of_array_that_is_a_picture(pipeline):
    image = picture(*TWO)
    expected = pipeline(image)
    for same in (
        np.dstack([image, np.full(image.shape[:2], 7, np.uint8)]),
        np.asfortranarray(image),
        image[..., ::-1].copy()[..., ::-1],
        np.ascontiguousarray(image[:, ::-1])[:, ::-1],
    ):
        np.testing.assert_array_equal(pipeline(same).joints_3d, expected.joints_3d)
    for grey in (image[..., 0], image[..., :1]):
        assert len(pipeline(grey)) == 0  # discs without colour are no hands to the stand-in
    assert len(standin_pipeline(hands=2)(image[..., 0])) == 2


def test_the_picture_is_left_as_it_was(pipeline):
    image = picture(*TWO)
    image.setflags(write=False)
    assert len(pipeline(image)) == 2


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 3)])
def test_the_smallest_pictures(size):
    hands = standin_pipeline(hands=2)(np.zeros((*size, 3), np.uint8))
    assert all(np.isfinite(getattr(hands, name)).all() for name in ("joints_3d", "vertices", "boxes"))


@pytest.mark.parametrize("kind", ["rgb", "grey", "alpha", "upside down"])
def test_a_picture_of_a_hundred_megapixels_takes_little_memory_besides_its_own(pipeline, kind):
    # Zeroed memory that is only read is not taken from the machine.
    if kind == "grey":
        image = np.zeros((10000, 10000), np.uint8)
    else:
        image = np.zeros((5000, 20000, 4 if kind == "alpha" else 3), np.uint8)
    if kind == "upside down":
        image = image[::-1]
    # Half the size each way is a quarter; OpenCV straightens what is not laid out row by row first.
    allowed = (1.3 if kind == "upside down" else 0.3) * image.nbytes + 2e7
    before = _peak_memory()
    tracemalloc.start()
    assert len(pipeline(image)) == 0
    python_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert python_peak < allowed
    assert _peak_memory() - before < allowed + image.nbytes + 5e7


def _peak_memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_mesh_of_another_hand_model_is_an_error():
    pipeline = Pipeline(StandInBackend(hands=1), load_hand_model(), model_id="odd")
    with pytest.raises(ModelError, match="odd gives meshes of 120 vertices"):
        pipeline(picture())


def test_stages_add_up_to_the_whole():
    pipeline = standin_pipeline(delay=0.02)
    started = time.perf_counter()
    pipeline(picture(*TWO))
    whole = time.perf_counter() - started
    assert tuple(pipeline.timings) == STAGES
    assert pipeline.timings["detect"] >= 0.02
    assert 0.9 * whole < sum(pipeline.timings.values()) <= whole
    pipeline(picture())
    assert pipeline.timings["decode"] == 0


def test_what_it_says_of_itself(pipeline):
    assert pipeline.model_id == "stand-in" and pipeline.hand_model.num_vertices == 120
    with pytest.raises(AttributeError):
        pipeline.model_id = "other"
    backend = pipeline.backend
    pipeline.close()
    assert backend.closed
