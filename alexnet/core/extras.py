"""Libraries that come with an extra of the package and may be missing."""

import importlib
from typing import Any

from alexnet.core.errors import AlexNetError


def import_extra(module: str, extra: str) -> Any:
    """Import a module that comes with an extra; AlexNetError that names the extra without it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise AlexNetError(
            f'{module} is not installed; pip install "alexnet[{extra}]" installs it'
        ) from error
