"""What this machine has, what it lacks and what it can run, as findings for a terminal or a page.

Nothing is downloaded or changed. The process that asks imports no torch and touches no GPU: a short-lived child does,
so a page can ask too, and a broken driver ends the child alone.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from packaging.version import Version

from ovi_studio.capacity import plan_text
from ovi_studio.capacity.budget import GIB, free_from_nominal, nominal_from_free
from ovi_studio.capacity.host import host_memory
from ovi_studio.capacity.layouts import Gpus, Objective, choose, plan_sharding, sharing_counts
from ovi_studio.capacity.memory import Demand, own_host_bytes, shareable_bytes
from ovi_studio.capacity.tiers import TIERS, MemoryPlan, default_weights, fitting_tier, plan_memory
from ovi_studio.checkpoints.download import MARGIN, MissingFile, format_bytes, free_space, missing_files
from ovi_studio.checkpoints.layout import Inventory, take_inventory
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import Variant, known_variants, published_variants
from ovi_studio.core.weight_formats import Weights
from ovi_studio.models.attention_kernels import KERNELS, NATIVE
from ovi_studio.services.gpu_memory import find_nvidia_smi

LIBRARIES = ("diffusers", "transformers", "accelerate", "peft", "gradio", "av")
CODECS = ("libx264", "aac")
_INSTALL = "pip install -r requirements.txt"
_GPUS = "What these GPUs can do together"

_LOW_OUTPUT_SPACE = 2 * 10**9
"""Bytes; some hundred clips."""

_TORCH_PROBE = """
import json, torch
gpus = []
for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
    free, total = torch.cuda.mem_get_info(index)
    major, minor = torch.cuda.get_device_capability(index)
    gpus.append(dict(name=torch.cuda.get_device_name(index), total=total, free=free, capability=[major, minor]))
build = "ROCm " + torch.version.hip if torch.version.hip else "CUDA " + torch.version.cuda if torch.version.cuda else ""
print(json.dumps(dict(version=torch.__version__, build=build, gpus=gpus)))
"""
_PROBE_SECONDS = 120


class State(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One line of a report; `advice` says what to do and is empty when all is well."""

    topic: str
    state: State
    text: str
    advice: str = ""


@dataclass(frozen=True)
class Report:
    """All findings, in the order in which they are shown."""

    findings: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.state is State.PROBLEM)


@dataclass(frozen=True)
class Gpu:
    """A GPU as torch sees it; memory in bytes."""

    name: str
    total: int
    free: int
    capability: tuple[int, int]


@dataclass(frozen=True)
class Torch:
    """The installed torch and the GPUs that it sees; `error` says why there is none."""

    version: str = ""
    build: str = ""
    """`CUDA 13.0`, `ROCm 7.1` or empty for a build that knows no GPU."""
    gpus: tuple[Gpu, ...] = ()
    error: str = ""


def examine(checkpoint_directory: Path, output_directory: Path = Path("outputs")) -> Report:
    """Look at the machine, the packages and the checkpoints; takes some seconds, most of them torch's import."""
    torch = _ask_torch()
    memory = host_memory()
    findings = [
        Finding("Machine", State.OK, f"Python {platform.python_version()} on {platform.platform()}"),
        *_torch_findings(torch),
        Finding("Machine", State.OK, f"{_gib(memory.total)} of host memory, {_gib(memory.available)} free"),
        *_disk_findings(checkpoint_directory, output_directory),
        *_library_findings(),
        *_attention_findings(torch.gpus),
    ]
    try:
        variants: Sequence[Variant] = list(known_variants(checkpoint_directory).values())
    except JobError as error:  # a broken bundle.json must not hide everything else
        findings.append(Finding("Models", State.PROBLEM, str(error)))
        variants = list(published_variants().values())
    inventories = [take_inventory(variant, checkpoint_directory) for variant in variants]
    findings += _model_findings(inventories)
    findings += _ability_findings(inventories, torch.gpus, memory.total)
    findings += _plan_findings(inventories, torch.gpus)
    return Report(tuple(findings))


