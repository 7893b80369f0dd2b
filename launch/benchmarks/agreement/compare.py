"""Compare jaxssl with lightly 1.6: same method, images, split, settings and seeds; kNN accuracy after the last epoch.

    python launch/benchmarks/agreement/compare.py --data=data/cifar10 --peer=peer/bin/python

For each seed and method: runs jaxssl with configs/<method>_cifar.py, then peer.py (lightly) with the Python of
`--peer`, from the same untrained encoder. Both encoders are scored by jaxssl.evaluation.knn on the same images.
Finished runs in `--workdir` are kept. Prints the tables of README.md.
"""

import argparse
import json
import os
import runpy
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
from flax import traverse_util

from jaxssl.evaluation import knn, scores
from jaxssl.run import prepare as preparation
from jaxssl.run.encoders import init_encoder
from jaxssl.run.setup import Setup
from jaxssl.training import metrics

PEER = Path(__file__).with_name("peer.py")


def train_ours(method: str, seed: int, data: str, workdir: Path) -> Setup:
    """Run jaxssl unless the run is finished, and return its set-up."""
    file = f"configs/{method}_cifar.py"
    fields = [f"--config.seed={seed}", f"--config.data.dir={data}", "--config.transfer.protocols=('knn',)"]
    if not (workdir / "results.json").exists():
        command = [sys.executable, "-m", "jaxssl.main", f"--config={file}", *fields, f"--workdir={workdir}"]
        subprocess.run(command, check=True)
    config = runpy.run_path(file)["get_config"]()
    config.seed, config.data.dir, config.transfer.protocols = seed, data, ("knn",)
    return preparation.prepare(config, workdir)


def train_peer(python: str, setup: Setup, out: Path) -> None:
    """Run lightly from jaxssl's untrained encoder, unless the run is finished."""
    if (out / "features.npz").exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    weights = traverse_util.flatten_dict(init_encoder(setup), sep="/")
    np.savez(out / "untrained.npz", **{name: np.asarray(value) for name, value in weights.items()})
    # With few cores, OpenMP threads that spin while waiting slow each other down.
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    command = [python, str(PEER), f"--run={setup.workdir}", f"--out={out}"]
    subprocess.run(command, check=True, env=environment)


def score_ours(setup: Setup) -> dict[str, float]:
    results = json.loads((setup.workdir / "results.json").read_text())
    found = {e["init"]: e["metrics"]["accuracy"]["value"] for e in results["evaluations"] if e["protocol"] == "knn"}
    losses = [row["loss"] for row in metrics.read(setup.workdir, "pretrain") if "loss" in row]
    last = losses[-len(losses) // setup.config.pretrain.epochs :]
    return {"random": 100 * found["random"], "ssl": 100 * found["ssl"], "loss": statistics.mean(last)}


def score_peer(setup: Setup, out: Path) -> dict[str, float]:
    labels = {name: setup.source.labels[rows] for name, rows in setup.splits.items()}
    found = {}
    with np.load(out / "features.npz") as stored:
        for init in ("random", "ssl"):
            p = knn.predict_proba(
                stored[f"{init}_train"], labels["train"], stored[f"{init}_test"], classes=len(setup.source.classes)
            )
            found[init] = 100 * scores.compute("accuracy", p, labels["test"])
        return found | {"loss": float(stored["loss"][-1])}


def table(method: str, ours: list[dict], peers: list[dict], seeds: list[int]) -> str:
    """Return a line per seed, then mean (standard deviation over the seeds) and the difference of the means."""
    heads = [f"{what}: {who}" for what in ("untrained kNN", "kNN", "loss") for who in ("jaxssl", "lightly")]
    lines = [f"| {method} | {' | '.join(heads)} |", "|---" * 7 + "|"]
    columns = [[row[key] for row in rows] for key in ("random", "ssl", "loss") for rows in (ours, peers)]
    digits = (1, 1, 1, 1, 3, 3)
    for i, seed in enumerate(seeds):
        lines.append(
            f"| seed {seed} | " + " | ".join(f"{c[i]:.{d}f}" for c, d in zip(columns, digits, strict=True)) + " |"
        )
    if len(seeds) > 1:
        cells = [
            f"{statistics.mean(c):.{d}f} ({statistics.stdev(c):.{d}f})" for c, d in zip(columns, digits, strict=True)
        ]
        lines.append("| mean (s.d.) | " + " | ".join(cells) + " |")
    difference = statistics.mean(columns[2]) - statistics.mean(columns[3])
    return "\n".join([*lines, "", f"{method}: jaxssl - lightly = {difference:+.1f} points of kNN accuracy"])


def compare() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of train/<class>/ and test/<class>/")
    parser.add_argument("--peer", required=True, help="a Python that has torch and lightly")
    parser.add_argument("--workdir", type=Path, default=Path("runs/agreement"))
    parser.add_argument("--methods", nargs="+", default=["simclr", "byol"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    for method in args.methods:
        ours, peers = [], []
        for seed in args.seeds:
            out = args.workdir / f"{method}_{seed}_lightly"
            setup = train_ours(method, seed, args.data, args.workdir / f"{method}_{seed}")
            train_peer(args.peer, setup, out)
            ours.append(score_ours(setup))
            peers.append(score_peer(setup, out))
        print(table(method, ours, peers, args.seeds), flush=True)


if __name__ == "__main__":
    compare()
