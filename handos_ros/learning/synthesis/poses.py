"""Draws hand poses that hands really make: curls, fists, pointing, counting, signs, pinches."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from handos_ros.learning.synthesis.contact import penetration, pinch
from handos_ros.learning.synthesis.draws import Draws, shares_with
from handos_ros.learning.synthesis.skinning import TorchHand

FINGERS = ("thumb", "index", "middle", "ring", "little")
CANDIDATES = 4
"""Poses drawn for each hand; the one whose fingers are least inside each other is kept."""

KINDS: Mapping[str, float] = {
    "curl": 0.24, "open": 0.14, "fist": 0.09, "point": 0.11, "count": 0.10, "sign": 0.13, "pinch": 0.12,
    "any": 0.07, "thumb": 0.0,
}  # fmt: skip
"""Kinds of pose and their shares, which those of the fixed test set are."""

_STATES = {
    "extended": (-5, 6, 3), "relaxed": (28, 34, 20), "curled": (80, 100, 55), "hooked": (5, 92, 55),
    "bent": (72, 14, 7), "half": (48, 55, 32),
}  # fmt: skip
"""Bend of a finger's three joints in degrees; 0 is straight."""
_STATE_SPREAD = (9.0, 8.0, 7.0)
_THUMB_STATES = {
    "out": (-14, -5, -6, -12), "relaxed": (5, 10, 8, 10), "opposed": (25, 30, 25, 15),
    "across": (32, 22, 42, 45), "tucked": (5, -14, 10, 5),
}  # fmt: skip
"""The thumb's root flexion and abduction, middle and end joint in degrees from the rest pose."""
_THUMB_SPREAD = (6.0, 7.0, 8.0, 9.0)

_ANY = tuple(_STATES)
_FINGER_STATES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "curl": (("relaxed",),) * 4,
    "open": (("extended",),) * 4,
    "fist": (("curled",),) * 4,
    "point": (("extended",), ("curled", "curled", "half"), ("curled", "half"), ("curled", "curled", "half")),
    "count": (("extended", "curled"),) * 4,
    "sign": (_ANY,) * 4,
    "pinch": (("relaxed", "extended", "half"), ("extended", "relaxed", "half", "curled"),
              ("extended", "relaxed", "half", "curled"), ("extended", "relaxed", "half", "curled")),
    "any": (("relaxed",),) * 4,
    "thumb": (("curled",),) * 4,
}  # fmt: skip
_THUMBS: Mapping[str, tuple[str, ...]] = {
    "curl": ("relaxed", "relaxed", "opposed", "tucked", "out"),
    "open": ("out", "out", "relaxed", "tucked"),
    "fist": ("across", "across", "tucked", "out"),
    "point": ("across", "tucked", "out", "relaxed"),
    "count": ("across", "opposed", "out"),
    "sign": tuple(_THUMB_STATES),
    "pinch": ("opposed",),
    "any": ("relaxed",),
    "thumb": ("out",),
}


