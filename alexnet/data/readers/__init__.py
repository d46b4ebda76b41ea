"""Read images from where people keep them: folders, archives, the public data sets.

`open_source(path)` opens them all; each module reads one kind.
"""

from alexnet.data.readers.open import open_source
from alexnet.data.readers.source import ImageSource, Sample, SplitFractions, assign_splits

__all__ = ["ImageSource", "Sample", "SplitFractions", "assign_splits", "open_source"]
