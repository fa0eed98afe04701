"""Dimensions of the embedded model, in the layout of the official configuration files (see `models/ovi.json`).

Chosen so that a clip of fifty steps takes well under a minute on two CPU cores and every file stays below 10 MB.
"""

from typing import Any

from ovi_studio.demo.scenes import SIDE

_TOWER = {
    "dim": 128,
    "ffn_dim": 512,
    "freq_dim": 128,
    "num_heads": 2,
    "num_layers": 6,
    "text_len": 64,
    "text_dim": 64,
    "eps": 1e-6,
}
LATENT_CHANNELS = 16
AUDIO_CHANNELS = 20
VOCABULARY_SIZE = 1024

DIMENSIONS: dict[str, Any] = {
    "fusion": {
        "video": {
            **_TOWER,
            "model_type": "ti2v",
            "patch_size": [1, 2, 2],
            "in_dim": LATENT_CHANNELS,
            "out_dim": LATENT_CHANNELS,
        },
        "audio": {
            **_TOWER,
            "model_type": "t2a",
            "patch_size": [1],
            "in_dim": AUDIO_CHANNELS,
            "out_dim": AUDIO_CHANNELS,
            "temporal_rope_scaling_factor": 0.2,
        },
    },
    "video_vae": {
        "dim": 16,
        "dec_dim": 8,
        "z_dim": LATENT_CHANNELS,
        "dim_mult": [1, 2, 2],
        # A level more than the encoder, so that patches of 3x3 pixels are drawn: 27 values from 32 channels.
        "dec_dim_mult": [4, 3, 6, 6],
        "num_res_blocks": 1,
        "temperal_downsample": [True, True],
        "patch_size": 6,
        # Redraws whole frames: its deepest level sees a picture of 18x18. It knows the shapes of scenes, and others.
        "refiner": {"widths": [12, 24, 48, 64], "kinds": 5},
        "latents_mean": [0.0] * LATENT_CHANNELS,
        "latents_std": [1.0] * LATENT_CHANNELS,
    },
    "text_encoder": {
        "vocab_size": VOCABULARY_SIZE,
        "dim": 64,
        "dim_attn": 64,
        "dim_ffn": 128,
        "num_heads": 4,
        "num_layers": 2,
        "num_buckets": 32,
        "shared_pos": False,
    },
    "audio_codec": {
        "vae": {
            "data_dim": 80,
            "embed_dim": AUDIO_CHANNELS,
            "hidden_dim": 32,
            "ch_mult": [1, 2, 4],
            "num_res_blocks": 1,
            "down_layers": [0],
            "attn_layers": [3],
        },
        "vocoder": {
            "resblock": "1",
            "num_mels": 80,
            "upsample_rates": [8, 8, 4],
            "upsample_kernel_sizes": [16, 16, 8],
            "upsample_initial_channel": 128,
            "resblock_kernel_sizes": [7],
            "resblock_dilation_sizes": [[1, 3, 5]],
            "activation": "snakebeta",
            "snake_logscale": True,
        },
    },
}

BUNDLE: dict[str, Any] = {
    "name": "demo",
    "title": f"Embedded demo, {SIDE}x{SIDE}, 3 seconds",
    "licence": "Apache-2.0",
    "audio_tag": "AUDCAP",
    "video_latent_frames": 19,
    "audio_latent_length": 95,
    "pixel_area": SIDE * SIDE,
    "default_size": [SIDE, SIDE],
    "slg_layer": 0,
    "dimensions": DIMENSIONS,
}
"""The content of `bundle.json`."""
