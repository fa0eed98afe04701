"""Check what this machine has, what is missing and what it can run; the results are for a terminal or a page.

Nothing is downloaded or changed. The calling process imports no torch and touches no GPU: a short-lived child process
does, so the page can run the check too, and a broken driver ends only the child.
"""

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from packaging.version import Version

from ovi_studio.capacity import plan_text
from ovi_studio.capacity.budget import GIB, free_from_nominal, nominal_from_free
from ovi_studio.capacity.host import host_memory
from ovi_studio.capacity.layouts import Gpus, Objective, choose, plan_sharding, sharing_counts
from ovi_studio.capacity.memory import Demand, own_host_bytes, shareable_bytes
from ovi_studio.capacity.tiers import TIERS, MemoryPlan, default_weights, fitting_tier, plan_memory
from ovi_studio.checkpoints.adopt import find
from ovi_studio.checkpoints.disk import format_bytes, free_space
from ovi_studio.checkpoints.download import MARGIN, MissingFile, missing_files
from ovi_studio.checkpoints.layout import Inventory, take_inventory
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import Variant, known_variants, published_variants
from ovi_studio.core.weight_formats import Weights
from ovi_studio.models.attention_kernels import KERNELS
from ovi_studio.services.gpu_probe import ProbedGpu, TorchProbe, driver_gpus, package_version, probe_torch

LIBRARIES = ("diffusers", "transformers", "accelerate", "peft", "gradio", "av")
CODECS = ("libx264", "aac")
_INSTALL = "pip install -r requirements.txt"
_GPUS_TOPIC = "How these GPUs can work together"

_LOW_OUTPUT_SPACE = 2 * 10**9
"""Bytes; enough for a few hundred clips."""


