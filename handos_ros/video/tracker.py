"""`Tracker`: which hand is which from picture to picture, and smoothing without much lag."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from handos_ros.errors import DataError
from handos_ros.hands import NUM_JOINTS, RIGHT, Camera, Hands
from handos_ros.inference.place import pictured
from handos_ros.video.assignment import assign
from handos_ros.video.one_euro import one_euro

# Association. Costs are in hand sizes (square root of the box's area), which is what 2D distance is told in.
_SIDE_COST = 0.5
"""Of taking one side for the other when both are sure."""
_DEPTH_COST = 0.3
"""Of a difference of 1 in log depth, i.e. of a factor 2.7."""
_REACH, _REACH_PER_SECOND, _MAX_REACH = 0.4, 12.0, 2.0
"""How far from where it was expected a hand may be. 12 sizes/s are about 2 m/s."""
_UNSURE_COST, _UNSURE_REACH = 0.4, 0.8
"""Of taking a hand that scores too little to begin a track, and the most that it may cost beside that."""
_NESTED = 0.8
"""An unsure hand that lies so much in a surer one of the same side, or the other way round, is that one."""
_PREDICT_FOR = 0.25
"""Seconds for which a hand that is not seen is expected to keep its speed."""
_MISSABLE, _PATIENCE = 1.5, 1.5
"""Where pictures come slowly a track is kept from each to the next, but not over one that misses it: for so
many times what has passed since the picture before. And for no more than so many seconds, after which a hand
at the same place may be anyone's."""
_VELOCITY_WEIGHT, _VELOCITY_MEMORY = 0.6, 0.022
"""Most that the latest two pictures say of a track's speed, and the time constant (seconds) of its mean where
these are closer than usual: a stamp that is late tells of a speed many times too high."""
_SHORTEST_STEP = 0.02
"""Seconds; a track's first two pictures are taken to be at least so far apart, for want of others."""

LATE = 0.5
"""Seconds by which a picture may be older than the one before it and only be late: a driver that guesses its
stamps, or two that publish. More is a clock that was set back or a bag that started over."""
_MOST_LATE = 5
"""Late pictures in a row that are not yet taken for that."""

# Handedness.
_SIDE_MEMORY = 0.5
"""Seconds; time constant of the mean over which the side is decided."""
_SIDE_MARGIN = 0.1
"""How clearly, on a scale of -1 to 1, the mean must speak for the other side before a hand changes it."""
_SIDE_PATIENCE = 1.0
"""Seconds without a single picture of a hand's side after which it need not speak clearly."""

_SAME_LENS = 0.01
"""Share by which intrinsics may differ and be the same: autofocus moves them from picture to picture."""

# Smoothing. Cutoffs of a hand at rest, from 5 Hz (smoothing just above 0) to 0.2 Hz (1). What speed adds to
# them, told below for 0.5, changes with them: noise looks like speed too, and is to weigh less where calm is
# wanted most.
_WEAKEST, _STRONGEST = 5.0, 0.2
_BETA_RANGE = 8.0
_BETA = 20.0
"""Hz for a speed of 1 m/s, across the line of sight and within the hand."""
_BETA_DEPTH = 3.0
"""Hz for a log depth changing by 1 per second: depth is several times as noisy as the rest."""
_BETA_OFFSET = 3.0
"""Hz for one hand size per second."""

_SHORTEST = 1e-3
"""Seconds; pictures with one stamp are taken to be so far apart."""


