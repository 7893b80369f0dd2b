"""What `launch/accelerator_check.sh` runs."""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.work import batches, make_work

from jaxssl import files
from jaxssl.training import memory, runtime

BENCH = [sys.executable, str(Path(__file__).parents[1] / "bench.py")]
ROWS = (
    "--method=simclr --model=resnet18",
    "--method=byol --model=resnet18",
    "--method=mae --model=vit_tiny",
    "--method=byol --model=resnet50 --size=96 --batch=32",
    "--method=supervised --model=efficientnet_lite0 --batch=64",
    "--method=features --model=resnet18",
)
SMALL = {"size": 32, "patch": 8, "batch": 16, "images": 16, "depth": 0, "dtype": "float32", "streamed": False}
COMPARED = (("simclr", "resnet18"), ("mae", "vit_tiny"), ("supervised", "efficientnet_lite0"))


def take_steps() -> dict[str, Any]:
    """Return loss and gradient norm of three float32 steps, and the planned and the largest used bytes, by method."""
    jax.config.update("jax_default_matmul_precision", "highest")
    found = {}
    for method, model in COMPARED:
        with tempfile.TemporaryDirectory() as folder:
            work = make_work(argparse.Namespace(method=method, model=model, **SMALL), Path(folder))
        batch, state, values = next(batches(work)), work.state, []
        planned = memory.count_step_bytes(work.step.lower(state, batch).compile())
        for _ in range(3):
            state, metrics = work.step(state, batch)
            values += [float(metrics["loss"]), float(metrics["gradient_norm"])]
        used = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
        found[method] = {"values": values, "planned_bytes": planned, "used_bytes": used}
    return found


def run_json(command: list[str], environ: Mapping[str, str] | None = None) -> Any:
    """Run a command and return the JSON of its last line, or its error."""
    ended = subprocess.run(command, env=os.environ | dict(environ or {}), capture_output=True, text=True, check=False)
    return ended.stderr.strip()[-500:] if ended.returncode else json.loads(ended.stdout.strip().splitlines()[-1])


def compare_with_cpu() -> dict[str, Any]:
    """Return the largest relative difference of losses and gradient norms from those of the CPU, by method."""
    command = [sys.executable, __file__, "--steps"]
    here, cpu = run_json(command), run_json(command, {"JAX_PLATFORMS": "cpu"})
    if isinstance(here, str) or isinstance(cpu, str):
        return {"error": here if isinstance(here, str) else cpu}
    for method, found in here.items():
        pairs = zip(found.pop("values"), cpu[method]["values"], strict=True)
        found["difference"] = max(abs(a - b) / max(abs(b), 1e-9) for a, b in pairs)
    return here


def kill_and_resume(folder: Path) -> dict[str, Any]:
    """Return whether a run that is killed in its pretraining ends with the predictions of one that is not."""
    config = Path(__file__).parents[2] / "tests" / "tiny_config.py"

    def start(name: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "jaxssl", "run", str(config), f"--workdir={folder / name}"]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    killed, rows = start("killed"), folder / "killed" / "metrics.jsonl"
    while killed.poll() is None and not (rows.exists() and '"step": 4' in rows.read_text()):
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    codes = [killed.wait(), start("killed").wait(), start("whole").wait()]
    predictions = [folder / name / "predictions.csv" for name in ("killed", "whole")]
    same = all(p.exists() for p in predictions) and len({p.read_bytes() for p in predictions}) == 1
    return {"exit_codes": codes, "same_bytes": same}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("folder", type=Path, nargs="?", default=Path("accelerator_check"))
    p.add_argument("--steps", action="store_true", help="only print what `take_steps` returns")
    a = p.parse_args()
    runtime.configure()
    if a.steps:
        print(json.dumps(take_steps()))
        return
    a.folder.mkdir(parents=True, exist_ok=True)
    # This process takes no device, of which each command that it runs may want all memory.
    devices = run_json([sys.executable, "-c", "import jax, json; print(json.dumps([str(d) for d in jax.devices()]))"])
    found = {"devices": devices, "compared_with_cpu": compare_with_cpu(), "resume": kill_and_resume(a.folder)}
    found["speed"] = {
        f"{row} --dtype={dtype}": run_json([*BENCH, *row.split(), "--brief", f"--dtype={dtype}"])
        for row in ROWS
        for dtype in ("float32", "bfloat16")
    }
    files.write_json(a.folder / "check.json", found)
    lines = [f"Devices: {devices}", "", "| check | result |", "|---|---|"]
    parts = {**{f"equal to the CPU: {k}": v for k, v in found["compared_with_cpu"].items()}, "resume": found["resume"]}
    lines += [f"| {name} | {json.dumps(value)} |" for name, value in (parts | found["speed"]).items()]
    files.write_text(a.folder / "check.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
