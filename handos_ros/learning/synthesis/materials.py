"""What things are made of: skin of all tones, gloves, cloth, and the stuff of objects, as rows of numbers."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from handos_ros.learning.synthesis.draws import Draws
from handos_ros.learning.synthesis.textures import HAND_SKINS, PLAIN_SKINS, STUFFS

_TONES = ((238, 199, 178), (228, 176, 150), (208, 148, 118), (178, 118, 86), (136, 85, 60), (98, 60, 43),
          (64, 40, 31))  # fmt: skip
"""sRGB colours of the backs of hands in even daylight, from the lightest to the darkest."""
_GLOVES = ((40, 90, 200), (235, 235, 235), (28, 28, 30), (230, 190, 40), (60, 150, 160), (200, 90, 60),
           (120, 120, 110), (90, 60, 150))  # fmt: skip
GLOVES = 0.03
"""Share of people with gloves."""


@dataclass
class Materials:
    """Surfaces of E things, linear RGB.

    albedo = base + mix.T @ the texture's first four channels.

    Attributes:
        base: (E, 3). mix: (E, 4, 3).
        layer: (E,) of the texture bank.
        uv: (E, 4) scale of u and v, then their offset.
        bump: (E,) factor of the texture's slopes.
        shine: (E,) reflectance of highlights. gloss: (E,) their exponent.
        soft: (E, 3) how far light wraps around into the shadow, by colour: 0 for hard surfaces.
    """

    base: Tensor
    mix: Tensor
    layer: Tensor
    uv: Tensor
    bump: Tensor
    shine: Tensor
    gloss: Tensor
    soft: Tensor

    @classmethod
    def cat(cls, parts: list[Materials]) -> Materials:
        """One after the other."""
        return cls(**{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls)})

    def select(self, index: Tensor) -> Materials:
        """The things that `index` names, flattened to one dimension before."""
        return Materials(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def linear(srgb: Tensor) -> Tensor:
    """Values in sRGB, 0 to 1 -> linear, by the power law that is close to it."""
    return srgb.clamp(min=0) ** 2.2


def skins(draws: Draws, people: int) -> tuple[Materials, Materials]:
    """Skin of P people in each of B pictures, on their hands and on their arms: (B * P) rows each.

    The light colour of palms, the red of knuckles and the tone of nails go with the tone of the skin.
    """
    device = draws.indices.device
    tones = linear(torch.tensor(_TONES, device=device) / 255)
    tone = draws.uniform(people, high=len(_TONES) - 1.001).flatten()
    lower, part = tone.long(), (tone - tone.floor())[:, None]
    base = tones[lower] * (1 - part) + tones[lower + 1] * part
    dark = (tone / (len(_TONES) - 1))[:, None]
    hue = draws.normal(people, 3).reshape(-1, 3)
    warm = torch.tensor([0.5, 0.0, -0.6], device=device)
    base = base * torch.exp(0.07 * hue[:, :1] + 0.10 * hue[:, 1:2] * warm)
    strength = draws.uniform(people, 4, low=0.5, high=1.4).reshape(-1, 4, 1)
    pink = linear(torch.tensor([232.0, 178, 156], device=device) / 255)
    palm_colour = base * (0.93 - 0.45 * dark) + pink * (0.07 + 0.33 * dark)
    red = torch.tensor([0.14, -0.26, -0.20], device=device) * base
    nail_colour = base * 0.75 + 0.25 * linear(torch.tensor([235.0, 190, 178], device=device) / 255)
    painted = draws.chance(0.06, people).reshape(-1, 1)
    paint = linear(draws.uniform(people, 3).reshape(-1, 3))
    nail_colour = torch.where(painted, paint, nail_colour)
    mix = torch.stack(
        [0.22 * base * strength[:, 0], red * strength[:, 1],
         (palm_colour - base) * strength[:, 2].clamp(max=1),
         nail_colour - base], 1,
    )  # fmt: skip
    soft = torch.tensor([0.32, 0.14, 0.09], device=device) * (1 - 0.5 * dark)
    n = len(base)
    wet = draws.uniform(people, 2).reshape(-1, 2)
    hand = Materials(
        base=base,
        mix=mix,
        layer=draws.below(HAND_SKINS, people).flatten(),
        uv=torch.tensor([1.0, 1, 0, 0], device=device).expand(n, 4).clone(),
        bump=0.5 + 0.9 * strength[:, 3, 0],
        shine=0.012 + 0.035 * wet[:, 0] ** 2,
        gloss=8 + 40 * wet[:, 1] ** 2,
        soft=soft,
    )
    gloved = draws.chance(GLOVES, people).flatten()
    glove = linear(torch.tensor(_GLOVES, device=device, dtype=torch.float32) / 255)
    glove = glove[draws.below(len(_GLOVES), people).flatten()]
    rubber = draws.uniform(people).flatten()
    plain = torch.stack([0.08 * glove, 0 * glove, 0 * glove, 0 * glove], 1)
    worn = Materials(
        base=torch.where(gloved[:, None], glove, hand.base),
        mix=torch.where(gloved[:, None, None], plain, hand.mix),
        layer=hand.layer,
        uv=hand.uv,
        bump=hand.bump,
        shine=torch.where(gloved, 0.1 * rubber, hand.shine),
        gloss=torch.where(gloved, 10 + 50 * rubber, hand.gloss),
        soft=torch.where(gloved[:, None], 0.05, soft),
    )
    arm_uv = torch.cat(
        [torch.tensor([1.0, 1.0], device=device).expand(n, 2), draws.uniform(people, 2).reshape(-1, 2)], 1
    )
    arm = Materials(
        base=base,
        mix=mix,
        layer=HAND_SKINS + draws.below(PLAIN_SKINS, people).flatten(),
        uv=arm_uv,
        bump=hand.bump,
        shine=hand.shine,
        gloss=hand.gloss,
        soft=soft,
    )
    return worn, arm


def stuffs(draws: Draws, things: int) -> Materials:
    """Cloth, wood, metal, print: (B * things) rows."""
    device = draws.indices.device
    grey = draws.uniform(things, 1)
    colour = draws.uniform(things, 3)
    vivid = draws.uniform(things, 1) ** 2
    base = linear((grey * (1 - vivid) + colour * vivid).clamp(0.03, 0.95)).reshape(-1, 3)
    contrast = draws.uniform(things, low=0.1, high=0.9).reshape(-1, 1, 1)
    mix = torch.eye(4, 3, device=device) * contrast * (0.12 + 0.6 * base[:, None])
    scale = draws.log_uniform(things, 1, low=0.5, high=4).expand(-1, -1, 2).reshape(-1, 2)
    hard = draws.uniform(things).flatten()
    return Materials(
        base=base,
        mix=mix,
        layer=HAND_SKINS + PLAIN_SKINS + draws.below(STUFFS, things).flatten(),
        uv=torch.cat([scale, draws.uniform(things, 2).reshape(-1, 2)], 1),
        bump=draws.uniform(things, high=0.7).flatten(),
        shine=0.12 * hard**3,
        gloss=6 + 80 * hard**2,
        soft=torch.zeros_like(base) + 0.02,
    )