class PoseSampler:
    """Joint angles for a hand model, within its anatomical limits.

    Args:
        hand: the model.
        shares: of kinds of pose, where they differ from `KINDS`, in the same unit.

    Raises:
        DataError: if there is no such kind, or nothing left to draw.
    """

    def __init__(self, hand: TorchHand, shares: Mapping[str, float] | None = None):
        self.hand = hand
        self.shares = shares_with("poses", KINDS, shares or {})
        names = {name: i for i, name in enumerate(hand.model.bone_names)}
        ends = [("metacarpal", "proximal", "distal"), *[("proximal", "middle", "distal")] * 4]
        self.phalanges = torch.tensor(
            [[names[f"{f}_{end}"] for end in bones] for f, bones in zip(FINGERS, ends, strict=True)],
            device=hand.device,
        )
        """(5, 3) bones of each finger from its root; of the thumb, the metacarpal and two phalanges."""
        self._rest_bend = self._bend_at_rest()
        rows = list(KINDS)
        self._finger_odds = _odds([[_FINGER_STATES[k][f] for f in range(4)] for k in rows], _STATES, hand)
        self._thumb_odds = _odds([[_THUMBS[k]] for k in rows], _THUMB_STATES, hand)
        self._states = torch.tensor(list(_STATES.values()), device=hand.device, dtype=torch.float32)
        self._thumb_states = torch.tensor(
            list(_THUMB_STATES.values()), device=hand.device, dtype=torch.float32
        )

    def draw(self, draws: Draws, hands: int) -> tuple[Tensor, Tensor]:
        """Draw poses for `hands` hands in each of B pictures.

        Returns:
            Flexion and abduction, (B * hands, bones) each, rad from the rest pose.
        """
        kinds = list(KINDS)
        kind = draws.choice(self.shares, hands)
        kind = kind[:, :, None].expand(-1, -1, CANDIDATES).flatten()
        flexion, abduction = self._angles(draws, kind, hands * CANDIDATES)
        partner = draws.choice((0.6, 0.2, 0.1, 0.1), hands * CANDIDATES).flatten() + 1
        gap = draws.uniform(hands * CANDIDATES, low=0.004, high=0.009).flatten()
        pinching = (kind == kinds.index("pinch")).nonzero()[:, 0]
        if len(pinching):
            flexion[pinching], abduction[pinching] = pinch(
                self.hand, self.phalanges, flexion[pinching], abduction[pinching],
                partner[pinching], gap[pinching],
            )  # fmt: skip
        depth = penetration(self.hand.bones(self.hand.rotations(flexion, abduction)), self.phalanges)
        depth = depth.reshape(-1, CANDIDATES)
        # Whole tenths of a millimetre, so that no rounding decides between equals.
        best = (depth * 1e4).round().argmin(1) + torch.arange(len(depth), device=depth.device) * CANDIDATES
        return flexion[best], abduction[best]

    def from_states(self, bends: Tensor, thumb: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
        """Angles from what the fingers do.

        Args:
            bends: (N, 4, 3) rad, bends of the fingers' joints, 0 straight.
            thumb: (N, 4) rad from rest, as in `_THUMB_STATES`.
            spread: (N, 4) fingers' abduction as a share of its limit, -1 to 1, positive to the thumb.

        Returns:
            Flexion and abduction (N, bones), clamped to the limits.
        """
        low, high, left, right = self.hand.limits.unbind(1)
        flexion = torch.zeros(len(bends), len(low), device=bends.device)
        abduction = torch.zeros_like(flexion)
        flexion[:, self.phalanges[1:]] = bends - self._rest_bend
        flexion[:, self.phalanges[0]] = thumb[:, [0, 2, 3]]
        abduction[:, self.phalanges[0, 0]] = thumb[:, 1]
        # A bent finger can hardly be spread.
        loose = 1 - 0.85 * (bends[..., 0] / 1.2).clamp(0, 1)
        roots = self.phalanges[1:, 0]
        abduction[:, roots] = spread * loose * right[roots]
        return _clamp(flexion, low, high), _clamp(abduction, left, right)

    def _angles(self, draws: Draws, kind: Tensor, hands: int) -> tuple[Tensor, Tensor]:
        device = self.hand.device
        state = _pick(self._finger_odds[kind], draws.uniform(hands, 4).reshape(-1, 4))
        noise = draws.normal(hands, 4, 3).reshape(-1, 4, 3)
        shared = draws.normal(hands, 1, 3).reshape(-1, 1, 3)
        # Neighbouring fingers move together: half of the noise is the hand's.
        spread_degrees = torch.tensor(_STATE_SPREAD, device=device)
        bends = self._states[state] + spread_degrees * (0.6 * noise + 0.7 * shared)

        curl = draws.uniform(hands, 1).reshape(-1, 1)
        tilt = draws.normal(hands, 1).reshape(-1, 1) * 0.12
        places = torch.arange(4, device=device) - 1.5
        curls = (curl + tilt * places + 0.09 * draws.normal(hands, 4).reshape(-1, 4)).clamp(0, 1)[..., None]
        balance = draws.uniform(hands, 1, 1, low=-0.35, high=0.35).reshape(-1, 1, 1)
        lead = torch.tensor([1.0, -1.0, -0.8], device=device)
        path = curls ** torch.exp(balance * lead)
        names = list(_STATES)
        straight, curled = self._states[names.index("extended")], self._states[names.index("curled")]
        curling = straight + (curled - straight) * path + spread_degrees * 0.5 * noise
        kinds = list(KINDS)
        bends = torch.where((kind == kinds.index("curl"))[:, None, None], curling, bends)

        thumb = self._thumb_states[
            _pick(self._thumb_odds[kind], draws.uniform(hands, 1).reshape(-1, 1))[:, 0]
        ]
        thumb = thumb + torch.tensor(_THUMB_SPREAD, device=device) * draws.normal(hands, 4).reshape(-1, 4)
        fan = draws.normal(hands, 1).reshape(-1, 1) * 0.45 + 0.1
        fan = fan * torch.tensor([0.9, 0.15, -0.5, -1.0], device=device)
        spread = fan + 0.15 * draws.normal(hands, 4).reshape(-1, 4)
        flexion, abduction = self.from_states(bends.deg2rad(), thumb.deg2rad(), spread)

        # The tail: any angle within the limits, the joints of a hand leaning the same way.
        low, high, left, right = self.hand.limits.unbind(1)
        each = draws.uniform(hands, len(low)).reshape(-1, len(low))
        anything = low + (high - low) * (0.5 * each + 0.5 * curl)
        aside = left + (right - left) * draws.uniform(hands, len(low)).reshape(-1, len(low))
        is_any = (kind == kinds.index("any"))[:, None]
        loose = 1 - 0.85 * (anything / 1.2).clamp(0, 1)
        flexion = torch.where(is_any, anything, flexion)
        abduction = torch.where(is_any, aside * loose, abduction)
        return flexion, abduction

    def _bend_at_rest(self) -> Tensor:
        """(4, 3) rad, how far the fingers' joints are bent in the rest pose."""
        hand = self.hand
        result = torch.zeros(4, 3)
        for f in range(4):
            bones = self.phalanges[f + 1].tolist()
            before = hand.rest_heads[bones[0]] - hand.rest_heads[0]
            for p, bone in enumerate(bones):
                along = hand.rest_tails[bone] - hand.rest_heads[bone]
                axis = hand.flexion_axes[bone]
                sine = torch.linalg.cross(before, along) @ axis
                across = before @ along - (before @ axis) * (along @ axis)
                result[f, p] = torch.atan2(sine, across)
                before = along
        return result.to(hand.device)


def _odds(
    rows: list[list[tuple[str, ...]]], states: Mapping[str, tuple[int, ...]], hand: TorchHand
) -> Tensor:
    """(kinds, fingers, states) cumulated odds of each state; a state named twice is twice as likely."""
    table = [[[choice.count(s) / len(choice) for s in states] for choice in row] for row in rows]
    return torch.tensor(np.cumsum(np.array(table, np.float64), -1), dtype=torch.float32, device=hand.device)


def _pick(odds: Tensor, uniform: Tensor) -> Tensor:
    """(N, F, S) cumulated odds, (N, F) uniform numbers -> (N, F) states."""
    return (uniform[..., None] >= odds[..., :-1]).sum(-1)


def _clamp(angles: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(angles, low), high)
