"""Every loss against a case worked out by hand, and every mask against a batch without labels."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from handos_ros.hands import JOINT_PARENTS  # noqa: E402
from handos_ros.learning.training import losses  # noqa: E402
from handos_ros.learning.training.losses import LossWeights, MeshTopology, Predictions  # noqa: E402
from handos_ros.learning.training.targets import Targets, project  # noqa: E402

# A right-angled tetrahedron, 0.1 m a side, faces outward: signed volume +1/6000 m^3.
TETRAHEDRON = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1]])
FACES = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
MIRROR = torch.tensor([-1.0, 1, 1])


@pytest.fixture
def mesh():
    return MeshTopology(FACES, TETRAHEDRON)


def joints(*points, m=1):
    """(m, 21, 2) zeros whose first joints are `points`."""
    out = torch.zeros(m, 21, len(points[0]))
    out[:, : len(points)] = torch.tensor(points, dtype=torch.float32)
    return out


def first_joints(n):
    weight = torch.zeros(1, 21)
    weight[:, :n] = 1
    return weight


def test_l1_of_2d_joints_is_in_units_of_the_boxes_size():
    # |3| + |4| over two coordinates is 3.5 px; sqrt(area) 10: 0.35 for one joint, 0 for the other.
    value = losses.joints_2d_loss(
        joints([3.0, 4.0], [0.0, 0.0]), torch.zeros(1, 21, 2), first_joints(2), torch.tensor([100.0])
    )
    assert value.item() == pytest.approx(0.35 / 2)


def test_oks_counts_pixels_area_and_sigma():
    # The wrist 5 px off with sigma 0.029, area 10000: e^2 = 25 / (2 * 10000 * 0.058^2).
    error = 25 / (2 * 10000 * 0.058**2)
    value = losses.oks_loss(
        joints([3.0, 4.0], [0.0, 0.0]), torch.zeros(1, 21, 2), first_joints(2), torch.tensor([1e4])
    )
    assert value.item() == pytest.approx((1 - math.exp(-error)) / 2, rel=1e-5)


def test_wider_sigmas_pull_on_joints_that_are_further_off():
    def pull(distance, width):
        said = joints([distance, 0.0]).requires_grad_()
        labels = torch.zeros(1, 21, 2), first_joints(1), torch.tensor([1e4])
        losses.oks_loss(said, *labels, width).backward()
        return float(said.grad.abs().sum())

    # A tenth of the hand's size is 10 px here.
    assert pull(2.0, 1.0) > 2 * pull(2.0, 2.0)
    assert pull(15.0, 2.0) > 2 * pull(15.0, 1.0)


def test_the_hand_sigmas_are_those_of_coco_wholebody():
    assert len(losses.OKS_SIGMAS) == 21
    assert losses.OKS_SIGMAS[0] == 0.029 and losses.OKS_SIGMAS[4] == 0.047 and losses.OKS_SIGMAS[20] == 0.031


def test_a_half_sure_label_counts_half():
    weight = first_joints(2)
    weight[0, 0] = 0.5
    value = losses.joints_2d_loss(
        joints([6.0, 0.0], [0.0, 0.0]), torch.zeros(1, 21, 2), weight, torch.tensor([1.0])
    )
    assert value.item() == pytest.approx(3.0 * 0.5 / 1.5)


def test_confidence_learns_how_near_the_joint_came():
    area, weight = torch.tensor([1e4]), first_joints(2)
    predicted, label = joints([0.0, 0.0], [1000.0, 0.0]), torch.zeros(1, 21, 2)
    logits = torch.zeros(1, 21, requires_grad=True)
    value = losses.confidence_loss(logits, predicted.requires_grad_(), label, weight, area)
    assert value.item() == pytest.approx(math.log(2))
    value.backward()
    assert logits.grad[0, 0] < 0 < logits.grad[0, 1]  # up for the joint that is right, down for the other
    assert predicted.grad is None


def test_l1_in_space_is_a_mean_of_metres_over_the_labelled_hands():
    points = torch.zeros(2, 4, 3)
    points[0, 0] = torch.tensor([0.03, -0.06, 0.03])
    points[1] = 99
    value = losses.points_loss(points, torch.zeros(2, 4, 3), torch.tensor([True, False]))
    assert value.item() == pytest.approx(0.12 / 12)


def turned(points, axis, angle):
    from scipy.spatial.transform import Rotation

    matrix = Rotation.from_rotvec(np.array(axis) * angle).as_matrix()
    return points @ torch.tensor(matrix, dtype=torch.float32).T


def test_a_teacher_may_be_larger_and_a_little_turned_but_not_mirrored():
    torch.manual_seed(0)
    hand = torch.randn(1, 21, 3) * 0.05
    hand[:, 0] = 0
    has = torch.tensor([True])
    limit = losses.TEACHER_ROTATION
    small = losses.weak_joints_3d_loss(hand, turned(hand * 1.08, [0, 0.6, 0.8], 0.9 * limit), has)
    assert small.item() == pytest.approx(0, abs=1e-5)
    # Beyond the limit, what is left of the turn is the error, as if the label were turned by that alone.
    far = losses.weak_joints_3d_loss(hand, turned(hand, [0, 0.6, 0.8], limit + 0.2), has)
    rest = turned(hand, [0, 0.6, 0.8], 0.2)
    assert far.item() == pytest.approx((hand - rest).abs().mean().item(), rel=1e-3)
    assert losses.weak_joints_3d_loss(hand, hand * MIRROR, has).item() > 0.01


def test_a_teachers_size_is_followed_only_within_reason():
    torch.manual_seed(0)
    # Of joints along a line the turn would be anything.
    hand = torch.randn(1, 21, 3) * 0.05
    hand[:, 0] = 0
    value = losses.weak_joints_3d_loss(hand, hand / 10, torch.tensor([True]))
    assert value.item() == pytest.approx(hand.abs().mean().item() * (1 / 1.1 - 1 / 10), rel=1e-4)


def test_doubt_about_the_pose_does_not_make_a_teachers_hand_smaller():
    torch.manual_seed(0)
    label = torch.randn(40, 21, 3) * 0.05
    wrong = label + torch.randn(40, 21, 3) * 0.02
    size = torch.ones(40, 1, 1, requires_grad=True)
    wrong = wrong * (label.square().sum((1, 2)) / wrong.square().sum((1, 2))).sqrt()[:, None, None]
    losses.weak_joints_3d_loss(size * wrong, label, torch.ones(40, dtype=torch.bool)).backward()
    assert size.grad.abs().max() < 1e-6


def test_bones_are_compared_by_length():
    # Every bone of the label is 0.1 m long, along x; those of the prediction 0.1, but two of 0.13 and 0.05.
    label, said = torch.zeros(2, 21, 3), torch.zeros(2, 21, 3)
    for j, parent in enumerate(JOINT_PARENTS):
        if parent >= 0:
            length = {4: 0.13, 20: 0.05}.get(j, 0.1)
            label[0, j] = label[0, parent] + torch.tensor([0.1, 0, 0])
            said[0, j] = said[0, parent] + torch.tensor([0, 0, length])
    said[1] = 9.0
    value = losses.bones_loss(said, label, torch.tensor([True, False]))
    assert value.item() == pytest.approx((0.03 + 0.05) / 20, rel=1e-3)


def test_stretched_edges_are_seen_with_and_without_a_label(mesh):
    def stretch(vertices, label, has):
        return losses.stretch_loss(
            mesh.surface(vertices), mesh.surface(label), mesh.rest_lengths, torch.tensor([has]), yes
        ).item()

    yes, label = torch.tensor([True]), TETRAHEDRON[None]
    assert stretch(1.2 * label, label, True) == pytest.approx(0.2, rel=1e-4)
    # Of another size, but the same shape: nothing to say without a label.
    assert stretch(1.2 * label, label * 0, False) == pytest.approx(0, abs=1e-6)
    # One corner pulled out: 3 edges, each in two faces, are 0.4 long instead of 0.1 or of 0.1414.
    spike = label.clone()
    spike[0, 3, 2] = 0.4
    diagonal = 0.1 * math.sqrt(2)
    slanted = math.hypot(0.4, 0.1)
    rest = [0.1] * 6 + [diagonal] * 6
    said = [0.1] * 4 + [0.4] * 2 + [diagonal] * 2 + [slanted] * 4
    size = sum(said) / sum(rest)
    want = sum(max(0, abs(s / (r * size) - 1) - 0.3) for s, r in zip(said, rest, strict=True)) / 12
    assert want > 0.2
    assert stretch(spike, label * 0, False) == pytest.approx(want, rel=1e-4)


def test_normals_see_a_tilted_edge(mesh):
    label = TETRAHEDRON[None]
    has = torch.tensor([True])
    assert losses.normal_loss(mesh.surface(label), mesh.surface(label), has).item() == pytest.approx(
        0, abs=1e-6
    )
    # The corner (0, 0, 0.1) moved to (0.1, 0, 0.1). Sum over faces of |edge direction . label normal|:
    #   0 2 1, normal -z: nothing moved.              0
    #   0 1 3, normal -y: all edges stay in y = 0.    0
    #   0 3 2, normal -x: 0-3 is (1,0,1)/sqrt 2, 3-2 is (-1,1,-1)/sqrt 3: 1/sqrt 2 + 1/sqrt 3
    #   1 2 3, normal (1,1,1)/sqrt 3: 1-2: 0; 2-3 (1,-1,1)/sqrt 3: 1/3; 3-1 (0,0,-1): 1/sqrt 3
    moved = label.clone()
    moved[0, 3, 0] = 0.1
    want = (1 / math.sqrt(2) + 1 / math.sqrt(3) + 1 / 3 + 1 / math.sqrt(3)) / 12
    assert losses.normal_loss(mesh.surface(moved), mesh.surface(label), has).item() == pytest.approx(
        want, rel=1e-4
    )


def test_normals_are_blind_to_the_side_and_nc_is_not(mesh):
    right, left = TETRAHEDRON[None], (TETRAHEDRON * MIRROR)[None]
    inside_out = MeshTopology(FACES.flip(1), TETRAHEDRON * MIRROR)
    has, side = torch.tensor([True]), torch.tensor([0])
    assert losses.normal_loss(mesh.surface(left), mesh.surface(left), has).item() == pytest.approx(
        0, abs=1e-6
    )
    assert losses.normal_loss(
        inside_out.surface(left), inside_out.surface(left), has
    ).item() == pytest.approx(0, abs=1e-6)
    assert losses.signed_normal_loss(
        mesh.surface(left), mesh.surface(left), has, side, mesh.margin
    ).item() == pytest.approx(0, abs=1e-5)
    # Mirrored in x: the faces in z = 0 and y = 0 turn round (cos -1), the one in x = 0 turns round in the
    # list but its normal was along x, so it stays (cos 1); the slanted one goes from (1,1,1) to
    # (1,-1,-1): cos -1/3. Mean of 1 - cos: (2 + 2 + 0 + 4/3) / 4.
    value = losses.signed_normal_loss(mesh.surface(right), mesh.surface(left), has, side, mesh.margin)
    assert value.item() == pytest.approx((2 + 2 + 0 + 4 / 3) / 4, rel=1e-4)


def test_edges_are_compared_by_length(mesh):
    # Twice the size: every edge is off by its own length; 3 faces of (0.1, 0.1, 0.1414), one of 0.1414 x 3.
    label = TETRAHEDRON[None]
    diagonal = 0.1 * math.sqrt(2)
    want = (3 * (0.1 + 0.1 + diagonal) + 3 * diagonal) / 12
    value = losses.edge_loss(mesh.surface(2 * label), mesh.surface(label), torch.tensor([True]))
    assert value.item() == pytest.approx(want, rel=1e-4)


def test_roundness_is_the_signed_volume_against_a_ball(mesh):
    volume, area = 0.001 / 6, 0.01 * (1.5 + math.sqrt(3) / 2)
    want = 6 * math.sqrt(math.pi) * volume / area**1.5
    assert mesh.surface(TETRAHEDRON[None]).roundness.item() == pytest.approx(want, rel=1e-4)
    assert mesh.surface((3 * TETRAHEDRON * MIRROR)[None]).roundness.item() == pytest.approx(-want, rel=1e-4)


def test_a_mesh_does_not_look_rounder_by_shrinking(mesh):
    vertices = TETRAHEDRON[None].clone().requires_grad_()
    value = mesh.surface(vertices).roundness
    value.sum().backward()
    # Growing it grows the volume with the third power, against a surface that is held.
    assert (vertices.grad * vertices).sum().item() == pytest.approx(3 * value.item(), rel=1e-4)


@pytest.mark.parametrize(("handedness", "want"), [(1, 0.0), (0, 3.0), (-1, 0.0)])
def test_a_side_alone_asks_for_the_volumes_sign(mesh, handedness, want):
    # The margin is half the template's own roundness: a right hand is 2 margins from 0, 3 from the
    # left's goal.
    vertices = TETRAHEDRON[None].clone().requires_grad_()
    value = losses.signed_normal_loss(
        mesh.surface(vertices),
        mesh.surface(torch.zeros(1, 4, 3)),
        torch.tensor([False]),
        torch.tensor([handedness]),
        mesh.margin,
    )
    assert value.item() == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize("handedness", [0, 1])
def test_a_side_alone_turns_a_mesh_of_the_other_side_inside_out(mesh, handedness):
    side = torch.tensor([handedness])
    vertices = (TETRAHEDRON if handedness == 0 else TETRAHEDRON * MIRROR)[None].clone().requires_grad_()
    blank = mesh.surface(torch.zeros(1, 4, 3))
    for _ in range(200):
        value = losses.signed_normal_loss(
            mesh.surface(vertices), blank, torch.tensor([False]), side, mesh.margin
        )
        (gradient,) = torch.autograd.grad(value, vertices)
        vertices = (vertices - 1e-3 * gradient.sign()).detach().requires_grad_()
    assert value.item() < 0.1
    assert (mesh.surface(vertices).roundness.item() > 0) == (handedness == 1)


def test_a_template_inside_out_is_refused():
    with pytest.raises(ValueError, match="inwards"):
        MeshTopology(FACES.flip(1), TETRAHEDRON)


def targets(m=2, *, v=4, **labels):
    """Targets without any label but those given."""
    no = torch.zeros(m, dtype=torch.bool)
    k = torch.tensor([[100.0, 0, 31.5], [0, 100, 31.5], [0, 0, 1]]).expand(m, 3, 3)
    blank = {
        "joints_2d": torch.zeros(m, 21, 2), "joints_2d_weight": torch.zeros(m, 21), "area": torch.ones(m),
        "joints_3d": torch.zeros(m, 21, 3), "exact_3d": no, "weak_3d": no,
        "vertices": torch.zeros(m, v, 3), "has_vertices": no,
        "handedness": torch.full((m,), -1), "k": k, "picture_size": (64, 64),
    }  # fmt: skip
    return Targets(**{**blank, **labels})


def predictions(m=2, seed=0):
    torch.manual_seed(seed)
    return Predictions(
        joints_2d=torch.rand(m, 21, 2).requires_grad_(),
        joint_logits=torch.randn(m, 21).requires_grad_(),
        joints_3d=(torch.randn(m, 21, 3) * 0.05).requires_grad_(),
        vertices=(torch.randn(m, 4, 3) * 0.05).requires_grad_(),
        root_2d=torch.rand(m, 2).requires_grad_(),
        scale=torch.full((m,), 200.0).requires_grad_(),
    )


def test_the_width_of_oks_is_that_of_both_its_terms(mesh):
    labels = targets(joints_2d_weight=torch.ones(2, 21), area=torch.full((2,), 1e4))
    published, wide = (
        losses.hand_losses(predictions(), labels, LossWeights(oks_width=width), mesh) for width in (1.0, 2.0)
    )
    changed = {name for name in published if published[name] != wide[name]}
    assert changed == {"oks_2d", "oks_proj"}
    assert wide["oks_2d"] < published["oks_2d"] and wide["oks_proj"] < published["oks_proj"]


@pytest.mark.parametrize("v", [0, 4])
def test_without_labels_every_term_is_zero_and_so_is_its_gradient(mesh, v):
    p, weights = predictions(), LossWeights(bones=1.0, stretch=1.0)
    terms = losses.hand_losses(p, targets(v=v), weights, mesh)
    assert set(terms) == set(vars(weights)) - {"oks_width", "presence"}
    total = losses.weighted_sum(terms, weights)
    assert total.item() == 0
    total.backward()
    for tensor in vars(p).values():
        assert (tensor.grad == 0).all()


def test_no_hands_at_all_give_zero(mesh):
    p = predictions(m=0)
    total = losses.weighted_sum(losses.hand_losses(p, targets(0), LossWeights(), mesh), LossWeights())
    assert total.item() == 0
    total.backward()


def test_a_hand_with_2d_labels_alone_teaches_the_2d_and_projected_joints(mesh):
    t = targets(joints_2d=torch.rand(2, 21, 2) * 64, joints_2d_weight=torch.ones(2, 21))
    p = predictions()
    terms = losses.hand_losses(p, t, LossWeights(), mesh)
    lit = {name for name, value in terms.items() if value.item() > 0}
    assert lit == {"joints_2d", "oks_2d", "joints_proj", "oks_proj", "confidence"}
    losses.weighted_sum(terms, LossWeights()).backward()
    assert p.scale.grad.abs().sum() > 0 and p.root_2d.grad.abs().sum() > 0
    assert all(torch.isfinite(t.grad).all() for t in vars(p).values())


def test_a_side_alone_teaches_nothing_but_nc(mesh):
    t = targets(handedness=torch.tensor([0, 1]))
    terms = losses.hand_losses(predictions(), t, LossWeights(), mesh)
    assert {name for name, value in terms.items() if value.item() > 0} == {"nc"}


def test_what_is_right_costs_nothing(mesh):
    torch.manual_seed(1)
    joints_3d = torch.randn(1, 21, 3) * 0.03
    joints_3d[:, 0] = 0
    t = targets(1)
    root, scale = torch.tensor([[20.0, 40.0]]), torch.tensor([150.0])
    points = project(joints_3d, root, scale, t.k)
    vertices = TETRAHEDRON[None]
    yes = torch.tensor([True])
    t = targets(
        1, joints_2d=points, joints_2d_weight=torch.ones(1, 21), area=torch.tensor([900.0]),
        joints_3d=joints_3d, exact_3d=yes, vertices=vertices, has_vertices=yes, handedness=torch.tensor([1]),
    )  # fmt: skip
    p = Predictions((points + 0.5) / 64, None, joints_3d, vertices, (root + 0.5) / 64, scale)
    for name, value in losses.hand_losses(p, t, LossWeights(), mesh).items():
        assert value.item() == pytest.approx(0, abs=2e-5), name


def test_terms_without_weight_are_left_out(mesh):
    weights = LossWeights(oks_2d=0, oks_proj=0, nc=0, normal=0, edge=0)
    terms = losses.hand_losses(predictions(), targets(), weights, mesh)
    assert not {"oks_2d", "oks_proj", "nc", "normal", "edge"} & set(terms)


def test_a_2d_model_has_only_2d_terms():
    p = Predictions(torch.rand(2, 21, 2))
    terms = losses.hand_losses(p, targets(), LossWeights())
    assert set(terms) == {"joints_2d", "oks_2d"}


def test_the_weights_are_those_of_the_paper():
    w = LossWeights()
    assert (w.joints_2d, w.oks_2d, w.vertices, w.joints_3d, w.normal, w.edge) == (10, 4, 10, 10, 5, 10)
    assert (w.joints_proj, w.oks_proj, w.nc) == (10, 4, 0.5)
    terms = {"joints_2d": torch.tensor(2.0), "nc": torch.tensor(4.0)}
    assert losses.weighted_sum(terms, w).item() == 10 * 2 + 0.5 * 4
