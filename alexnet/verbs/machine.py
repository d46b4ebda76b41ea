"""The verbs about this machine: measure, doctor."""

from typing import TYPE_CHECKING

import click

from alexnet.verbs.options import JSON, computing

if TYPE_CHECKING:
    from alexnet.measure.subjects import Subject

ALLOCATOR = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=4294967296"  # read by glibc as a process begins
)


@click.command()
@JSON
def doctor(as_json: bool) -> None:
    """What this machine offers: versions, cores, bf16 units, the form of the kernels, disk.

    \b
    Example:  alexnet doctor
    """
    import torch

    from alexnet import runtime, terminal
    from alexnet.network.norm_kernels import form

    devices = {"kernels": "cpu"} | ({"kernels on the gpu": "cuda"} if torch.cuda.is_available() else {})
    kernels = {what: form(torch.device(device)) for what, device in devices.items()}
    found = runtime.machine() | kernels | runtime.surroundings()
    if as_json:
        terminal.emit_json(found)
    else:
        terminal.table("this machine", ["what", "found"], list(found.items()))


@click.command()
@click.argument("subject", type=click.Choice(["train", "infer", "feed", "norm"]), default="train")
@click.option("--recipe", default="paper", show_default=True, help="Whose network, views and training; not for norm.")
@click.option("--batch-size", type=click.IntRange(1), default=None, help="Default: 128; infer: 64, beside 1.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Turns of every contender, after a warm-up.")
@click.option("--threads", type=click.IntRange(1), default=None, help="Of torch; default: its own choice. The feed has one.")
@click.option("--pictures", type=click.Path(exists=True), default=None, help="JPEG files for train, feed; default: drawn ones.")
@JSON
@computing
def measure(
    subject: "Subject", recipe: str, batch_size: int | None, rounds: int, threads: int | None, pictures: str | None,
    as_json: bool, device: str, precision: str, workers: int | None,
) -> None:  # fmt: skip
    """Time ours beside the usual ways, in turns, and against the machine's own limits: minutes for train and infer.

    \b
    train  a training step, and the whole training       infer  logits, a batch and a single picture
    feed   batches of crops, on one core                 norm   the response norm, forward and backward
    \b
    Examples:  alexnet measure train --recipe original
               alexnet measure infer --threads 1
    """
    import torch

    from alexnet import runtime, terminal
    from alexnet.measure.report import COLUMNS
    from alexnet.measure.subjects import BATCHES, Conditions
    from alexnet.measure.subjects import measure as taken
    from alexnet.recipes.named import named

    chosen = runtime.choose(device, precision, workers)
    batch, own = batch_size or BATCHES[subject], threads or torch.get_num_threads()
    with terminal.progress("measuring", "turns") as tick:
        found = taken(Conditions(subject, named(recipe), batch, rounds, own, chosen, ALLOCATOR, pictures), tick)
    if as_json:
        terminal.emit_json(found.to_json())
        return
    for title, rows in found.tables():
        terminal.table(title, COLUMNS, rows)
    for line in found.notes():
        terminal.say(line)
