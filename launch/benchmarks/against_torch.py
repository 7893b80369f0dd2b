"""Time jaxssl and PyTorch in alternating processes, as a Markdown table of medians, ranges and ratios."""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Flags of a benchmark, the model's name in PyTorch, and whether lightly's script has the method.
LINES = (
    ("--method simclr --model resnet18 --size 64 --batch 128", "resnet18", True),
    ("--method byol --model resnet18 --size 64 --batch 128", "resnet18", True),
    ("--method mae --model vit_tiny --size 64 --patch 8 --batch 128", "vit_tiny_patch16_224", True),
    ("--method byol --model resnet50 --size 96 --batch 32", "resnet50", True),
    ("--method supervised --model efficientnet_lite0 --size 64 --batch 64", "tf_efficientnet_lite0", False),
    ("--method features --model resnet18 --size 64 --batch 128", "resnet18", False),
)
# The flags of each precision: ours, and that of PyTorch.
OURS = {"float32": "--dtype=float32", "mixed": "--dtype=mixed"}
THEIRS = {"float32": [], "bfloat16": ["--bf16"]}
COLUMNS = ("images_per_second_step_only", "images_per_second", "peak_rss_mib")


def compare(a: argparse.Namespace, script: list[str]) -> str:
    """Return the table of `--all` in Markdown; `script` is the command that runs `launch/bench.py`.

    Each of our precisions is compared with the one of PyTorch whose step is faster.
    """
    rows = ["| work | precision | step alone | end to end | peak MiB |", "|---|---|---|---|---|"]
    for options, model, in_lightly in LINES:
        if not (a.peer if in_lightly else a.torch):
            continue
        command = a.peer if in_lightly else f"{a.torch} {Path(__file__).with_name('torch_steps.py')}"
        peer = [*shlex.split(command), *options.replace(options.split()[3], model).split()]
        commands = {(True, name): [*script, *options.split(), "--brief", flag] for name, flag in OURS.items()}
        commands |= {(False, name): [*peer, *flags] for name, flags in THEIRS.items()}
        runs = {kind: [] for kind in commands}
        for _ in range(a.turns):
            for kind, command in commands.items():
                runs[kind].append(run_json([*command, f"--steps={a.steps}"]))
        best = max(THEIRS, key=lambda name: statistics.median(run[COLUMNS[0]] for run in runs[False, name]))
        for name in OURS:
            pairs = [
                [[run[column] for run in of] for of in (runs[True, name], runs[False, best])] for column in COLUMNS
            ]
            cells = " | ".join(format_ratio(*pair) for pair in pairs)
            rows.append(f"| `{options}` | {name}, theirs {best} | {cells} |")
            print(rows[-1], file=sys.stderr, flush=True)
    return "\n".join(rows)


def run_json(command: Sequence[str]) -> dict[str, Any]:
    """Run a command and return the JSON of its last line; exit if it fails."""
    # The peer runs as its users run it, without the settings that jaxssl makes for itself.
    environ = {k: v for k, v in os.environ.items() if k not in ("GLIBC_TUNABLES", "XLA_FLAGS")}
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{shlex.join(command)} failed with exit code {ended.returncode}: {ended.stderr.strip()[-500:]}")
    return json.loads(ended.stdout.strip().splitlines()[-1])


def format_ratio(ours: list[float], theirs: list[float]) -> str:
    """Return "ratio: ours (range) against theirs (range)", of medians."""

    def summary(values: list[float]) -> str:
        return f"{statistics.median(values):.0f} ({min(values):.0f}-{max(values):.0f})"

    ratio = statistics.median(ours) / max(statistics.median(theirs), 1e-9)
    return f"**{ratio:.2f}**: {summary(ours)} against {summary(theirs)}"
