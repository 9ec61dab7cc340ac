"""Configurations of every kind of network, of the real classes but tiny: seconds on a CPU, random weights."""

import copy

import numpy as np
import torch

from handos_ros.hand_model.model import load_hand_model
from handos_ros.network.config import config_from_dict
from handos_ros.network.handos import HandosNetwork

_WIDTH = 32

_ENCODER = {
    "d_model": _WIDTH, "encoder_hidden_dim": _WIDTH, "encoder_ffn_dim": 48, "encoder_attention_heads": 4,
    "decoder_ffn_dim": 48, "decoder_attention_heads": 4, "decoder_layers": 2, "num_queries": 12,
    "num_denoising": 6, "num_labels": 1, "hidden_expansion": 0.5,
}  # fmt: skip

_RESNET = {
    "model_type": "rt_detr_resnet", "embedding_size": 8, "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1], "layer_type": "basic", "out_features": ["stage2", "stage3", "stage4"],
}  # fmt: skip

_RT_DETR = {
    **_ENCODER, "backbone_config": _RESNET, "encoder_in_channels": [16, 24, 32], "decoder_n_points": 2,
    "decoder_in_channels": [_WIDTH] * 3, "freeze_backbone_batch_norms": False,
}  # fmt: skip

_D_FINE = {
    **_ENCODER,
    "freeze_backbone_batch_norms": False,
    "backbone_config": {
        "model_type": "hgnet_v2", "embedding_size": 8, "depths": [1, 1, 1, 1],
        "hidden_sizes": [16, 16, 24, 32], "stem_channels": [3, 8, 8], "stage_in_channels": [8, 16, 16, 24],
        "stage_mid_channels": [8, 8, 8, 8],
        "stage_out_channels": [16, 16, 24, 32], "stage_num_blocks": [1, 1, 1, 1],
        "stage_downsample": [False, True, True, True], "stage_light_block": [False, False, True, True],
        "stage_kernel_size": [3, 3, 5, 5], "stage_numb_of_layers": [1, 1, 1, 1],
        "use_learnable_affine_block": False, "out_indices": [3, 4],
    },
    "encoder_in_channels": [24, 32], "feat_strides": [16, 32], "depth_mult": 0.34, "encode_proj_layers": [1],
    "decoder_in_channels": [_WIDTH] * 2, "num_feature_levels": 2, "decoder_n_points": [2, 2],
}  # fmt: skip

BLAZE = {
    "backbone_config": {
        "model_type": "handos_blaze", "channels": [8, 8, 16, 24, 32], "blocks": 2, "out_indices": [3, 4],
    },
}  # fmt: skip
"""Settings that put a tiny D-FINE on the backbone of `handos_lite`."""

_GROUNDING_DINO = {
    "backbone_config": {
        "model_type": "swin", "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2],
        "window_size": 4, "out_indices": [2, 3, 4],
    },
    "text_config": {
        "model_type": "bert", "vocab_size": 2200, "hidden_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 24,
    },
    "d_model": _WIDTH, "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_queries": 12, "max_text_len": 16,
    "encoder_n_points": 2, "decoder_n_points": 2,
}  # fmt: skip

SETTINGS = {
    "grounding_dino": _GROUNDING_DINO, "rt_detr": _RT_DETR, "rt_detr_v2": _RT_DETR, "d_fine": _D_FINE,
}  # fmt: skip
KINDS = tuple(SETTINGS)


def tiny_config(kind="d_fine", *, settings=None, **decoder):
    """Shaped as `handos` for Grounding DINO, else as `handos_lite`; keywords go to the decoder."""
    full = kind == "grounding_dino"
    return config_from_dict(
        {
            "name": f"tiny_{kind}", "long_side": 128, "stride": 32, "hand_model": "anny",
            "second_look": None if full else {"below": 60, "above": 180, "size": 90, "cell": 160},
            "detector": {
                "kind": kind, "settings": {**copy.deepcopy(SETTINGS[kind]), **(settings or {})},
                "prompt_ids": [101, 2192, 1012, 102] if full else [], "queries": 8,
            },
            "side": {"channels": [8, 8, 8, 8], "depthwise": not full},
            "decoder": {
                "width": _WIDTH, "heads": 4, "feedforward": 48, "layers_2d": 1, "layers_interactive": 2,
                "strides": [8, 16, 32], "points": [2, 1, 1], "value_projection": full,
                "looking": "all" if full else "joints", "vertices": "all" if full else "coarse", **decoder,
            },
        }
    )  # fmt: skip


def tiny_network(kind="d_fine", *, seed=0, settings=None, hand_model=None, frozen=True, **decoder):
    """A network of random weights whose heads, unlike fresh ones, answer to what they are given."""
    torch.manual_seed(seed)
    network = HandosNetwork(
        tiny_config(kind, settings=settings, **decoder), hand_model or load_hand_model(), frozen=frozen
    ).eval()
    stir(network)
    return network


def stir(module):
    """Weights that let signals through, as trained ones do: detectors start so small that nothing arrives.

    Rounded to half precision, as files keep them.
    """
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if not tensor.is_floating_point() or name.endswith(("reg_scale", ".up")):
                continue
            if name.endswith("running_mean"):
                tensor.normal_(std=0.1)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.ndim == 1 and name.endswith("weight") and tensor.abs().mean() < 0.2:
                tensor.fill_(1)  # RT-DETR's norms start so small that all places look the same.
            elif tensor.ndim > 1 and (".model." in f".{name}" or not tensor.any() or "vertex" in name):
                tensor.normal_(std=(1 / tensor[0].numel()) ** 0.5)
            if tensor.ndim > 1:
                tensor.copy_(tensor.half().float())


def pictures(count=1, height=96, width=128, seed=0):
    """(B, 3, H, W) uint8: smooth colours, as no two places of a photograph are alike."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (count, 3, height // 16, width // 16)))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").to(torch.uint8)


def given_boxes(count, seed=0, pictures=1):
    """(B, K, 4) float32 boxes inside the picture, centre and size in fractions."""
    rng = np.random.default_rng(seed)
    centres, sizes = rng.uniform(0.3, 0.7, (pictures, count, 2)), rng.uniform(0.2, 0.5, (pictures, count, 2))
    return torch.from_numpy(np.concatenate([centres, sizes], -1)).float()
