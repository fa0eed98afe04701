"""`FORMATS`: all formats of adapter files; a new one is a module in this folder and a line here."""

from collections.abc import Mapping

from ovi_studio.adapters.formats import dora
from ovi_studio.adapters.formats.diff import BIAS_DIFFERENCE, MODULATION_DIFFERENCE, WEIGHT_DIFFERENCE
from ovi_studio.adapters.formats.format import ALPHA, SCALAR, Format
from ovi_studio.adapters.formats.loha import LOHA
from ovi_studio.adapters.formats.lokr import LOKR
from ovi_studio.adapters.formats.lora import LORA, UP_BIAS

FORMATS: tuple[Format, ...] = (
    LORA,
    LOHA,
    LOKR,
    WEIGHT_DIFFERENCE,
    BIAS_DIFFERENCE,
    MODULATION_DIFFERENCE,
    UP_BIAS,
)
"""The changes that a file has for one layer are added in this order."""

SUFFIXES: Mapping[str, str] = {suffix: role for form in FORMATS for suffix, role in form.suffixes.items()}
"""End of a tensor's name -> its role."""

PEFT_NAMES: Mapping[str, str] = {
    **dora.PEFT,
    **dict.fromkeys((ALPHA, "lora_alpha", "network_alpha"), ALPHA),
    SCALAR: SCALAR,
    **{name: role for form in FORMATS for name, role in form.peft.items()},
}
"""PEFT's name of a tensor, without the adapter's name -> its role."""
