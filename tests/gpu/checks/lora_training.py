import torch
from safetensors.torch import load_file
from torch import Tensor

from gpu.bundles import PROMPT, bundle
from gpu.check import Findings, Rig, require
from gpu.device import measured
from ovi_studio.checkpoints.load import load_models
from ovi_studio.core.variants import Variant
from ovi_studio.models.text_encoder import encode_texts
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.training.cache import LatentDataset, Sample, generator_for, write_sample
from ovi_studio.training.flow import Unconditional, VelocityModel, flow_loss
from ovi_studio.training.lora import LoraCard, LoraSettings, add_lora, save_lora
from ovi_studio.training.report import TrainingProgress
from ovi_studio.training.settings import FlowSettings, TrainSettings
from ovi_studio.training.trainer import EMA, train

_LORA = LoraSettings(rank=8)
_FLOW = FlowSettings(first_frame=0.0, caption_dropout=0.0)


def check(rig: Rig, found: Findings) -> None:
    """Twenty steps of train-lora on random latents lower the loss, and the adapter file holds what was trained."""
    inventory = bundle(rig)
    models = load_models(inventory, rig.device, rig.dtype)
    model = models.transformer
    texts = [text.cpu() for text in _embeddings(models)]
    dataset = _write_latents(rig, inventory.variant, texts)
    unconditional = Unconditional(*texts[1:])
    add_lora(model, _LORA)
    before = _loss(rig, model, dataset, unconditional)
    seen: list[TrainingProgress] = []
    settings = TrainSettings(
        steps=20, batch_size=2, learning_rate=1e-2, warmup_steps=2, ema=0.0, flow=_FLOW, log_seconds=0.0,
        precision="bf16" if rig.on_gpu else "no",
    )  # fmt: skip
    card = LoraCard(title="random", base_model=inventory.variant.name)
    with measured(rig.device) as work:
        train(
            model,
            dataset,
            unconditional,
            settings,
            rig.folder / "run",
            export=lambda weights, path: save_lora(weights, path, _LORA, card),
            on_progress=seen.append,
        )
    after = _loss(rig, model, dataset, unconditional)
    work.note(found, "20 steps")
    found.note("loss before", before)
    found.note("loss after", after)
    require(len(seen) == 20, f"{len(seen)} steps were reported, not 20.")
    require(after < before, f"The loss went from {before:.4f} to {after:.4f}; training on the same data must lower it.")
    trained = load_file(rig.folder / "run" / EMA)
    own = [parameter for name, parameter in model.named_parameters() if ".lora_" in name]
    require(len(trained) == len(own), f"The adapter file has {len(trained)} tensors for {len(own)} trained ones.")
    bad = [name for name, tensor in trained.items() if not tensor.isfinite().all() or not tensor.any()]
    require(not bad, f"{len(bad)} trained tensors are zero or not finite, such as {bad[:1]}.")


@torch.no_grad()
def _embeddings(models: object) -> list[Tensor]:
    """Return the embeddings of a caption and of two negative prompts."""
    limit = models.transformer.video_model.text_len
    return encode_texts(models.text_encoder, models.tokenizer, [PROMPT, "blur", "echo"], limit)


def _write_latents(rig: Rig, variant: Variant, texts: list[Tensor]) -> LatentDataset:
    """Write two clips of noise: a model can learn only their distribution."""
    sizes = variant.dimensions["fusion"]
    side = int(variant.pixel_area**0.5) // 16
    for index in range(2):
        generator = generator_for("latents", index)
        video = 0.3 * torch.randn(sizes["video"]["in_dim"], 5, side, side, generator=generator)
        audio = 0.3 * torch.randn(variant.audio_latent_length, sizes["audio"]["in_dim"], generator=generator)
        write_sample(rig.folder / "clips", f"noise_{index}", Sample(video, audio, texts[:1]))
    return LatentDataset(rig.folder / "clips")


@torch.no_grad()
def _loss(rig: Rig, model: OviTransformer, dataset: LatentDataset, unconditional: Unconditional) -> float:
    """Return the mean loss over four batches with fixed random draws."""
    total = 0.0
    with torch.autocast(rig.device.type, torch.bfloat16, enabled=rig.on_gpu):
        for index in range(4):
            generator = generator_for("loss", index)
            batch = dataset.batch([0, 1], generator)
            losses = flow_loss(VelocityModel(model), batch, unconditional, _FLOW, generator, rig.device)
            total += losses.total.item() / 4
    return total
