"""The ILSVRC challenge's submission file: five classes an image, one line each.

Classes are numbered from 1 as the dataset lists them. Where the challenge numbers them otherwise,
as ILSVRC's devkit does, the numbers have to be translated.
"""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from alexnet.core.atomic_io import write_bytes

TOP_K = 5


def write_submission(path: Path, probability: Tensor, names: Sequence[str]) -> None:
    """Write the five most probable classes of each image, most probable first.

    `probability` (N, classes); `names`: the N images' files. Lines are in the order of the file
    names, whatever their directories, as the challenge counts its images. Of equally probable
    classes the first comes first. AlexNetError where the file cannot be written.
    """
    ranked = probability.argsort(stable=True, dim=1, descending=True)
    classes = (ranked[:, :TOP_K] + 1).tolist()
    order = sorted(range(len(names)), key=lambda i: (names[i].rsplit("/", 1)[-1], names[i]))
    lines = [" ".join(map(str, classes[i])) + "\n" for i in order]
    write_bytes(path, "".join(lines).encode())
