"""The memory plan of a step, in one place for all checks."""

from ovi_studio.bench.steps import BenchShape
from ovi_studio.capacity.tiers import MemoryPlan, find_tier, plan_memory


def step_plan(tier: str, shape: BenchShape) -> MemoryPlan:
    """Return the plan of the transformer alone for a guided step of this shape."""
    return plan_memory(find_tier(tier), shape.demand(guided=True))
