"""`Pipeline`: a picture and its camera in, `Hands` out. The one way in for commands, node and library."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handos_ros.errors import ModelError
from handos_ros.hand_model.model import HandModel
from handos_ros.hands import Camera, Hands
from handos_ros.inference import filtering, second_look
from handos_ros.inference.backend import Backend, Decoded
from handos_ros.inference.candidates import LOOKED_AT, check_boxes, choose, judged, within
from handos_ros.inference.letterbox import Letterbox, check_picture
from handos_ros.inference.place import place
from handos_ros.inference.side import SideReader

STAGES = ("letterbox", "detect", "filter", "decode", "again", "place")
"""The names in `Pipeline.timings`, in the order in which a picture passes them."""


class Pipeline:
    """Finds the hands of one picture at a time. Not safe for two threads at once.

    Attributes:
        min_score: candidates below are no hands; may change between pictures.
        max_hands: at most so many hands of a picture, the best; may change between pictures.
        reproject: whether hands are put where their 3D joints meet the 2D ones, as far as that is well
            posed; else the network's camera query alone tells their place, and its 2D queries alone where
            joints are in the picture. May change between pictures.
        second_look: whether hands that are small or large in the network picture are looked at once more, at
            the size that the network sees best, as far as its weights say so: more exact, for up to the time
            of one more picture for every four of them. May change between pictures.
        timings: seconds that each of `STAGES` took for the latest picture.
    """

    def __init__(
        self,
        backend: Backend,
        hand_model: HandModel,
        *,
        model_id: str,
        min_score: float = 0.5,
        max_hands: int = 10,
        weights: Sequence[Path] = (),
    ) -> None:
        self.min_score = min_score
        self.max_hands = max_hands
        self.reproject = True
        self.second_look = True
        self.timings: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self._backend = backend
        self._hand_model = hand_model
        self._model_id = model_id
        self._weights = tuple(weights)
        self._read_side = SideReader(hand_model)

    @classmethod
    def load(
        cls,
        model: str | None = None,
        *,
        weights: str | Path | None = None,
        device: str = "auto",
        backend: str = "auto",
        hand_model: str | Path | None = None,
        min_score: float = 0.5,
        max_hands: int = 10,
        threads: int | None = None,
        long_side: int | None = None,
    ) -> Pipeline:
        """Load a network and make a pipeline of it.

        Args:
            model: name of a network; None for the one that `weights` are of, `handos_lite` without them.
            weights: a folder or file of weights; None for those that came with the package.
            device: `auto`, `cpu` or `cuda`.
            backend: `auto`, `onnxruntime` or `torch`. `auto` takes torch where there is a GPU that it can
                use and onnxruntime else.
            hand_model: as in `load_hand_model`; None for the one that the network was trained with.
            min_score, max_hands: see the class.
            threads: CPU threads of the network; None for a good choice.
            long_side: px, the longer side of the picture as the network sees it, whatever the camera's; None
                for the network's own. More shows smaller hands and takes more time; hands that are larger
                then than any it has learned from are seen worse.

        Raises:
            ModelError: if weights are missing, damaged or made for something else, if the device or
                backend asked for is not there, or if `long_side` is too large or no multiple of the network's
                stride.
        """
        from handos_ros.inference.loading import load

        loaded = load(
            model, weights=weights, device=device, backend=backend, hand_model=hand_model, threads=threads,
            long_side=long_side,
        )  # fmt: skip
        return cls(
            loaded.backend,
            loaded.hand_model,
            model_id=loaded.model_id,
            min_score=min_score,
            max_hands=max_hands,
            weights=loaded.weights,
        )

    @cached_property
    def fingerprint(self) -> str:
        """The beginning of SHA-256 over the files that the weights came from; reads them when first asked."""
        digest = hashlib.sha256()
        for path in self._weights:
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]

    @property
    def backend(self) -> Backend:
        """What runs the network."""
        return self._backend

    @property
    def hand_model(self) -> HandModel:
        """The mesh that `Hands.vertices` are of."""
        return self._hand_model

    @property
    def model_id(self) -> str:
        """Name of the network and its weights."""
        return self._model_id

    def __call__(
        self,
        image: NDArray[np.uint8],
        camera: Camera | None = None,
        *,
        boxes: ArrayLike | None = None,
        mesh: bool = True,
    ) -> Hands:
        """Find the hands of a picture.

        Args:
            image: (H, W, 3) uint8 RGB; (H, W) grey and (H, W, 4) with alpha are taken too.
            camera: of this picture, or of the same picture at another size; None for
                `Camera.assumed`.
            boxes: (N, 4) px x_min y_min x_max y_max of hands found by someone else. They replace the
                detector's: N hands come back in this order, whatever their score, with these boxes.
                `scores` are those of the candidates that they start from at first look, as the decoder
                judges them.
            mesh: without it `vertices` is (N, 0, 3), which saves a little time and much message.

        Returns:
            Hands by falling score, or in the order of `boxes`. Boxes found here end at the picture's
            border, half a pixel beyond the centres of its outermost pixels.

        Raises:
            PictureError: if `image` is no picture or `boxes` no boxes.
            CameraError: if the camera belongs to a picture of another shape.
            ModelError: if the network gives values that are not finite.
        """
        started = perf_counter()
        image = check_picture(image)
        height, width = image.shape[:2]
        camera = Camera.assumed(width, height) if camera is None else camera.resized(width, height)
        given = None if boxes is None else check_boxes(boxes)
        letterbox = Letterbox.fit(width, height, self._backend.long_side, self._backend.stride)
        picture = letterbox.apply(image)

        letterboxed = perf_counter()
        found = self._backend.detect(picture)

        detected = perf_counter()
        chosen = choose(
            found, letterbox, width, height, given=given, min_score=self.min_score, max_hands=self.max_hands
        )

        filtered = decoded_at = again_at = perf_counter()
        hands = Hands.empty(camera, self._hand_model.num_vertices if mesh else 0)
        if len(chosen.queries):
            decoded = self._backend.decode(found, chosen.queries, chosen.starts)
            decoded_at = perf_counter()
            self._check(decoded)
            scores, where = judged(chosen.scores, decoded.presence_logits), chosen.boxes
            if given is None:
                order = filtering.best_first(scores, self.min_score)
                decoded, scores, where = decoded.select(order), scores[order], where[order]
            if self.second_look and self._backend.second_look is not None:
                decoded, where, scores = self._look_again(
                    image, letterbox, decoded, where, scores, given is None
                )
            again_at = perf_counter()
            if len(scores):
                hands = self._assemble(decoded, letterbox, camera, where, scores, mesh)
            if given is None:
                keep = filtering.distinct(hands.joints_2d, hands.boxes, hands.handedness, self.max_hands)
                hands = hands if keep.all() else hands.select(keep)
        stamps = (started, letterboxed, detected, filtered, decoded_at, again_at, perf_counter())
        self.timings = {
            stage: end - begin for stage, begin, end in zip(STAGES, stamps, stamps[1:], strict=False)
        }
        return hands

    def close(self) -> None:
        """Give back what the network holds; the pipeline is of no use afterwards."""
        close = getattr(self._backend, "close", None)
        if close is not None:
            close()

    def _look_again(
        self,
        image: NDArray[np.uint8],
        letterbox: Letterbox,
        decoded: Decoded,
        boxes: NDArray,
        scores: NDArray,
        detected: bool,
    ) -> tuple[Decoded, NDArray, NDArray]:
        """Decoded hands, their boxes (N, 4) px and scores, those worth it as the second look sees them.

        Of hands that were `detected`, best first, second findings are left out before and after: what one is
        taken for here may be the better one.
        """
        settings = self._backend.second_look
        assert settings is not None
        which = second_look.wanted(boxes, letterbox, settings)
        if detected:
            # As with what the decoder adds to a score: what next to nobody asks for is not worth the time.
            which &= scores >= LOOKED_AT
        if not which.any():
            return decoded, boxes, scores
        if detected:
            keep = filtering.distinct(
                letterbox.to_pixels(decoded.joints_2d), boxes, self._read_side(decoded.vertices)[0],
                self.max_hands,
            )  # fmt: skip
            decoded, boxes, scores, which = decoded.select(keep), boxes[keep], scores[keep], which[keep]
        numbers, boxes = np.flatnonzero(which), boxes.copy()
        height, width = image.shape[:2]
        for seen, again, seen_boxes in second_look.look_again(
            self._backend, image, boxes[numbers], letterbox, settings, own_boxes=detected
        ):
            self._check(again)
            decoded = decoded.replaced(numbers[seen], again)
            if detected:
                boxes[numbers[seen]] = within(seen_boxes, width, height)
        if detected:
            keep = filtering.apart(boxes)
            decoded, boxes, scores = decoded.select(keep), boxes[keep], scores[keep]
        return decoded, boxes, scores

    def _assemble(
        self,
        decoded: Decoded,
        letterbox: Letterbox,
        camera: Camera,
        boxes: NDArray,
        scores: NDArray,
        mesh: bool,
    ) -> Hands:
        """Side, place and container of N >= 1 decoded hands."""
        handedness, handedness_scores = self._read_side(decoded.vertices)
        placed = place(decoded, letterbox, camera, mesh=mesh, reproject=self.reproject)
        return Hands(
            camera=camera,
            boxes=boxes.astype(np.float32),
            scores=scores,
            handedness=handedness,
            handedness_scores=handedness_scores,
            joints_2d=placed.joints_2d.astype(np.float32),
            joint_scores=decoded.joint_scores.astype(np.float32),
            joints_3d=placed.joints_3d.astype(np.float32),
            vertices=placed.vertices.astype(np.float32),
            root_translation=placed.root_translation.astype(np.float32),
            translation_source=placed.translation_source,
            ids=np.full(len(boxes), -1, np.int32),
        )

    def _check(self, decoded: Decoded) -> None:
        """ModelError where it cannot be of this hand model, or holds what is no number."""
        if decoded.vertices.shape[1] != self._hand_model.num_vertices:
            raise ModelError(
                f"{self._model_id} gives meshes of {decoded.vertices.shape[1]} vertices, the hand model "
                f"{self._hand_model.name} has {self._hand_model.num_vertices}"
            )
        # One NaN anywhere makes these sums NaN; that is far cheaper than looking at every value.
        total = sum(float(np.sum(array, dtype=np.float64)) for array in vars(decoded).values())
        if not np.isfinite(total):
            raise ModelError(
                f"{self._model_id} on {self._backend.name} ({self._backend.device}) gave values that are "
                "not finite: the weights are damaged, or half precision is too narrow for them"
            )
