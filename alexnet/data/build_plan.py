"""The plan of a dataset that is to be prepared, its parts, and the summary of what was made.

The plan holds all that the dataset's bytes depend on. A run that was interrupted goes on only if
its plan is the same, and only parts with the same plan are merged.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from alexnet.core.errors import AlexNetError
from alexnet.data.dataset_format import shard_file
from alexnet.data.dataset_writer import ShardInfo
from alexnet.data.images import DecodeConfig

PLAN_FORMAT = "alexnet-plan/1"


class Part(NamedTuple):
    """One of several machines' share of a dataset: every `total`-th shard, from the number-th."""

    number: int  # from 1
    total: int

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    def is_valid(self) -> bool:
        """Whether the number is one of the parts."""
        return 1 <= self.number <= self.total

    def includes(self, index: int) -> bool:
        """Whether the shard of this index, counted from 0 over all splits, is in this part."""
        return index % self.total == self.number - 1


@dataclass(frozen=True)
class Plan:
    """All that a dataset's bytes depend on, and its description except for what decoding finds."""

    dataset_format: str
    classes: tuple[str, ...]
    decode_config: DecodeConfig
    source: dict[str, Any]  # its provenance
    fractions: dict[str, float]
    decoder: tuple[str | None, ...]  # the versions of Pillow and its libraries
    shards: dict[str, int]  # number of shards by split, in the order in which they are made
    present_labels: tuple[int, ...]  # of the classes that have images
    warnings: tuple[str, ...]
    ignored: dict[str, int]  # number of files by reason
    part: Part | None  # None: the whole dataset

    def to_json(self) -> dict[str, Any]:
        """Return the plan as a JSON object."""
        values = asdict(self) | {"decode_config": self.decode_config.to_json()}
        return {"format": PLAN_FORMAT} | values

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Plan":
        """Return the plan that `to_json` wrote; KeyError, TypeError or AlexNetError."""
        values = {field.name: value[field.name] for field in fields(cls)}
        for name in ("classes", "decoder", "present_labels", "warnings"):
            values[name] = tuple(values[name])
        values["decode_config"] = DecodeConfig.from_json(values["decode_config"])
        if values["part"]:
            values["part"] = Part(*map(int, values["part"]))
            require_valid_part(values["part"])
        return cls(**values)

    def shard_files(self) -> Iterator[tuple[str, str]]:
        """Yield (split, file name) of every shard of the whole dataset, in order."""
        for split, count in self.shards.items():
            for number in range(count):
                yield split, shard_file(split, number)


@dataclass(frozen=True)
class PrepareSummary:
    """What a preparation made."""

    images: int
    classes: int
    bad: int  # images that could not be decoded
    left_out: dict[str, int]  # number of files that are no images or in no class, by reason
    seconds: float
    splits: dict[str, int]  # number of images
    warnings: tuple[str, ...]


def summarize(
    plan: Plan, shards: dict[str, list[ShardInfo]], warnings: tuple[str, ...]
) -> PrepareSummary:
    """Return the summary of these shards, with 0 seconds."""
    splits = {split: sum(len(info.rows) for info in infos) for split, infos in shards.items()}
    return PrepareSummary(
        images=sum(splits.values()),
        classes=len(plan.classes),
        bad=sum(len(info.bad) for infos in shards.values() for info in infos),
        left_out=plan.ignored,
        seconds=0.0,
        splits=splits,
        warnings=warnings,
    )


def require_valid_part(part: Part) -> None:
    """Raise AlexNetError if there is no such part."""
    if not part.is_valid():
        raise AlexNetError(
            f"part {part}: expected one from 1/{part.total} to {part.total}/{part.total}"
        )
