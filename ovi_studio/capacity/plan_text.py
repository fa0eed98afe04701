"""A plan in words, for the terminal and the page."""

from collections.abc import Iterator

from ovi_studio.capacity.arithmetic import LINKS
from ovi_studio.capacity.budget import GIB
from ovi_studio.capacity.layouts import Plan, Strategy


def title(plan: Plan) -> str:
    """The name of the layout."""
    if plan.clips > 1:
        return "one clip a GPU"
    parts = ["guidance parallel"] * (plan.halves > 1) + ["sequence parallel"] * (plan.sequence > 1)
    return " x ".join(parts) or "one GPU"


def describe(plan: Plan) -> list[str]:
    """Sentences: what each GPU does, where the weights are, and the predicted cost."""
    return [*_who(plan), _weights(plan), *_costs(plan)]


def format_gpus(plan: Plan) -> str:
    """`4 GPUs of 24 GB (pcie4: 10 GB/s, 71 TFLOP/s)`"""
    gpus = plan.gpus
    names = [name for name, rate in LINKS.items() if rate == gpus.link]
    link = f"{names[0]}: " if names else ""
    rates = f"{link}{gpus.link / 1e9:g} GB/s, {gpus.rate / 1e12:g} TFLOP/s"
    return f"{gpus} ({rates})"


def _who(plan: Plan) -> Iterator[str]:
    if plan.clips > 1:
        yield f"Each of the {plan.clips} GPUs makes a separate clip."
    elif plan.halves > 1:
        half = "one GPU computes" if plan.sequence == 1 else f"{plan.sequence} GPUs compute"
        other = "one" if plan.sequence == 1 else str(plan.sequence)
        yield f"At the same time {half} the pass towards the prompt and {other} the pass away from the negative one."
    elif plan.demand.guided and plan.ranks > 1:
        yield "All GPUs compute both passes, block by block."
    if plan.sequence > 1:
        yield f"{plan.sequence} GPUs split the {plan.demand.video_tokens:,} video tokens of a pass."
    if plan.idle:
        yield f"{plan.idle} of the {plan.gpus.count} GPUs would not make it faster and stays idle."


def _weights(plan: Plan) -> str:
    blocks = plan.demand.sizes.layers
    size = f"{plan.demand.weight_bytes / 1e9:.1f} GB of weights ({plan.demand.weights})"
    if plan.strategy is Strategy.NO_SHARD:
        return f"Each GPU holds all {size} ({plan.strategy})."
    kept = f"{plan.resident_blocks} of {blocks} blocks stay"
    if plan.ranks == 1:
        return f"Of the {size} {kept} on the GPU; the others come from host memory, once a step."
    where = "wait in host memory" if plan.offloaded else f"are sharded over {plan.ranks} GPUs"
    return f"The {size} {where} ({plan.strategy}); {kept} gathered on each GPU."


def _costs(plan: Plan) -> Iterator[str]:
    step = f"{plan.seconds_a_step:.2f} s a step"
    if plan.clips > 1:
        step += f" of each clip, one step of some clip every {plan.seconds_a_step / plan.clips:.2f} s"
    yield f"Predicted: {step}, {plan.memory / GIB:.1f} GB of memory on each GPU."
    if plan.exchanged or plan.gathered:
        yield (
            f"Predicted for each GPU and step: {plan.exchanged / 1e9:.2f} GB of tokens exchanged, "
            f"{plan.gathered / 1e9:.2f} GB of weights fetched."
        )