class Tracker:
    """Gives hands stable ids and calms their jitter. One tracker for one camera.

    Identity. Hands are assigned to tracks by the distance of their 2D joints from where constant speed would
    have them, by side and by depth. A track that is not seen keeps its id for `max_age`, and where pictures
    come more slowly than that, up to 1.5 s apart, from each to the next. The result holds hands of this
    picture only: none is invented for a track that was missed.

    Two thresholds. A hand that scores less than `min_score` begins no track, but may go on with one, near
    where that is expected: a hand that was plainly there a moment ago needs less to be believed (the idea of
    ByteTrack, Zhang et al. 2022). So a network that is asked for unsure hands as well, by a lower
    `min_score` of its own, loses hands less often.

    Side. A track's side is its mean over half a second, so that one picture that saw the other side changes
    nothing. The mesh of such a picture is inside out, and so it and the 3D joints are not used: the shape
    of the track's last good picture is shown at the place of the new one. So `handedness` always names the
    side that the vertices have. If the other side stays, the track changes to it, shape and all.

    Smoothing. The One Euro filter on the wrist's direction and log depth, on root-relative joints and
    vertices, each point by its own speed, and on the difference between `joints_2d` and the projection of
    `joints_3d`: so the smoothed 3D joints still project onto the smoothed 2D ones. A 2D joint whose 3D joint
    is next to the camera or outside what the lens sees stays where it was found. Boxes and scores are left as
    they are. Stamps may be uneven, and a single one older than the one before.

    Attributes:
        smoothing: 0 (off) to 1 (strong); may change at any time.
        max_age: seconds after which a track that is not seen is forgotten; later where pictures are rarer.
        min_hits: pictures that must show a hand before it appears in results.
        min_score: what a hand must score to begin a track; may change at any time.
    """

    def __init__(
        self, *, smoothing: float = 0.5, max_age: float = 0.5, min_hits: int = 1, min_score: float = 0.0
    ) -> None:
        self.smoothing = smoothing
        self.max_age = max_age
        self.min_hits = min_hits
        self.min_score = min_score
        self._next_id = 0
        self.reset()

    def reset(self) -> None:
        """Forget all tracks. Ids are not given again."""
        self._tracks = _Tracks.none(0)
        self._stamp, self._late = -np.inf, 0
        self._lens = np.zeros(11)

    def __call__(self, hands: Hands, stamp: float) -> Hands:
        """Take the hands of the next picture.

        Args:
            hands: as the pipeline gave them; left as they are.
            stamp: seconds, of any clock. One that lies more than `LATE` before the last one, or one of many
                in a row that do, resets the tracker.

        Returns:
            The same hands in the same order with ids and smoothed, less those that were not yet seen in
            `min_hits` pictures, and those below `min_score` that go on with no track.

        Raises:
            ValueError: if `stamp` is not finite.
        """
        if not np.isfinite(stamp):
            raise ValueError(f"the stamp must be finite, got {stamp}")
        stamp = self._in_order(stamp)
        max_age = max(self.max_age, min(_PATIENCE, _MISSABLE * (stamp - self._stamp)))
        self._stamp = stamp
        self._prepare(hands, stamp, max_age)

        tracks = self._tracks
        hands, rows, columns = self._assigned(hands, stamp)
        fresh = np.setdiff1d(np.arange(len(hands)), columns)
        where = np.empty(len(hands), np.intp)
        where[columns], where[fresh] = rows, len(tracks.ids) + np.arange(len(fresh))
        self._tracks = tracks.extended(len(fresh))
        found, seen = self._advance(self._tracks.select(where), hands, stamp)
        shown = found.hits >= self.min_hits
        newly = shown & (found.ids < 0)
        found.ids[newly] = self._next_id + np.arange(newly.sum())
        self._next_id += int(newly.sum())
        self._tracks.put(where, found)
        seen = replace(seen, ids=found.ids.astype(np.int32))
        return seen if shown.all() else seen.select(shown)

    def state(self) -> dict[str, NDArray]:
        """All that the tracker remembers, as arrays: for a run that will go on later, see `restore`."""
        arrays = {f.name: getattr(self._tracks, f.name).copy() for f in fields(_Tracks)}
        return {
            **arrays,
            "stamp": np.array(self._stamp),
            "late": np.array(self._late),
            "next_id": np.array(self._next_id),
            "lens": self._lens.copy(),
        }

    def restore(self, state: Mapping[str, NDArray]) -> None:
        """Go on where the tracker that gave this `state` stopped.

        Raises:
            DataError: if an earlier version gave it, which remembered less.
        """
        missing = self.state().keys() - state.keys()
        if missing:
            raise DataError(
                f"the unfinished work's tracker kept no {', '.join(sorted(missing))}: it is of an earlier "
                "version; begin anew (--overwrite)"
            )
        self._tracks = _Tracks(**{f.name: np.array(state[f.name]) for f in fields(_Tracks)})
        self._stamp, self._late = float(state["stamp"]), int(state["late"])
        self._next_id = int(state["next_id"])
        self._lens = np.array(state["lens"])

    def _in_order(self, stamp: float) -> float:
        """The stamp, of a late picture that of the one before; starts anew where time went back."""
        back = self._stamp - stamp
        if back <= 0:
            self._late = 0
            return stamp
        self._late += 1
        if back <= LATE and self._late <= _MOST_LATE:
            return self._stamp
        self.reset()
        return stamp

    def _prepare(self, hands: Hands, stamp: float, max_age: float) -> None:
        """Forget what is too old and what another camera or mesh makes useless."""
        tracks = self._tracks
        if len(tracks.ids):
            young = stamp - tracks.seen <= max_age
            if not young.all():
                self._tracks = tracks = tracks.select(young)
        lens = _lens(hands.camera)
        if not np.allclose(lens, self._lens, rtol=_SAME_LENS, atol=0):
            if np.array_equal(lens[9:], self._lens[9:]):
                # New intrinsics move hands in space, not in the picture: they stay who they are.
                tracks.root[...] = tracks.offset[...] = np.nan
            else:
                self._tracks = tracks = _Tracks.none(hands.vertices.shape[1])
            self._lens = lens
        if tracks.mesh.shape[1] != hands.vertices.shape[1]:
            size = (len(tracks.ids), hands.vertices.shape[1], 3)
            self._tracks = replace(
                tracks, mesh=np.full(size, np.nan, np.float32), mesh_rate=np.zeros(size, np.float32)
            )

    def _assigned(self, hands: Hands, stamp: float) -> tuple[Hands, NDArray[np.intp], NDArray[np.intp]]:
        """The hands that count; and of the tracks that go on, their rows and the numbers of their hands."""
        costs, limit = self._costs(hands, stamp), _MAX_REACH + _DEPTH_COST + _SIDE_COST
        sure = hands.scores >= self.min_score
        if sure.all():
            return hands, *assign(costs, limit)
        # Unsure hands have to be near, however long ago the track was seen; and of two that fit alike a track
        # takes the sure one, but not a sure one elsewhere.
        possible = (costs < _UNSURE_REACH) & ~_second_findings(hands)
        costs = np.where(sure, costs, np.where(possible, costs + _UNSURE_COST, np.inf))
        rows, columns = assign(costs, limit)
        counts = sure.copy()
        counts[columns] = True
        return hands.select(counts), rows, (np.cumsum(counts) - 1)[columns]

    def _costs(self, hands: Hands, stamp: float) -> NDArray:
        """(T, N) of taking each hand for each track, in hand sizes; infinite where it cannot be."""
        tracks = self._tracks
        gap = stamp - tracks.seen
        shift = tracks.velocity * np.minimum(gap, _PREDICT_FOR)[:, None]
        offsets = (tracks.joints + shift[:, None])[:, None] - hands.joints_2d[None]
        distance = np.sqrt(np.einsum("tnjk,tnjk->tnj", offsets, offsets))
        weight = hands.joint_scores + 1e-3
        distance = (distance * weight).sum(-1) / weight.sum(-1)
        distance /= np.maximum(tracks.size[:, None], _sizes(hands))
        depth = np.abs(tracks.depth[:, None] - np.log(_depths(hands)))
        other_side = np.abs(tracks.vote[:, None] - _votes(hands)) / 2
        reach = np.minimum(_REACH + _REACH_PER_SECOND * gap, _MAX_REACH)[:, None]
        cost = distance + _DEPTH_COST * np.minimum(depth, 1) + _SIDE_COST * other_side
        return np.where(distance < reach, cost, np.inf)

    def _advance(self, old: _Tracks, hands: Hands, stamp: float) -> tuple[_Tracks, Hands]:
        """The tracks of these hands, one each, a picture later; and the hands as they are to be seen."""
        dt = np.maximum(stamp - old.seen, _SHORTEST)
        new = old.hits == 0
        dt = np.where(new, 1.0, dt)
        centre = hands.joints_2d.mean(1, dtype=np.float64)
        travel = np.where(new[:, None], 0, centre - old.joints.mean(1))
        weight = np.minimum(_VELOCITY_WEIGHT, dt / (dt + _VELOCITY_MEMORY))[:, None]
        known = np.where(
            (old.hits > 1)[:, None],
            (1 - weight) * old.velocity + weight * travel / dt[:, None],
            travel / np.maximum(dt, _SHORTEST_STEP)[:, None],
        )

        side, vote = self._vote(old, hands, dt, stamp)
        turned = side != old.side
        # A mesh of the wrong side is no news of the hand's shape, if there is a shape to show instead.
        wrong = (hands.handedness != side) & ~turned & ~np.isnan(old.shape[:, 0, 0])
        if hands.vertices.shape[1]:
            wrong &= ~np.isnan(old.mesh[:, 0, 0])
        restart = (turned & ~new)[:, None, None]

        cutoff, eager = np.inf, 1.0
        if self.smoothing > 0:
            strength = min(self.smoothing, 1.0)
            cutoff = _WEAKEST * (_STRONGEST / _WEAKEST) ** strength
            eager = _BETA_RANGE ** (0.5 - strength)
        depth = _depths(hands)
        line = np.concatenate([hands.root_translation[:, :2] / depth[:, None], np.log(depth)[:, None]], 1)
        across, across_rate = one_euro(
            line[:, :2], old.root[:, :2], old.root_rate[:, :2], dt, cutoff, eager * _BETA * depth
        )
        away, away_rate = one_euro(
            line[:, 2:], old.root[:, 2:], old.root_rate[:, 2:], dt, cutoff, eager * _BETA_DEPTH
        )
        far = np.exp(away)
        root = np.concatenate([across * far, far], 1) if cutoff < np.inf else hands.root_translation

        shapes = []
        for points, before, rate in (
            (hands.joints_3d, old.shape, old.shape_rate),
            (hands.vertices, old.mesh, old.mesh_rate),
        ):
            relative = points - hands.root_translation[:, None]
            kept = np.where(wrong[:, None, None], before, relative)
            before = np.where(restart, np.nan, before).astype(np.float32)
            shapes.append(one_euro(kept, before, rate, dt, cutoff, eager * _BETA))
        (shape, shape_rate), (mesh, mesh_rate) = shapes

        joints_3d = (shape + root[:, None]).astype(np.float32)
        size = _sizes(hands)
        projected, believable = pictured(hands.joints_3d, hands.camera)
        # NaN begins anew: a difference from what is not to be believed says nothing about the next picture's.
        offset = np.where(believable[..., None], hands.joints_2d - projected, np.nan) / size[:, None, None]
        offset, offset_rate = one_euro(offset, old.offset, old.offset_rate, dt, cutoff, eager * _BETA_OFFSET)
        joints_2d = hands.joints_2d
        if cutoff < np.inf or wrong.any():
            moved, there = pictured(joints_3d, hands.camera)
            # Unsmoothed, only shapes of other pictures move.
            there &= believable & (wrong[:, None] | (cutoff < np.inf))
            moved = moved + offset * size[:, None, None]
            joints_2d = np.where(there[..., None], moved, hands.joints_2d).astype(np.float32)
        tracks = _Tracks(
            ids=old.ids, hits=old.hits + 1, seen=np.full(len(hands), stamp), side=side, vote=vote,
            side_seen=np.where(hands.handedness == side, stamp, old.side_seen),
            joints=hands.joints_2d.astype(np.float64), velocity=known, size=size, depth=np.log(depth),
            root=np.concatenate([across, away], 1), root_rate=np.concatenate([across_rate, away_rate], 1),
            shape=shape, shape_rate=shape_rate, mesh=mesh, mesh_rate=mesh_rate,
            offset=offset, offset_rate=offset_rate,
        )  # fmt: skip
        seen = replace(
            hands,
            handedness=side,
            handedness_scores=(0.5 + 0.5 * np.maximum(vote * (2.0 * side - 1), 0)).astype(np.float32),
            joints_2d=joints_2d,
            joints_3d=joints_3d,
            vertices=(mesh + root[:, None]).astype(np.float32),
            root_translation=root.astype(np.float32),
        )
        return tracks, seen

    @staticmethod
    def _vote(old: _Tracks, hands: Hands, dt: NDArray, stamp: float) -> tuple[NDArray[np.uint8], NDArray]:
        """Side of each track, and the mean that it rests on: -1 surely left, 1 surely right."""
        # The plain mean of the first pictures, so that the very first one does not weigh for ever.
        weight = np.maximum(1 / (old.hits + 1), 1 - np.exp(-dt / _SIDE_MEMORY))
        vote = old.vote + weight * (_votes(hands) - old.vote)
        side = np.where(old.hits == 0, hands.handedness, old.side)
        against = np.where(side == RIGHT, -vote, vote)
        # Or a network that is unsure and never sees the track's side again would leave its shape for ever.
        gone = (old.hits > 0) & (hands.handedness != side) & (stamp - old.side_seen > _SIDE_PATIENCE)
        turns = (against > _SIDE_MARGIN) | (gone & (against > 0))
        return np.where(turns, 1 - side, side).astype(np.uint8), vote


