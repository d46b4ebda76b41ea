"""How many images are computed together: a few fixed sizes, whatever the number that waits."""

from alexnet.evaluation.evaluate import CROPS_PER_BATCH

SIZES = (1, 2, 4, 8, 16, 32, 64)
LEAST_FILL = 0.75  # of a batch that is padded: more padding costs more than another batch


def choose_size(waiting: int, crops: int) -> int:
    """Return the size of the next batch for 1 or more waiting images of `crops` crops each.

    The largest size that the images fill to three quarters or more; the batch has at most
    CROPS_PER_BATCH crops.
    """
    largest = max(1, CROPS_PER_BATCH // crops)
    sizes = [size for size in SIZES if size <= largest and waiting >= LEAST_FILL * size]
    return sizes[-1]
