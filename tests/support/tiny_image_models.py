"""Text-to-image pipelines of three families, random and as small as they can be, as folders of diffusers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

SIDE = 16
"""Latents per side of their pictures, of 2x2 pixels each."""
_WORDS = ["<pad>", "</s>", "<unk>", "a", "red", "ball", "dog", "blur"]


def write_stable_diffusion(folder: Path) -> Path:
    """A U-Net with real guidance and a callback at the end of each step."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    _seed()
    unet = UNet2DConditionModel(
        sample_size=SIDE,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=2,
    )
    return _save(
        StableDiffusionPipeline(
            vae=_vae(4),
            text_encoder=_clip(),
            tokenizer=_clip_tokenizer(),
            unet=unet,
            scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ),
        folder,
    )


def write_flux(folder: Path) -> Path:
    """The family of the official model: packed latents, and guidance that the model has learned."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    _seed()
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=8,
        pooled_projection_dim=8,
        axes_dims_rope=(2, 2, 4),
        guidance_embeds=True,
    )
    return _save(
        FluxPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(),
            vae=_vae(4, shift_factor=0.0, use_quant_conv=False, use_post_quant_conv=False),
            text_encoder=_clip(),
            tokenizer=_clip_tokenizer(),
            text_encoder_2=_t5(),
            tokenizer_2=_t5_tokenizer(),
            transformer=transformer,
        ),
        folder,
    )


def write_pixart(folder: Path) -> Path:
    """A transformer with real guidance, and the older kind of callback."""
    from diffusers import DDIMScheduler, PixArtAlphaPipeline, PixArtTransformer2DModel

    _seed()
    transformer = PixArtTransformer2DModel(
        sample_size=SIDE,
        num_layers=1,
        patch_size=2,
        attention_head_dim=4,
        num_attention_heads=2,
        in_channels=4,
        out_channels=8,
        cross_attention_dim=8,
        caption_channels=8,
        use_additional_conditions=False,
    )
    return _save(
        PixArtAlphaPipeline(
            tokenizer=_t5_tokenizer(),
            text_encoder=_t5(),
            vae=_vae(4),
            transformer=transformer,
            scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        ),
        folder,
    )


FAMILIES: dict[str, Callable[[Path], Path]] = {
    "stable-diffusion": write_stable_diffusion,
    "flux": write_flux,
    "pixart": write_pixart,
}


def _seed() -> None:
    import torch

    torch.manual_seed(0)


def _save(pipe: Any, folder: Path) -> Path:
    pipe.save_pretrained(folder)
    return folder


def _vae(channels: int, **more: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(4, 4),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        norm_num_groups=2,
        layers_per_block=1,
        sample_size=2 * SIDE,
        **more,
    )


def _clip() -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=64,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=77,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )


def _clip_tokenizer() -> Any:
    from transformers import CLIPTokenizer

    letters = [letter + end for letter in "abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>")]
    words = ["<|startoftext|>", "<|endoftext|>", *letters]
    return CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=77)


def _t5() -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config(vocab_size=128, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))


def _t5_tokenizer() -> Any:
    from transformers import T5TokenizerFast

    return T5TokenizerFast(vocab=[(word, -1.0) for word in _WORDS], extra_ids=0)
