"""`SyntheticHands`: labelled pictures of rendered hands, in memory, on the CPU or a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from handos_ros.errors import DataError
from handos_ros.hand_model.model import HandModel, load_hand_model
from handos_ros.learning.sample import Batch, Sample
from handos_ros.learning.synthesis.augment import Weathering
from handos_ros.learning.synthesis.backgrounds import Backgrounds
from handos_ros.learning.synthesis.camera import Framing, viewpoint_shares
from handos_ros.learning.synthesis.compose import choose_backgrounds, compose, draw_backgrounds
from handos_ros.learning.synthesis.draws import Draws
from handos_ros.learning.synthesis.labels import Labels, label
from handos_ros.learning.synthesis.lighting import draw_lights
from handos_ros.learning.synthesis.poses import PoseSampler
from handos_ros.learning.synthesis.render import render
from handos_ros.learning.synthesis.scene import Scene, SceneMaker
from handos_ros.learning.synthesis.skin import SkinPainter
from handos_ros.learning.synthesis.skinning import TorchHand
from handos_ros.learning.synthesis.textures import TEXELS, TextureBank

_AT_ONCE = 8
"""Pictures drawn at a time on a CPU."""

_APPEARANCE = 4711
"""Seed of the textures and noise, the same for all: what varies by the user's seed is which are used."""


@dataclass(frozen=True)
class SynthesisConfig:
    """What to render.

    Attributes:
        sizes: (height, width) px; each batch has one of them.
        backgrounds: folder of photographs without hands; drawn ones where None.
        exclude: keep out the photographs whose number, in sorted order, modulo 10 is in this list.
        max_backgrounds: how many photographs of the folder are kept in memory.
        surroundings: labels in COCO's format of photographs with hands, of which the parts without any
            stand behind rendered hands as well: people, before whose skin a hand is hard to see.
        camouflaged: share of pictures in which what stands behind the hands takes on their colour, 0 to 1:
            skin before skin is where hands are hardest to see.
        poses: shares of kinds of pose, where they differ from `poses.KINDS`.
        viewpoints: shares of kinds of camera, where they differ from `camera.VIEWPOINTS`.
        weather: blur, noise, JPEG and the like; off only to look at the rendering itself.

    Raises:
        DataError: if a size cannot be rendered, or `camouflaged` is no share.
    """

    sizes: tuple[tuple[int, int], ...] = ((320, 320), (384, 256), (256, 384))
    backgrounds: str | None = None
    exclude: tuple[int, ...] = ()
    max_backgrounds: int = 752
    surroundings: str | None = None
    camouflaged: float = 0.0
    poses: dict[str, float] = field(default_factory=dict)
    viewpoints: dict[str, float] = field(default_factory=dict)
    weather: bool = True

    def __post_init__(self) -> None:
        for height, width in self.sizes:
            if not (32 <= height <= 2048 and 32 <= width <= 2048) or height % 4 or width % 4:
                raise DataError(
                    f"cannot render pictures of {width}x{height}: sides must be multiples of 4, 32 to 2048"
                )
        if not self.sizes:
            raise DataError("no picture size to render")
        if not 0 <= self.camouflaged <= 1:
            raise DataError(f"camouflaged is a share of the pictures, 0 to 1, got {self.camouflaged:g}")


class SyntheticHands:
    """An endless set of labelled pictures; each is given by the seed and its index.

    Attributes:
        config, seed, hand_model: what was asked for.
    """

    def __init__(
        self, config: SynthesisConfig | None = None, seed: int = 0, *,
        hand_model: HandModel | None = None, device: torch.device | str = "cpu",
    ):  # fmt: skip
        """Paint skins and read backgrounds; takes some seconds.

        Raises:
            DataError: if the backgrounds cannot be read, or there are no such poses or viewpoints.
            ModelError: if the hand model cannot.
        """
        self.config = config or SynthesisConfig()
        self.seed, self.device = seed, torch.device(device)
        self.hand_model = hand_model or load_hand_model()
        poses = PoseSampler(TorchHand(self.hand_model, device), self.config.poses)
        viewpoints = viewpoint_shares(self.config.viewpoints)
        if self.config.backgrounds is None:
            self._backgrounds = Backgrounds.drawn(TEXELS, _APPEARANCE, device)
        else:
            self._backgrounds = Backgrounds.from_directory(
                self.config.backgrounds, TEXELS, self.config.max_backgrounds, _APPEARANCE, device,
                self.config.exclude,
            )  # fmt: skip
        if self.config.surroundings is not None:
            beside = Backgrounds.beside_hands(self.config.surroundings, TEXELS, device)
            self._backgrounds = Backgrounds.joined([self._backgrounds, beside])
        painter = SkinPainter(poses, TEXELS)
        self._bank = TextureBank(painter, self._backgrounds, _APPEARANCE, device)
        self._scenes = SceneMaker(poses, viewpoints, painter.atlas)
        self._weathering = Weathering(_APPEARANCE, device)

    def size_of(self, index: int) -> tuple[int, int]:
        """(height, width) of picture `index` as `sample` gives it."""
        number = Draws(self.seed, torch.tensor([index]), "size").below(len(self.config.sizes))
        return self.config.sizes[int(number)]

    def sample(self, index: int) -> Sample:
        """Picture `index` with its labels in NumPy."""
        return to_samples(self.render([index], self.size_of(index)))[0]

    def batch(self, number: int, batch_size: int) -> Batch:
        """Batch `number` of pictures of one size: indices `number * batch_size` and those that follow."""
        first = number * batch_size
        return self.render(range(first, first + batch_size), self.size_of(first))

    @torch.no_grad()
    def render(self, indices: Sequence[int], size: tuple[int, int], framing: Framing | None = None) -> Batch:
        """Render the pictures with these indices at one size (height, width), onto the device.

        With `framing` the same scenes are shown around one of their hands, by cameras with another focal
        length and principal point.

        A picture depends on the seed, its index and the size, not on the others of the batch, but for the
        rounding of sums: 1e-4 px, which on an outline may change the odd pixel. The same batch is the same
        to the bit on a CPU.
        """
        indices = list(indices)
        numbers = torch.tensor(indices, dtype=torch.int64, device=self.device)
        scene = self._scenes.make(Draws(self.seed, numbers, "scene"), *size, framing)
        # Few large steps are best for drawing scenes, and for all on a GPU; pixels want a CPU's cache.
        step = _AT_ONCE if self.device.type == "cpu" else len(indices)
        pieces = [
            self._finish(scene.of_pictures(first, last), Draws(self.seed, numbers[first:last]))
            for first in range(0, len(indices), step)
            for last in [min(first + step, len(indices))]
        ]
        pictures, k = (torch.cat([piece[i] for piece in pieces]) for i in (0, 1))
        labels = Labels.cat([piece[2] for piece in pieces])
        return _batch(pictures, k, labels, [f"synth:{self.seed}:{i}" for i in indices])

    def _finish(self, scene: Scene, draws: Draws) -> tuple[Tensor, Tensor, Labels]:
        """Light, draw, weather and label scenes: (B, 3, H, W) uint8, (B, 3, 3) and labels."""
        _, height, width = scene.size
        chosen = choose_backgrounds(draws.for_part("background"), self._backgrounds)
        lights = draw_lights(draws.for_part("light"), self._backgrounds.colour[chosen])
        layer = render(scene, lights, self._bank)
        pictures = draw_backgrounds(draws.for_part("piece"), chosen, self._backgrounds, height, width)
        pictures = compose(draws.for_part("compose"), scene, layer, pictures, self.config.camouflaged)
        if self.config.weather:
            pictures = self._weathering(draws.for_part("weather"), pictures)
        labels = label(scene, layer)
        pictures = pictures.clamp_(0, 255).round_().to(torch.uint8)
        return _mirrored(draws.for_part("mirror").chance(0.5), pictures, scene.k, labels)


