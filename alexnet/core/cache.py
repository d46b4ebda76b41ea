"""The folder for what can be fetched or built again: public sets, remote shards, compiled kernels.

The system's own place for caches, by platformdirs; ALEXNET_CACHE names another.
"""

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """Return $ALEXNET_CACHE, or the user's cache folder of this system; it need not exist yet."""
    chosen = os.environ.get("ALEXNET_CACHE")
    if chosen:
        return Path(chosen)
    return user_cache_path("alexnet", appauthor=False)
