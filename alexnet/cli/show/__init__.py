"""The command show: one subcommand a figure, one file a subcommand.

`figure` has what all figures share (--out, --json, --ascii), `inputs` finds the images and the
classes that the figures of a model are about.
"""

import click

from alexnet.cli.options import OrderedGroup
from alexnet.cli.show.activations import activations
from alexnet.cli.show.augmentations import augmentations
from alexnet.cli.show.confusion import confusion
from alexnet.cli.show.curves import curves
from alexnet.cli.show.filters import filters
from alexnet.cli.show.layers import layers
from alexnet.cli.show.network import network
from alexnet.cli.show.predictions import predictions
from alexnet.cli.show.saliency import saliency
from alexnet.cli.show.schedule import schedule


@click.group(cls=OrderedGroup)
def show() -> None:
    """Draw a figure of a recipe, a dataset, a model or runs.

    \b
    Examples:  alexnet show network original --out figure2.svg
               alexnet show filters run
    """


OF_A_RECIPE = (network, schedule, activations)
OF_A_MODEL = (filters, predictions, layers, saliency, confusion)

for command in (*OF_A_RECIPE, augmentations, *OF_A_MODEL, curves):
    show.add_command(command)
