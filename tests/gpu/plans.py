"""What a memory tier plans for a step: the one place here that asks for it."""

from ovi_studio.bench.steps import BenchShape
from ovi_studio.capacity.tiers import MemoryPlan, find_tier, plan_memory


def step_plan(tier: str, shape: BenchShape) -> MemoryPlan:
    """Of the transformer alone, in a guided step of this shape."""
    return plan_memory(find_tier(tier), shape.demand(guided=True))