@dataclass
class _Tracks:
    """What is remembered of T tracks. NaN: nothing yet."""

    ids: NDArray  # -1 until shown
    hits: NDArray
    seen: NDArray  # stamp of the last picture that showed it
    side: NDArray
    vote: NDArray
    side_seen: NDArray  # stamp of the last picture that showed its side
    joints: NDArray  # (T, 21, 2) px, as last measured
    velocity: NDArray  # (T, 2) px/s
    size: NDArray  # px
    depth: NDArray  # log m, as last measured
    root: NDArray  # (T, 3) direction x/z, y/z and log z, filtered
    root_rate: NDArray
    shape: NDArray  # (T, 21, 3) m from the root, filtered
    shape_rate: NDArray
    mesh: NDArray  # (T, V, 3) likewise
    mesh_rate: NDArray
    offset: NDArray  # (T, 21, 2) joints_2d less the projected joints_3d, in hand sizes, filtered
    offset_rate: NDArray

    @classmethod
    def none(cls, num_vertices: int) -> _Tracks:
        """No tracks."""
        f, points = np.float32, (0, NUM_JOINTS)
        return cls(
            ids=np.zeros(0, np.int64), hits=np.zeros(0, np.int64), seen=np.zeros(0),
            side=np.zeros(0, np.uint8), vote=np.zeros(0), side_seen=np.zeros(0),
            joints=np.zeros((*points, 2)), velocity=np.zeros((0, 2)), size=np.zeros(0), depth=np.zeros(0),
            root=np.zeros((0, 3)),
            root_rate=np.zeros((0, 3)), shape=np.zeros((*points, 3), f), shape_rate=np.zeros((*points, 3), f),
            mesh=np.zeros((0, num_vertices, 3), f), mesh_rate=np.zeros((0, num_vertices, 3), f),
            offset=np.zeros((*points, 2)), offset_rate=np.zeros((*points, 2)),
        )  # fmt: skip

    def select(self, index: NDArray) -> _Tracks:
        """Copies of the tracks that `index` names, in its order."""
        return _Tracks(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def extended(self, count: int) -> _Tracks:
        """With so many new tracks at the end."""
        if not count:
            return self
        arrays = {}
        for f in fields(self):
            array = getattr(self, f.name)
            empty = np.nan if f.name in ("root", "shape", "mesh", "offset") else -1 if f.name == "ids" else 0
            arrays[f.name] = np.concatenate([array, np.full((count, *array.shape[1:]), empty, array.dtype)])
        return _Tracks(**arrays)

    def put(self, index: NDArray, tracks: _Tracks) -> None:
        """Write `tracks` in place of those that `index` names."""
        for f in fields(self):
            getattr(self, f.name)[index] = getattr(tracks, f.name)


def score_to_stay(min_score: float, keep_score: float | None = None) -> float:
    """What to ask a network for where a `Tracker` wants `min_score` to begin a track.

    `keep_score`, where it is given and no more than `min_score`; half of that by default.
    """
    return min(min_score, min_score / 2 if keep_score is None else keep_score)


def _lens(camera: Camera) -> NDArray:
    return np.concatenate([camera.k.reshape(-1), [camera.width, camera.height]])


def _depths(hands: Hands) -> NDArray:
    return np.maximum(hands.root_translation[:, 2].astype(np.float64), 1e-3)


def _sizes(hands: Hands) -> NDArray:
    """(N,) px: the side of a square as large as the hand's box."""
    extent = np.maximum(hands.boxes[:, 2:] - hands.boxes[:, :2], 1).astype(np.float64)
    return np.sqrt(extent[:, 0] * extent[:, 1])


def _second_findings(hands: Hands) -> NDArray[np.bool_]:
    """(N,) which hands a surer one of the same side has in its box, or has its own in theirs.

    A network reads a hand that moves fast twice, whole and in part, too differently for the joints to tell.
    """
    low = np.maximum(hands.boxes[:, None, :2], hands.boxes[None, :, :2])
    high = np.minimum(hands.boxes[:, None, 2:], hands.boxes[None, :, 2:])
    areas = (hands.boxes[:, 2:] - hands.boxes[:, :2]).prod(1)
    nested = np.clip(high - low, 0, None).prod(-1) > _NESTED * np.minimum(areas[:, None], areas)
    surer = hands.scores[None] > hands.scores[:, None]
    found: NDArray[np.bool_] = (nested & surer & (hands.handedness[:, None] == hands.handedness)).any(1)
    return found


def _votes(hands: Hands) -> NDArray:
    """(N,) -1 surely left to 1 surely right."""
    return (2.0 * hands.handedness - 1) * (2.0 * hands.handedness_scores - 1)
