"""Kill random ranks under torchrun --max-restarts: does the run end, with bit-identical weights?

python benchmarks/rank_failures.py --kills 20 --parallel data
"""

import argparse
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors import safe_open

RANKS = 2
# torchrun and this script run on Linux; Windows knows no SIGKILL
KILL_SIGNAL = getattr(signal, "SIGKILL", signal.SIGTERM)


def train_command(
    dataset: Path, run: Path, parallel: str, epochs: int, max_restarts: int
) -> list[str]:
    """Return the command that trains a small network on several ranks."""
    command = [sys.executable, "-m", "torch.distributed.run"]
    command += ["--nproc-per-node", str(RANKS), "--max-restarts", str(max_restarts)]
    command += ["-m", "alexnet", "train", str(dataset), "--out", str(run), "--recipe", "figure1"]
    if parallel == "towers":
        command += ["--set", "network.towers=2"]
    command += ["--parallel", parallel, "--epochs", str(epochs)]
    return [*command, "--save-every", "1", "--workers", "1"]


def child_processes(pid: int) -> list[int]:
    """Return the ranks that torchrun has started and that still live."""
    output = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout
    return [int(line) for line in output.split()]


def latest_checkpoint(run: Path) -> str:
    """Return the name of the latest checkpoint, or an empty string."""
    return max((path.name for path in (run / "checkpoints").glob("step-*.safetensors")), default="")


def kill_random_ranks(torchrun: subprocess.Popen[str], run: Path, kills: int, seed: int) -> int:
    """Kill a random rank whenever there is a new checkpoint; return how many were killed."""
    draw = random.Random(seed)
    killed = 0
    checkpoint = ""
    while killed < kills and torchrun.poll() is None:
        time.sleep(draw.uniform(0.1, 1.5))
        ranks = child_processes(torchrun.pid)
        if latest_checkpoint(run) > checkpoint and len(ranks) == RANKS:
            os.kill(draw.choice(ranks), KILL_SIGNAL)
            killed += 1
            checkpoint = latest_checkpoint(run)
    return killed


def final_state(run: Path) -> str:
    """Return the latest checkpoint's name and the hash of its weights and velocities."""
    path = run / "checkpoints" / latest_checkpoint(run)
    digest = hashlib.sha256()
    with safe_open(path, "numpy") as file:
        for name in sorted(file.keys()):
            digest.update(name.encode() + file.get_tensor(name).tobytes())
    return f"{path.name} {digest.hexdigest()[:16]}"


def prepare_dataset(path: Path) -> None:
    command = [sys.executable, "-m", "alexnet", "prepare", "embedded", str(path), "--size", "32"]
    subprocess.run(command, check=True, capture_output=True)


def run_disturbed(command: list[str], run: Path, kills: int, seed: int) -> None:
    """Run a command, kill ranks, and print what happened."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    start = time.monotonic()
    with run.with_suffix(".log").open("w+") as log:
        torchrun = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, text=True
        )
        killed = kill_random_ranks(torchrun, run, kills, seed)
        status = torchrun.wait()
        log.seek(0)
        reported = len(re.findall(r"rank \d+ has been killed", log.read()))
    seconds = time.monotonic() - start
    print(
        f"{killed} kills, {reported} of them reported by the other rank: "
        f"{seconds:.0f} s, status {status}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--parallel", default="data")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with TemporaryDirectory() as temporary:
        dataset = Path(temporary) / "dataset"
        undisturbed = Path(temporary) / "undisturbed"
        disturbed = Path(temporary) / "disturbed"
        prepare_dataset(dataset)
        start = time.monotonic()
        command = train_command(dataset, undisturbed, args.parallel, args.epochs, 0)
        subprocess.run(command, check=True, capture_output=True, env=environment)
        expected = final_state(undisturbed)
        print(f"undisturbed: {time.monotonic() - start:.0f} s, {expected}", flush=True)
        command = train_command(dataset, disturbed, args.parallel, args.epochs, args.kills + 1)
        run_disturbed(command, disturbed, args.kills, args.seed)
        actual = final_state(disturbed)
        print(f"{actual}: {'identical' if actual == expected else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
