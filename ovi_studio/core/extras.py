"""Optional packages: a sentence for people where one is missing."""

import importlib
from types import ModuleType

from ovi_studio.core.errors import JobError


def import_extra(module: str, extra: str, purpose: str) -> ModuleType:
    """Import a module of an optional package; raises `JobError` that names its extra in `pyproject.toml`.

    Args:
        purpose: the beginning of a sentence, such as "Joining shots".
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise JobError(
            f"{purpose} needs the package {package}, which cannot be imported ({error}); install the extra `{extra}` "
            f"with `pip install '.[{extra}]' -c constraints.txt`."
        ) from error
