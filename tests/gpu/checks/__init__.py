"""The checks in the order in which they run: fast ones first, so that a slow GPU runs out of time in the long ones."""

from gpu.check import Check
from gpu.checks import (
    attentions,
    audio_tf32,
    decoding,
    embedded_clips,
    fusing,
    int8_products,
    lora_training,
    reference,
    sharded,
    shortage,
    staying,
    step,
    streaming,
    tiers,
    whole_clip,
)

CHECKS = (
    Check("reference", reference.check),
    Check("int8-products", int8_products.check),
    Check("attention", attentions.check),
    Check("tf32", audio_tf32.check),
    Check("streaming", streaming.check),
    Check("staying", staying.check),
    Check("fusing", fusing.check),
    Check("clips", embedded_clips.check),
    Check("shortage", shortage.check),
    Check("train-lora", lora_training.check),
    Check("sharded", sharded.check),
    Check("decoding", decoding.check),
    Check("step", step.check),
    Check("whole-clip", whole_clip.check),
    Check("tiers", tiers.check),
)
