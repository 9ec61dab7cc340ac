"""The published rows that benchmark tables are printed beside; errors in mm, PCK in per cent.

Sources: HandOS (arXiv 2412.01537) tables 1, 3, 4 and 5 and supplement table III, which quote the others;
WiLoR (arXiv 2409.12259).
"""

from __future__ import annotations

Row = tuple[str, tuple[float | None, ...]]

MESH_COLUMNS = ("pa_mpjpe_mm", "pa_mpvpe_mm", "f@5", "f@15")

FREIHAND: tuple[Row, ...] = (
    ("METRO", (6.7, 6.8, 0.717, 0.981)),
    ("MeshGraphormer", (5.9, 6.0, 0.765, 0.987)),
    ("MobRecon", (5.7, 5.8, 0.784, 0.986)),
    ("FastMETRO", (6.5, 7.1, 0.687, 0.983)),
    ("FastViT", (6.6, 6.7, 0.722, 0.981)),
    ("DeFormer", (6.2, 6.4, 0.743, 0.984)),
    ("AMVUR", (6.2, 6.1, 0.767, 0.987)),
    ("PointHMR", (6.1, 6.6, 0.720, 0.984)),
    ("Zhou et al.", (5.7, 6.0, 0.772, 0.986)),
    ("HaMeR", (6.0, 5.7, 0.785, 0.990)),
    ("Hamba", (5.8, 5.5, 0.798, 0.991)),
    ("WiLoR", (5.5, 5.1, 0.825, 0.993)),
    ("HandOS", (5.0, 5.3, 0.812, 0.991)),
)
HO3D_V3: tuple[Row, ...] = (
    ("S2HAND", (11.5, 11.1, 0.448, 0.932)),
    ("KeypointTransformer", (10.9, None, None, None)),
    ("ArtiBoost", (10.8, 10.4, 0.507, 0.946)),
    ("AMVUR", (8.7, 8.3, 0.593, 0.964)),
    ("SPMHand", (8.8, 8.6, 0.574, 0.962)),
    ("Hamba, extra data", (6.9, 6.8, 0.681, 0.982)),
    ("HandOS", (8.4, 8.4, 0.584, 0.962)),
    ("HandOS, true boxes", (8.4, 8.5, 0.581, 0.962)),
    ("HandOS, extra data", (6.8, 6.7, 0.688, 0.983)),
)
DEXYCB_COLUMNS = ("pa_mpjpe_mm", "pa_mpvpe_mm", "auc")
DEXYCB: tuple[Row, ...] = (
    ("A2J", (12.1, None, 0.760)),
    ("METRO", (7.0, None, None)),
    ("Spurr et al.", (6.8, None, 0.864)),
    ("MobRecon", (6.4, 5.6, None)),
    ("HandOccNet", (5.8, 5.5, None)),
    ("H2ONet", (5.7, 5.5, None)),
    ("Zhou et al.", (5.5, 5.5, None)),
    ("HandOS", (5.2, 5.0, 0.896)),
)
HINT_COLUMNS = tuple(f"{part}@{t:g}" for part in ("all", "visible", "occluded") for t in (0.05, 0.1, 0.15))
HINT: dict[str, tuple[Row, ...]] = {
    "newdays": (
        ("Hamba", (48.7, 79.2, 90.0, 61.2, 88.4, 94.9, 28.2, 62.8, 81.1)),
        ("HaMeR", (51.6, 81.9, 91.9, 62.9, 89.4, 95.8, 33.2, 68.4, 84.8)),
        ("HandOS 2D", (55.8, 75.8, 84.5, 69.8, 85.0, 90.6, 35.5, 63.4, 76.1)),
        ("HandOS projected", (53.7, 75.9, 85.1, 65.7, 84.2, 90.5, 35.8, 64.4, 77.5)),
    ),
    "epick": (
        ("Hamba", (47.2, 80.2, 91.2, 61.4, 89.6, 95.6, 29.9, 66.6, 84.3)),
        ("HaMeR", (56.5, 88.1, 95.6, 66.5, 92.7, 97.4, 42.6, 79.0, 91.3)),
        ("HandOS 2D", (66.2, 85.3, 91.8, 80.3, 92.5, 95.7, 51.3, 77.9, 87.4)),
        ("HandOS projected", (64.8, 85.4, 92.0, 78.1, 92.1, 95.6, 50.6, 78.5, 88.0)),
    ),
    "ego4d": (
        ("HaMeR", (46.9, 79.3, 90.4, 59.1, 87.0, 94.0, 33.1, 69.8, 84.9)),
        ("HandOS 2D", (64.6, 85.3, 92.8, 79.7, 93.1, 96.6, 46.3, 75.7, 86.9)),
        ("HandOS projected", (63.4, 85.3, 92.9, 77.4, 92.8, 96.6, 46.3, 76.1, 87.3)),
    ),
}
"""By subset; the published protocols differ in whether boxes and sides are given."""
