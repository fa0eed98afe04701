"""Dimensions of a minimal, untrained model."""

from typing import Any

TOWER = {
    "dim": 32,
    "ffn_dim": 64,
    "freq_dim": 16,
    "num_heads": 2,
    "num_layers": 2,
    "text_len": 16,
    "text_dim": 16,
    "eps": 1e-6,
}
CHANNELS = 8

DIMENSIONS: dict[str, Any] = {
    "fusion": {
        "video": {**TOWER, "model_type": "ti2v", "patch_size": [1, 2, 2], "in_dim": CHANNELS, "out_dim": CHANNELS},
        "audio": {
            **TOWER,
            "model_type": "t2a",
            "patch_size": [1],
            "in_dim": 20,
            "out_dim": 20,
            "temporal_rope_scaling_factor": 0.19676,
        },
    },
    "video_vae": {
        "dim": 4,
        "dec_dim": 4,
        "z_dim": CHANNELS,
        "dim_mult": [1, 2, 4, 4],
        "num_res_blocks": 1,
        "temperal_downsample": [False, True, True],
        "patch_size": 2,
        "latents_mean": [0.1 * channel for channel in range(CHANNELS)],
        "latents_std": [0.5 + 0.1 * channel for channel in range(CHANNELS)],
    },
    "text_encoder": {
        "vocab_size": 300,
        "dim": 16,
        "dim_attn": 16,
        "dim_ffn": 32,
        "num_heads": 2,
        "num_layers": 2,
        "num_buckets": 32,
        "shared_pos": False,
    },
    "audio_codec": {
        "vae": {
            "data_dim": 80,
            "embed_dim": 20,
            "hidden_dim": 8,
            "ch_mult": [1, 2, 4],
            "num_res_blocks": 1,
            "down_layers": [0],
            "attn_layers": [3],
        },
        "vocoder": {
            "resblock": "1",
            "num_mels": 80,
            "upsample_rates": [4, 4, 2, 2, 2, 2],
            "upsample_kernel_sizes": [8, 8, 4, 4, 4, 4],
            "upsample_initial_channel": 64,
            "resblock_kernel_sizes": [3],
            "resblock_dilation_sizes": [[1, 3, 5]],
            "activation": "snakebeta",
            "snake_logscale": True,
        },
    },
}

BUNDLE: dict[str, Any] = {
    "name": "tiny",
    "title": "Tiny, 64x64, 17 frames",
    "licence": "Apache-2.0",
    "audio_tag": "AUDCAP",
    "video_latent_frames": 5,
    "audio_latent_length": 22,
    "pixel_area": 64 * 64,
    "default_size": [64, 64],
    "slg_layer": 1,
    "dimensions": DIMENSIONS,
}
