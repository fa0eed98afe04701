"""`RuntimeOptions`: how and where models compute. Declared here and nowhere else; see `declared`. Imports no torch.

The command line takes precedence over a configuration file, and that over the settings on the page.
"""

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from ovi_studio.adapters.library import default_adapter_directory
from ovi_studio.capacity.layouts import ShardingOptions, Strategy
from ovi_studio.capacity.tiers import AUTO, CHOICES, TIERS
from ovi_studio.checkpoints.layout import default_checkpoint_directory
from ovi_studio.core.errors import JobError
from ovi_studio.core.weight_formats import Weights
from ovi_studio.improve.upscaler_library import default_upscaler_directory
from ovi_studio.models.attention_kernels import KERNELS
from ovi_studio.runtime.declared import Choices, Declared, OptionForm, Setting, option

DTYPES = ("bfloat16", "float32")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


class OptionGroup(StrEnum):
    """Groups of options that commands add as a whole; their values are the headings in the help."""

    FOLDERS = "folders"
    COMPUTING = "how models compute"
    SHARING = "several GPUs"


def _device(text: str) -> str:
    if _DEVICE.fullmatch(text) is None:
        raise ValueError("write cpu, cuda, or cuda:1 for the second GPU")
    return text


def installed_attentions() -> list[str]:
    """Return the names of the attention kernels whose package is installed; PyTorch's own comes first."""
    return [name for name, kernel in KERNELS.items() if kernel.installed]


def _attentions() -> Choices:
    return [("Fastest exact one", AUTO), *((KERNELS[name].title, name) for name in installed_attentions())]


def _weights() -> Choices:
    return [("As the memory tier needs", AUTO), *((str(name), str(name)) for name in Weights)]


def _tiers() -> Choices:
    return [("As much as is free", AUTO), *((f"{tier.name} GB", tier.name) for tier in TIERS[:-1]), ("All", "max")]


def _compilations() -> Choices:
    return [("Where it works", None), ("Always", True), ("Never", False)]


