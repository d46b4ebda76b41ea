"""The command doctor: what this machine offers, as a report of trouble should say it."""

import click

from alexnet.cli.options import JSON


@click.command()
@JSON
def doctor(as_json: bool) -> None:
    """Show versions, cores, bf16 units, kernels and disk space.

    \b
    Example:  alexnet doctor
    """
    from alexnet.core import console
    from alexnet.core.allocator import describe_allocator
    from alexnet.core.system_info import environment_info, machine_info

    info = machine_info() | _kernels() | {"allocator": describe_allocator()} | environment_info()
    if as_json:
        console.print_json(info)
    else:
        console.print_table("this machine", ["what", "found"], list(info.items()))


def _kernels() -> dict[str, str]:
    """Return the form of the kernels on the CPU, and on the GPU where there is one."""
    import torch

    from alexnet.models.kernels.norm import describe_form

    info = {"kernels": describe_form(torch.device("cpu"))}
    if torch.cuda.is_available():
        info["kernels on the gpu"] = describe_form(torch.device("cuda"))
    return info
