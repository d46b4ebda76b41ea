"""Two epochs of every recipe on the same few pictures: does each learn, and from which loss? A table of one line a recipe.

The pictures are chosen by a hash of their names: so many to learn from, so many to be scored. Nets for photographs see squares of
256 pixels, or with --small squares of 80 through an input of 72; the CIFAR nets see squares of 32; nets of one channel see the
same in grey. Losses and errors are those of the centre view on the scored pictures. With --set a recipe is changed before it
runs, and --epochs makes the course longer: so one start is compared with another.

    python benchmarks/every_recipe.py DATA/caltech101.tar --pictures 1500 --set training.batch=32
    python benchmarks/every_recipe.py DATA/cifar10.tar --pictures 2000 --small --set training.batch=32
"""

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from alexnet.data.images import Policy
from alexnet.data.prepare import prepare
from alexnet.data.sources import Fractions, Picture, open_source
from alexnet.data.store import Store, open_store
from alexnet.evaluate import Scores, evaluate
from alexnet.model import view_of
from alexnet.network.alexnet import AlexNet, start
from alexnet.randomness import key
from alexnet.recipes.named import RECIPES, named
from alexnet.recipes.recipe import Recipe, with_epochs
from alexnet.recipes.settings import override
from alexnet.runtime import Runtime, choose
from alexnet.training.loop import train
from alexnet.training.tasks import Task

LEAST_INPUT = 72  # pixels, the smallest that every net for photographs can see


def chosen(pictures: Iterable[Picture], learn: int, score: int) -> tuple[Picture, ...]:
    """So many train and so many val pictures, in the order of a hash of their names, both from what is no test picture."""
    order = sorted((picture for picture in pictures if picture.split != "test"), key=lambda picture: key(picture.name)[0])
    named_so = [replace(picture, split="train" if place < learn else "val") for place, picture in enumerate(order)]
    return tuple(sorted(named_so[: learn + score], key=lambda picture: picture.name.encode()))


def made(source: str, folder: Path, policy: Policy, learn: int, score: int) -> Store:
    """The store of the chosen pictures under a policy, prepared at most once."""
    path = folder / f"{policy.size}-{policy.channels}"
    if not path.exists():
        with open_source(source) as whole:
            few = replace(whole, pictures=chosen(whole.pictures, learn, score))
            prepare(few, path, policy, Fractions(0, 0), on_bad="fail", workers=2, progress=lambda done, of: None)
    return open_store(path)


def fitted(recipe: Recipe, small: bool) -> tuple[Recipe, Policy]:
    """The recipe with an input for such pictures, and the policy that prepares them for it."""
    channels, side, _ = recipe.network.input
    if side <= 32:
        return recipe, Policy(size=32, channels=channels, encoding="raw")
    if small:
        network = replace(recipe.network, input=(channels, LEAST_INPUT, LEAST_INPUT))
        return replace(recipe, network=network), Policy(size=80, channels=channels, encoding="raw")
    return recipe, Policy(size=256, channels=channels, encoding="raw")


def trial(store: Store, recipe: Recipe, seed: int, folder: Path, runtime: Runtime) -> tuple[Scores, list[dict[str, Any]]]:
    """The scores before the first step, and what the run told of its steps and epochs."""
    view, records = view_of(store, recipe), list[dict[str, Any]]()
    network = start(AlexNet(recipe.network, len(store.classes)), seed).to(runtime.dtype).eval()
    before = evaluate([(network, view)], store.splits["val"], 1, runtime)
    train(Task(store, recipe, seed, runtime), folder, records.append, save_every=float("inf"))
    return before, records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--pictures", type=int, default=2000, help="to learn from; a quarter as many are scored")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--recipe", action="append", help="only this one; may be given several times")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--curve", type=Path, help="write the loss of every recorded step here, as lines of epoch and loss")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    runtime = choose("cpu", "fp32", 1)
    print("| recipe | input | loss at start | loss after | top-1 error after | seconds |\n|---|---|---|---|---|---|", flush=True)
    with TemporaryDirectory() as place:
        for name in given.recipe or [recipe.name for recipe in RECIPES]:
            recipe, policy = fitted(with_epochs(named(name), given.epochs), given.small)
            for setting in given.settings:
                recipe = override(recipe, setting)
            store = made(given.source, Path(place), policy, given.pictures, given.pictures // 4)
            before, records = trial(store, recipe, given.seed, Path(place, name), runtime)
            after = [record for record in records if record["kind"] == "epoch"][-1]
            numbers = f"{before.loss:.3f} | {after['val_loss']:.3f} | {after['val_top1_error']:.2f} % | {after['seconds']:.0f}"
            print(f"| `{name}` | {'×'.join(map(str, recipe.network.input))} | {numbers} |", flush=True)
            if given.curve:
                steps = [f"{record['epoch']:.4f} {record['loss']:.5f}" for record in records if record["kind"] == "step"]
                given.curve.write_text("\n".join(steps) + "\n")


if __name__ == "__main__":
    main()