def format_report(report: Report) -> str:
    """For a terminal: a line a finding under its topic, then the count."""
    lines: list[str] = []
    topic = ""
    for finding in report.findings:
        if finding.topic != topic:
            topic = finding.topic
            lines += [*([""] if lines else []), topic]
        advice = f" -> {finding.advice}" if finding.advice else ""
        lines.append(f"  {finding.state:<8} {finding.text}{advice}")
    count = len(report.problems)
    lines += ["", "No problem found." if not count else f"{count} problem{'s' if count > 1 else ''} found."]
    return "\n".join(lines)


def _ask_torch() -> Torch:
    installed = _version("torch")
    if installed is None:
        return Torch(error="torch is not installed")
    try:
        # -P: a file of the user's in the working directory must not stand in for a package.
        command = [sys.executable, "-P", "-c", _TORCH_PROBE]
        child = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False)
        answer = json.loads(child.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return Torch(installed, error=f"torch {installed} did not answer within {_PROBE_SECONDS} seconds")
    except (IndexError, ValueError):
        reason = (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
        return Torch(installed, error=f"torch {installed} fails when it is asked for GPUs ({reason})")
    gpus = tuple(Gpu(**{**gpu, "capability": tuple(gpu["capability"])}) for gpu in answer["gpus"])
    return Torch(answer["version"], answer["build"], gpus)


def _driver_gpus() -> list[str]:
    """Names of the GPUs that NVIDIA's own tool lists, whatever torch thinks of them."""
    tool = find_nvidia_smi()
    if tool is None:
        return []
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [name.strip() for name in listed.stdout.splitlines() if name.strip()] if listed.returncode == 0 else []


def _torch_findings(torch: Torch) -> Iterator[Finding]:
    topic = "Machine"
    if torch.error:
        yield Finding(topic, State.PROBLEM, torch.error, f"update the GPU driver, or install torch anew: {_INSTALL}")
    else:
        yield Finding(topic, State.OK, f"torch {torch.version}, built for {torch.build or 'the CPU alone'}")
    for index, gpu in enumerate(torch.gpus):
        text = f"GPU {index}: {gpu.name}, {_gib(gpu.total)} of memory, {_gib(gpu.free)} free"
        if gpu.capability < (8, 0) and "CUDA" in torch.build:
            advice = "it has no bf16 arithmetic and will be slow; an RTX 30 or newer is meant"
            yield Finding(topic, State.NOTE, text, advice)
        elif gpu.total - gpu.free > 3 * GIB:
            yield Finding(topic, State.NOTE, text, "it is in use; end other programs before making clips")
        else:
            yield Finding(topic, State.OK, text)
    if torch.gpus:
        return
    here = _driver_gpus()
    if here and torch.build:
        advice = "update the driver to one for this CUDA, and look at CUDA_VISIBLE_DEVICES"
        yield Finding(topic, State.PROBLEM, f"{', '.join(here)} is here, but torch does not see it", advice)
    elif here:
        advice = "install the CUDA build of the same version (see README)"
        yield Finding(topic, State.PROBLEM, f"{', '.join(here)} is here, but this torch knows no GPU", advice)
    else:
        advice = "the embedded model runs on the CPU; the published models need a GPU"
        yield Finding(topic, State.NOTE, "There is no GPU", advice)


def _disk_findings(checkpoints: Path, outputs: Path) -> Iterator[Finding]:
    for name, folder, least in (("Checkpoint", checkpoints, 0), ("Output", outputs, _LOW_OUTPUT_SPACE)):
        free = free_space(folder)
        text = f"{name} directory {folder}: {format_bytes(free)} free"
        existing = next(place for place in (folder.resolve(), *folder.resolve().parents) if place.exists())
        if not os.access(existing, os.W_OK):
            yield Finding(
                "Machine", State.PROBLEM, f"{text}, but it cannot be written", "change its owner or its place"
            )
        elif free < least:
            yield Finding("Machine", State.PROBLEM, text, "free some space, or clips will fail to be saved")
        else:
            yield Finding("Machine", State.OK, text)


def _library_findings() -> Iterator[Finding]:
    topic = "Packages"
    versions = {name: _version(name) for name in LIBRARIES}
    found = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    if found:
        yield Finding(topic, State.OK, found)
    for name, version in versions.items():
        if version is None:
            yield Finding(topic, State.PROBLEM, f"{name} is not installed", _INSTALL)
    if versions["av"]:
        yield from _codec_findings()


def _codec_findings() -> Iterator[Finding]:
    try:
        from av.codec import Codec  # only here: a machine without it must still get its report
        from av.codec.codec import UnknownCodecError
    except ImportError as error:
        yield Finding("Packages", State.PROBLEM, f"av does not start ({error})", "pip install --force-reinstall av")
        return
    missing = []
    for name in CODECS:
        try:
            Codec(name, "w")
        except UnknownCodecError:
            missing.append(name)
    if missing:
        advice = "install the one that brings its own FFmpeg: pip install --force-reinstall --only-binary=av av"
        yield Finding("Packages", State.PROBLEM, f"av lacks the encoders {', '.join(missing)}", advice)
    else:
        yield Finding("Packages", State.OK, f"av encodes {' and '.join(CODECS)}")


def _attention_findings(gpus: Sequence[Gpu]) -> Iterator[Finding]:
    topic = "Attention"
    yield Finding(topic, State.OK, "PyTorch's own attention is always there; the others are faster and optional")
    for kernel in (kernel for name, kernel in KERNELS.items() if name != NATIVE):
        version = _version(kernel.package)
        remedy = f"for {kernel.gpus}: {kernel.installation}"
        if version is None:
            yield Finding(topic, State.NOTE, f"{kernel.title} is not installed", remedy)
        elif Version(version) < Version(kernel.least_version):
            yield Finding(topic, State.NOTE, f"{kernel.title} {version} is too old to be used", remedy)
        elif gpus and not any(kernel.runs_on(gpu.capability) for gpu in gpus):
            yield Finding(topic, State.NOTE, f"{kernel.title} {version} does not run on {gpus[0].name}", remedy)
        else:
            yield Finding(topic, State.OK, f"{kernel.title} {version}")


def _model_findings(inventories: Sequence[Inventory]) -> Iterator[Finding]:
    """A line a variant, then a line a file, once however many variants share it."""
    lacks = [(inventory, missing_files(inventory)) for inventory in inventories]
    for inventory, files in lacks:
        yield _variant_finding(inventory, files)
    incomplete = [(inventory, files) for inventory, files in lacks if files]
    faults: dict[Path, Finding] = {}
    for inventory, files in incomplete:
        command = f"`{inventory.download_command}`"
        for file in files:
            users = [user.variant.name for user, lacking in incomplete if file in lacking]
            names = "all of these" if len(users) == len(incomplete) > 1 else ", ".join(users)
            text = f"{file.target} {file.reason} (about {format_bytes(file.source.size)}, for {names})"
            faults.setdefault(file.target, Finding("Models", _gravity([file]), text, command))
        for problem in inventory.problems:
            if problem.path.exists():  # and is no official file, such as one of a diffusers repository
                text = f"{problem.path} {problem.reason}"
                advice = f"replace it, or {command} fetches the official file"
                faults.setdefault(problem.path, Finding("Models", State.PROBLEM, text, advice))
    yield from faults.values()


def _variant_finding(inventory: Inventory, missing: Sequence[MissingFile]) -> Finding:
    topic, name, root = "Models", inventory.variant.name, inventory.variant.root
    if inventory.complete:
        return Finding(topic, State.OK, f"{name} is complete in {root or inventory.directory}")
    if root is not None:
        faults = "; ".join(f"{problem.path} {problem.reason}" for problem in inventory.problems)
        return Finding(topic, State.PROBLEM, f"{name} is not complete: {faults}", f"write the bundle in {root} again")
    size = sum(file.source.size for file in missing)
    text = f"{name} lacks {len(missing)} file{'s' if len(missing) > 1 else ''}, about {format_bytes(size)}"
    free = free_space(inventory.directory)
    if free < size + MARGIN:
        text += f"; only {format_bytes(free)} are free"
    return Finding(topic, _gravity(missing), text, f"`{inventory.download_command}` fetches what is missing")


def _gravity(files: Sequence[MissingFile]) -> State:
    """A variant that nobody fetched is a choice; a damaged file is not."""
    return State.PROBLEM if any(file.target.exists() for file in files) else State.NOTE


def _ability_findings(inventories: Sequence[Inventory], gpus: Sequence[Gpu], memory: int) -> Iterator[Finding]:
    topic = "What this machine can run"
    usable = 0
    for inventory in inventories:
        possible, how = _ability(inventory.variant, gpus, memory)
        usable += possible and inventory.complete
        if not possible:
            yield Finding(topic, State.NOTE, f"{inventory.variant.name}: {how}")
        elif inventory.complete:
            yield Finding(topic, State.OK, f"{inventory.variant.name}: {how}")
        else:
            yield Finding(topic, State.NOTE, f"{inventory.variant.name}: {how}, once its files are complete")
    if not usable:
        yield Finding(topic, State.PROBLEM, "Nothing yet", "complete one of the models above")


def _ability(variant: Variant, gpus: Sequence[Gpu], memory: int) -> tuple[bool, str]:
    """Whether and how the variant's largest clip should fit, by the plan of what is free without other programs."""
    if variant.root is not None:
        return True, "on a GPU or on the CPU"
    if not gpus:
        return False, "needs a GPU"
    frees = [max(gpu.free, free_from_nominal(gpu.total)) for gpu in gpus]
    largest = max(frees)
    if _alone(variant, largest, variant.weights).streamed == 0:
        return True, "should fit one GPU"
    if together := _together(variant, min(frees), len(gpus), memory):
        return True, together
    plan = _alone(variant, largest, default_weights(variant, fitting_tier(largest)))
    needed = own_host_bytes(variant, plan.weights, streamed=plan.streamed)
    if memory < needed:
        return False, f"needs {format_bytes(round(needed))} of host memory for what has to wait there"
    if plan.least_free > largest:
        least = plan_memory(TIERS[0], Demand.largest(variant), free=0).least_free
        return False, f"needs a GPU of at least {_gib(nominal_from_free(least))}"
    if _alone(variant, largest, Weights.INT8).streamed == 0:
        return True, "should fit one GPU with int8 weights, or streamed from host memory"
    return True, "should fit one GPU, streamed from host memory"


def _alone(variant: Variant, free: float, weights: Weights) -> MemoryPlan:
    """Of one GPU with so much free memory."""
    return plan_memory(fitting_tier(free), Demand.largest(variant), weights, free=free)


def _together(variant: Variant, free: float, count: int, memory: int) -> str:
    """How several GPUs, each with so much free memory, hold the variant; empty if they do not."""
    demand = Demand.largest(variant, variant.weights)
    ranks = max(sharing_counts(count, demand.sizes.heads))
    plan = plan_sharding(demand, Gpus(ranks, free)) if ranks > 1 else None
    if plan is None or (plan.offloaded and memory < shareable_bytes(demand)):
        return ""
    where = " in host memory" if plan.offloaded else ""
    return f"should fit the {ranks} GPUs together, sharded{where}"


def _plan_findings(inventories: Sequence[Inventory], gpus: Sequence[Gpu]) -> Iterator[Finding]:
    """How several GPUs would make clips of the best variant that is complete; without any, of the best there is."""
    published = sorted((one for one in inventories if one.variant.root is None), key=lambda one: not one.complete)
    if len(gpus) < 2 or not published:
        return
    variant = published[0].variant
    available = Gpus.named(len(gpus), min(gpu.free for gpu in gpus), gpus[0].name)
    for wish, name in ((Objective.LATENCY, "a clip sooner"), (Objective.THROUGHPUT, "the queue sooner")):
        try:
            plan = choose(Demand.of(variant), available, wish)
        except JobError as error:
            yield Finding(_GPUS, State.NOTE, f"{variant.name}, {name}: {error}")
            continue
        yield Finding(
            _GPUS, State.OK, f"{variant.name}, {name}: {plan_text.title(plan)}. {' '.join(plan_text.describe(plan))}"
        )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _gib(count: float) -> str:
    """In binary units, as memory is labelled."""
    return f"{count / GIB:.1f} GiB"