def mirror(pictures: Tensor, k: Tensor, labels: Labels) -> tuple[Tensor, Tensor, Labels]:
    """The pictures as a mirror shows them: sides swapped, x turned round, and K's centre with them."""
    width = pictures.shape[3]
    k = k.clone()
    k[:, 0, 2] = width - 1 - k[:, 0, 2]

    def turned(points: Tensor, about: float) -> Tensor:
        return torch.cat([about - points[..., :1], points[..., 1:]], -1)

    mask = labels.valid[..., None, None]
    left, top, right, bottom = labels.boxes.unbind(-1)
    boxes = torch.stack([width - 1 - right, top, width - 1 - left, bottom], -1)
    return pictures.flip(3), k, Labels(
        labels.valid, boxes * mask[..., 0], (1 - labels.side) * labels.valid,
        turned(labels.joints_2d, width - 1) * mask, labels.visibility,
        turned(labels.joints_3d, 0) * mask, turned(labels.vertices, 0) * mask,
    )  # fmt: skip


def _mirrored(which: Tensor, pictures: Tensor, k: Tensor, labels: Labels) -> tuple[Tensor, Tensor, Labels]:
    """Mirror those of the pictures."""
    i = which.nonzero()[:, 0]
    if len(i):
        some = labels.select(i)
        pictures[i], k[i], some = mirror(pictures[i], k[i], some)
        for name, value in vars(some).items():
            getattr(labels, name)[i] = value
    return pictures, k, labels


def _batch(pictures: Tensor, k: Tensor, labels: Labels, sources: list[str]) -> Batch:
    b, _, height, width = pictures.shape
    device = pictures.device
    valid = labels.valid
    full = torch.tensor([width, height, width, height], device=device)
    corners = (labels.boxes + 0.5) / full
    boxes = torch.cat([(corners[..., :2] + corners[..., 2:]) / 2, corners[..., 2:] - corners[..., :2]], -1)
    yes = torch.ones(b, dtype=torch.bool, device=device)
    return Batch(
        images=pictures,
        size=torch.tensor([height, width], device=device).expand(b, 2),
        k=k,
        has_k=yes,
        valid=valid,
        boxes_px=labels.boxes,
        boxes=boxes * valid[..., None],
        handedness=torch.where(valid, labels.side, -1),
        joints_2d=labels.joints_2d,
        joints_2d_weight=valid[..., None].expand_as(labels.visibility).float(),
        visibility=torch.where(valid[..., None], labels.visibility, torch.nan),
        joints_3d=labels.joints_3d,
        has_joints_3d=valid,
        joints_3d_absolute=valid,
        vertices=labels.vertices,
        has_vertices=valid,
        exhaustive=yes,
        sources=sources,
    )


def to_samples(batch: Batch) -> list[Sample]:
    """A batch's pictures one by one, in NumPy."""
    samples = []
    for i, source in enumerate(batch.sources):
        there = batch.valid[i]

        def array(name: str, i: int = i, there: Tensor = there):  # type: ignore[no-untyped-def]
            return getattr(batch, name)[i][there].cpu().numpy()

        samples.append(
            Sample.labelled(
                batch.images[i].permute(1, 2, 0).contiguous().cpu().numpy(),
                array("boxes_px"),
                k=batch.k[i].cpu().numpy(),
                handedness=array("handedness"),
                joints_2d=array("joints_2d"),
                joints_2d_weight=array("joints_2d_weight"),
                visibility=array("visibility"),
                joints_3d=array("joints_3d"),
                vertices=array("vertices"),
                exhaustive=True,
                source=source,
            )
        )
    return samples