class CheckState(StrEnum):
    """How serious a result is."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True)
class CheckResult:
    """One line of the report; `advice` says what to do, and is empty if nothing needs doing."""

    topic: str
    state: CheckState
    text: str
    advice: str = ""


@dataclass(frozen=True)
class DoctorReport:
    """All results, in display order."""

    results: tuple[CheckResult, ...]

    @property
    def problems(self) -> tuple[CheckResult, ...]:
        return tuple(result for result in self.results if result.state is CheckState.PROBLEM)


def examine(
    checkpoint_directory: Path, output_directory: Path = Path("outputs"), folders: Sequence[Path] = ()
) -> DoctorReport:
    """Check the machine, the packages and the checkpoints. Takes a few seconds, mostly for importing torch.

    Missing files are also looked for in `folders`.
    """
    torch = probe_torch()
    memory = host_memory()
    results = [
        CheckResult("Machine", CheckState.OK, f"Python {platform.python_version()} on {platform.platform()}"),
        *_torch_results(torch),
        CheckResult("Machine", CheckState.OK, f"{_gib(memory.total)} of host memory, {_gib(memory.available)} free"),
        *_disk_results(checkpoint_directory, output_directory),
        *_library_results(),
        *_attention_results(torch.gpus),
    ]
    try:
        variants: Sequence[Variant] = list(known_variants(checkpoint_directory).values())
    except JobError as error:  # a broken bundle.json must not hide the other results
        results.append(CheckResult("Models", CheckState.PROBLEM, str(error)))
        variants = list(published_variants().values())
    inventories = [take_inventory(variant, checkpoint_directory) for variant in variants]
    results += _model_results(inventories)
    results += _elsewhere_results(inventories, folders)
    results += _ability_results(inventories, torch.gpus, memory.total)
    results += _plan_results(inventories, torch.gpus)
    return DoctorReport(tuple(results))


def format_report(report: DoctorReport) -> str:
    """Format for a terminal: one line for each result, grouped by topic, then the number of problems."""
    lines: list[str] = []
    topic = ""
    for result in report.results:
        if result.topic != topic:
            topic = result.topic
            lines += [*([""] if lines else []), topic]
        advice = f" -> {result.advice}" if result.advice else ""
        lines.append(f"  {result.state:<8} {result.text}{advice}")
    count = len(report.problems)
    lines += ["", "No problems found." if not count else f"{count} problem{'s' if count > 1 else ''} found."]
    return "\n".join(lines)


def _torch_results(torch: TorchProbe) -> Iterator[CheckResult]:
    topic = "Machine"
    if torch.error:
        yield CheckResult(
            topic, CheckState.PROBLEM, torch.error, f"update the GPU driver, or reinstall torch: {_INSTALL}"
        )
    else:
        yield CheckResult(topic, CheckState.OK, f"torch {torch.version}, built for {torch.build or 'CPU only'}")
    for index, gpu in enumerate(torch.gpus):
        text = f"GPU {index}: {gpu.name}, {_gib(gpu.total)} of memory, {_gib(gpu.free)} free"
        if gpu.capability < (8, 0) and "CUDA" in torch.build:
            advice = "it has no bf16 arithmetic and will be slow; an RTX 30 or newer is recommended"
            yield CheckResult(topic, CheckState.NOTE, text, advice)
        elif gpu.total - gpu.free > 3 * GIB:
            yield CheckResult(topic, CheckState.NOTE, text, "it is in use; close other programs before making clips")
        else:
            yield CheckResult(topic, CheckState.OK, text)
    if torch.gpus:
        return
    here = driver_gpus()
    if here and torch.build:
        advice = "update the driver to one that supports this CUDA version, and check CUDA_VISIBLE_DEVICES"
        yield CheckResult(topic, CheckState.PROBLEM, f"{', '.join(here)} is present, but torch does not see it", advice)
    elif here:
        advice = "install the CUDA build of the same version (see README)"
        yield CheckResult(
            topic, CheckState.PROBLEM, f"{', '.join(here)} is present, but this torch build supports no GPU", advice
        )
    else:
        advice = "the embedded model runs on the CPU; the published models need a GPU"
        yield CheckResult(topic, CheckState.NOTE, "No GPU found", advice)


def _disk_results(checkpoints: Path, outputs: Path) -> Iterator[CheckResult]:
    for name, folder, least in (("Checkpoint", checkpoints, 0), ("Output", outputs, _LOW_OUTPUT_SPACE)):
        free = free_space(folder)
        text = f"{name} directory {folder}: {format_bytes(free)} free"
        existing = next(place for place in (folder.resolve(), *folder.resolve().parents) if place.exists())
        if not os.access(existing, os.W_OK):
            yield CheckResult(
                "Machine",
                CheckState.PROBLEM,
                f"{text}, but it is not writable",
                "change its owner or choose another directory",
            )
        elif free < least:
            yield CheckResult("Machine", CheckState.PROBLEM, text, "free some disk space, or clips cannot be saved")
        else:
            yield CheckResult("Machine", CheckState.OK, text)


def _library_results() -> Iterator[CheckResult]:
    topic = "Packages"
    versions = {name: package_version(name) for name in LIBRARIES}
    found = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    if found:
        yield CheckResult(topic, CheckState.OK, found)
    for name, version in versions.items():
        if version is None:
            yield CheckResult(topic, CheckState.PROBLEM, f"{name} is not installed", _INSTALL)
    if versions["av"]:
        yield from _codec_results()


def _codec_results() -> Iterator[CheckResult]:
    try:
        from av.codec import Codec  # imported here, so that a machine without it still gets its report
        from av.codec.codec import UnknownCodecError
    except ImportError as error:
        yield CheckResult(
            "Packages", CheckState.PROBLEM, f"av cannot be imported ({error})", "pip install --force-reinstall av"
        )
        return
    missing = []
    for name in CODECS:
        try:
            Codec(name, "w")
        except UnknownCodecError:
            missing.append(name)
    if missing:
        advice = "install the build that bundles FFmpeg: pip install --force-reinstall --only-binary=av av"
        yield CheckResult("Packages", CheckState.PROBLEM, f"av has no encoder for {', '.join(missing)}", advice)
    else:
        yield CheckResult("Packages", CheckState.OK, f"av encodes {' and '.join(CODECS)}")


def _attention_results(gpus: Sequence[ProbedGpu]) -> Iterator[CheckResult]:
    topic = "Attention"
    yield CheckResult(
        topic, CheckState.OK, "PyTorch's own attention is always available; the others are optional and faster"
    )
    for kernel in (kernel for kernel in KERNELS.values() if kernel.package != "torch"):
        version = package_version(kernel.package)
        remedy = f"for {kernel.gpus}: {kernel.installation}"
        if version is None:
            yield CheckResult(topic, CheckState.NOTE, f"{kernel.title} is not installed", remedy)
        elif Version(version) < Version(kernel.min_version):
            yield CheckResult(topic, CheckState.NOTE, f"{kernel.title} {version} is too old to be used", remedy)
        elif gpus and not any(kernel.runs_on(gpu.capability) for gpu in gpus):
            yield CheckResult(
                topic, CheckState.NOTE, f"{kernel.title} {version} does not run on {gpus[0].name}", remedy
            )
        else:
            yield CheckResult(topic, CheckState.OK, f"{kernel.title} {version}")


def _model_results(inventories: Sequence[Inventory]) -> Iterator[CheckResult]:
    """One result for each variant, then one for each file, listed once even if several variants share it."""
    missing = [(inventory, missing_files(inventory)) for inventory in inventories]
    for inventory, files in missing:
        yield _variant_result(inventory, files)
    incomplete = [(inventory, files) for inventory, files in missing if files]
    faults: dict[Path, CheckResult] = {}
    for inventory, files in incomplete:
        command = f"`{inventory.download_command}`"
        for file in files:
            users = [user.variant.name for user, lacking in incomplete if file in lacking]
            names = "all of these" if len(users) == len(incomplete) > 1 else ", ".join(users)
            text = f"{file.target} {file.reason} (about {format_bytes(file.source.size)}, for {names})"
            faults.setdefault(file.target, CheckResult("Models", _missing_state([file]), text, command))
        for problem in inventory.problems:
            if problem.path.exists():  # and is not an official file, but for example one of a diffusers repository
                text = f"{problem.path} {problem.reason}"
                advice = f"replace it, or fetch the official file with {command}"
                faults.setdefault(problem.path, CheckResult("Models", CheckState.PROBLEM, text, advice))
    yield from faults.values()


def _elsewhere_results(inventories: Sequence[Inventory], folders: Sequence[Path]) -> Iterator[CheckResult]:
    """One result for each missing file that is elsewhere on this machine, and for each that only looks like one."""
    results: dict[str, CheckResult] = {}
    named = "".join(f' --look-in "{folder}"' for folder in folders)
    for inventory in inventories:
        findings = find(inventory, folders)
        for found in findings.found:
            text = f"{found.part} is on this machine: {', '.join(map(str, found.files))}"
            advice = f"use it without a download: `{inventory.download_command}{named}`"
            results.setdefault(text, CheckResult("Models", CheckState.NOTE, text, advice))
        for remark in findings.remarks:
            results.setdefault(remark, CheckResult("Models", CheckState.NOTE, remark.rstrip(".")))
    yield from results.values()


def _variant_result(inventory: Inventory, missing: Sequence[MissingFile]) -> CheckResult:
    topic, name, root = "Models", inventory.variant.name, inventory.variant.root
    if inventory.complete:
        return CheckResult(topic, CheckState.OK, f"{name} is complete in {root or inventory.directory}")
    if root is not None:
        faults = "; ".join(f"{problem.path} {problem.reason}" for problem in inventory.problems)
        return CheckResult(
            topic, CheckState.PROBLEM, f"{name} is not complete: {faults}", f"write the bundle in {root} again"
        )
    size = sum(file.source.size for file in missing)
    text = f"{name} is missing {len(missing)} file{'s' if len(missing) > 1 else ''}, about {format_bytes(size)}"
    free = free_space(inventory.directory)
    if free < size + MARGIN:
        text += f"; only {format_bytes(free)} free"
    return CheckResult(
        topic, _missing_state(missing), text, f"fetch the missing files with `{inventory.download_command}`"
    )


def _missing_state(files: Sequence[MissingFile]) -> CheckState:
    """A note for files that were never fetched, which may be intended; a problem for damaged files."""
    return CheckState.PROBLEM if any(file.target.exists() for file in files) else CheckState.NOTE


def _ability_results(inventories: Sequence[Inventory], gpus: Sequence[ProbedGpu], memory: int) -> Iterator[CheckResult]:
    topic = "What this machine can run"
    usable = 0
    for inventory in inventories:
        possible, how = assess(inventory, gpus, memory)
        usable += possible and inventory.complete
        if not possible:
            yield CheckResult(topic, CheckState.NOTE, f"{inventory.variant.name}: {how}")
        elif inventory.complete:
            yield CheckResult(topic, CheckState.OK, f"{inventory.variant.name}: {how}")
        else:
            yield CheckResult(topic, CheckState.NOTE, f"{inventory.variant.name}: {how}, once its files are complete")
    if not usable:
        yield CheckResult(topic, CheckState.PROBLEM, "Nothing yet", "download one of the models above")


def assess(inventory: Inventory, gpus: Sequence[ProbedGpu], memory: int) -> tuple[bool, str]:
    """Whether and how the variant's largest clip should fit, planned with the memory free without other programs."""
    variant = inventory.variant
    if variant.root is not None:
        return True, "on a GPU or on the CPU"
    if not gpus:
        return False, "needs a GPU"
    frees = [max(gpu.free, free_from_nominal(gpu.total)) for gpu in gpus]
    largest = max(frees)
    if _plan_on_one_gpu(variant, largest, variant.weights).streamed == 0:
        return True, "should fit one GPU"
    if together := _sharded_text(variant, min(frees), len(gpus), memory):
        return True, together
    plan = _plan_on_one_gpu(variant, largest, default_weights(variant, fitting_tier(largest)))
    needed = own_host_bytes(variant, plan.weights, streamed=plan.streamed, converted=inventory.converted)
    if memory < needed:
        return False, f"needs {format_bytes(round(needed))} of host memory for weights that are kept there"
    if plan.least_free > largest:
        least = plan_memory(TIERS[0], Demand.largest(variant), free=0).least_free
        return False, f"needs a GPU of at least {_gib(nominal_from_free(least))}"
    if _plan_on_one_gpu(variant, largest, Weights.INT8).streamed == 0:
        return True, "should fit one GPU with int8 weights, or streamed from host memory"
    return True, "should fit one GPU, streamed from host memory"