@dataclass(frozen=True)
class RuntimeOptions(Declared):
    """The options of everything that makes clips. Raises `JobError` for values that are not valid."""

    checkpoint_directory: Path | None = option(
        None,
        "--ckpt-dir",
        "checkpoints (default: $OVI_CKPT_DIR or ckpts)",
        OptionGroup.FOLDERS,
        parse=Path,
        metavar="DIR",
    )
    adapter_directory: Path | None = option(
        None,
        "--lora-dir",
        "LoRA files (default: $OVI_LORA_DIR or loras)",
        OptionGroup.FOLDERS,
        parse=Path,
        metavar="DIR",
    )
    upscaler_directory: Path | None = option(
        None,
        "--upscaler-dir",
        "models that make pictures larger (default: $OVI_UPSCALER_DIR or upscalers)",
        OptionGroup.FOLDERS,
        parse=Path,
        metavar="DIR",
    )
    device: str = option(
        AUTO,
        "--device",
        "cpu, cuda, or cuda:1 for the second GPU (default: the first GPU, or the CPU where there is none)",
        OptionGroup.COMPUTING,
        parse=_device,
        metavar="DEVICE",
    )
    dtype: str = option(
        AUTO,
        "--dtype",
        "number format in which models compute (default: bfloat16 on a GPU, float32 on a CPU)",
        OptionGroup.COMPUTING,
        choices=(AUTO, *DTYPES),
    )
    attention: str = option(
        AUTO,
        "--attention",
        "attention kernel (default: the fastest exact one on this GPU, measured once)",
        OptionGroup.COMPUTING,
        choices=(AUTO, *KERNELS),
        setting=Setting("Attention", "Others appear here once their package is installed.", _attentions),
    )
    weights: str = option(
        AUTO,
        "--weights",
        "number format of the transformer's weights; fp8 needs a variant with an fp8 file, fp8-fast a GPU with fp8 "
        "units (default: the tier's)",
        OptionGroup.COMPUTING,
        choices=(AUTO, *map(str, Weights)),
        setting=Setting(
            "Weights",
            "8 bits take half the memory; fp8 needs a variant with an fp8 file, fp8-fast an RTX 40 or newer.",
            _weights,
        ),
    )
    memory: str = option(
        AUTO,
        "--memory",
        "memory tier: GB of GPU memory that models may fill; the rest is streamed (default: by free memory)",
        OptionGroup.COMPUTING,
        choices=tuple(CHOICES),
        setting=Setting("GPU memory", "What does not fit is streamed from host memory.", _tiers),
    )
    compilation: bool | None = option(
        None,
        "--compile",
        "compile the transformer's blocks: slower start, then faster (default: on a GPU where Triton works)",
        OptionGroup.COMPUTING,
        form=OptionForm.ON_OR_OFF,
        setting=Setting(
            "Compile the transformer",
            "The first clip of each size takes longer, later ones less; needs a GPU with Triton.",
            _compilations,
        ),
    )
    tf32: bool | None = option(
        None,
        "--tf32",
        "allow TF32 rounding of the audio codec's float32 products on a GPU (default: no)",
        OptionGroup.COMPUTING,
        form=OptionForm.ON_OR_OFF,
        setting=Setting("TF32 for the audio codec", "Faster and less exact, on RTX 30 and newer."),
    )
    offloaded: bool = option(
        False,
        "--cpu-offload",
        "keep models in host memory while they are not in use",
        OptionGroup.COMPUTING,
        form=OptionForm.ON,
        setting=Setting(
            "Keep models in host memory while they are not in use",
            "Needs less GPU memory and a little more time.",
        ),
    )
    gpus: int | None = option(
        None,
        "--gpus",
        "GPUs that make a clip together (default: all that can share one)",
        OptionGroup.SHARING,
        parse=int,
        metavar="N",
    )
    fsdp_strategy: str | None = option(
        None,
        "--fsdp-strategy",
        "how weights are distributed over several GPUs (default: by the plan, see docs/parallel.md)",
        OptionGroup.SHARING,
        parse=str.upper,
        choices=tuple(map(str, Strategy)),
    )
    resident_blocks: int | None = option(
        None,
        "--resident-blocks",
        "blocks that stay gathered on each GPU (default: what fits)",
        OptionGroup.SHARING,
        parse=int,
        metavar="N",
    )
    fsdp_offload: bool = option(
        False, "--fsdp-offload", "keep each GPU's shards in host memory", OptionGroup.SHARING, form=OptionForm.ON
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resident_blocks is not None and self.resident_blocks < 0:
            raise JobError(f"The number of resident blocks must be 0 or more, not {self.resident_blocks}.")
        if self.device != AUTO and self.gpus not in (None, 1):
            raise JobError(f"--device names one device; leave it out to use {self.gpus} GPUs.")

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.checkpoint_directory or default_checkpoint_directory()

    @property
    def adapters(self) -> Path:
        """The folder of LoRA files."""
        return self.adapter_directory or default_adapter_directory()

    @property
    def upscalers(self) -> Path:
        """The folder of upscalers."""
        return self.upscaler_directory or default_upscaler_directory()

    @property
    def sharding(self) -> ShardingOptions:
        """The requested sharding of the weights on several GPUs."""
        strategy = None if self.fsdp_strategy is None else Strategy(self.fsdp_strategy)
        return ShardingOptions(strategy, self.resident_blocks, self.fsdp_offload)

    @property
    def ranks(self) -> int | None:
        """How many processes make a clip together; None: as many as there are GPUs that can share a clip."""
        return self.gpus if self.device == AUTO else 1

    def with_sharding(self, sharding: ShardingOptions, weights: str) -> "RuntimeOptions":
        """Return these options with another sharding and number format of the weights."""
        return replace(
            self,
            fsdp_strategy=sharding.strategy,
            resident_blocks=sharding.resident_blocks,
            fsdp_offload=sharding.offloaded,
            weights=weights,
        )
