"""The command demo: the whole pipeline on images that the package draws itself."""

from pathlib import Path

import click

from alexnet.cli.options import JSON, PATH, SEED, runtime_options


@click.command()
@click.option(
    "--out",
    type=PATH,
    default=Path("alexnet-demo"),
    show_default=True,
    help="Directory for everything.",
)
@click.option(
    "--epochs", type=click.IntRange(1), default=None, help="Instead of the demo's own number."
)
@SEED
@JSON
@runtime_options
def demo(
    out: Path,
    epochs: int | None,
    seed: int,
    as_json: bool,
    device: str,
    precision: str,
    workers: int | None,
) -> None:
    """Draw images, prepare, train, evaluate and report, in minutes.

    \b
    Example:  alexnet demo
    """
    from alexnet.core import console
    from alexnet.core.device import make_runtime
    from alexnet.demo import Display, closing_lines, run_demo

    display = Display(console.print_status, console.progress_bar, console.training_progress)
    runtime = make_runtime(device, precision, workers)
    result = run_demo(out, runtime, display, epochs=epochs, seed=seed)
    if as_json:
        console.print_json(result)
        return
    for line in closing_lines(result):
        console.print_line(line)