def _plan_on_one_gpu(variant: Variant, free: float, weights: Weights) -> MemoryPlan:
    """The memory plan for one GPU with `free` bytes of free memory."""
    return plan_memory(fitting_tier(free), Demand.largest(variant), weights, free=free)


def _sharded_text(variant: Variant, free: float, count: int, memory: int) -> str:
    """How several GPUs with `free` bytes each hold the variant together; empty if they cannot."""
    demand = Demand.largest(variant, variant.weights)
    ranks = max(sharing_counts(count, demand.sizes.heads))
    plan = plan_sharding(demand, Gpus(ranks, free)) if ranks > 1 else None
    if plan is None or (plan.offloaded and memory < shareable_bytes(demand)):
        return ""
    where = " in host memory" if plan.offloaded else ""
    return f"should fit the {ranks} GPUs together, sharded{where}"


def _plan_results(inventories: Sequence[Inventory], gpus: Sequence[ProbedGpu]) -> Iterator[CheckResult]:
    """How several GPUs would make clips with the best complete variant, or the best known one if none is complete."""
    published = sorted((one for one in inventories if one.variant.root is None), key=lambda one: not one.complete)
    if len(gpus) < 2 or not published:
        return
    variant = published[0].variant
    available = Gpus.named(len(gpus), min(gpu.free for gpu in gpus), gpus[0].name)
    for objective, name in (
        (Objective.LATENCY, "shortest time for one clip"),
        (Objective.THROUGHPUT, "shortest time for the queue"),
    ):
        try:
            plan = choose(Demand.of(variant), available, objective)
        except JobError as error:
            yield CheckResult(_GPUS_TOPIC, CheckState.NOTE, f"{variant.name}, {name}: {error}")
            continue
        yield CheckResult(
            _GPUS_TOPIC,
            CheckState.OK,
            f"{variant.name}, {name}: {plan_text.title(plan)}. {' '.join(plan_text.describe(plan))}",
        )


def _gib(count: float) -> str:
    """Format bytes in binary units, as memory is labelled."""
    return f"{count / GIB:.1f} GiB"
