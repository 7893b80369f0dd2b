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
TINY = "--size=32 --batch=8 --images=16 --steps=1"
SMALL = {"size": 32, "patch": 8, "batch": 16, "images": 16, "depth": 0, "dtype": "float32", "streamed": False}
COMPARED = {"simclr": "resnet18", "mae": "vit_tiny", "supervised": "efficientnet_lite0"}


def take_steps(method: str) -> dict[str, Any]:
    """Return losses and gradient norms of three float32 steps, and the planned and the largest used bytes."""
    jax.config.update("jax_default_matmul_precision", "highest")
    with tempfile.TemporaryDirectory() as folder:
        work = make_work(argparse.Namespace(method=method, model=COMPARED[method], **SMALL), Path(folder))
    batch, state, values = next(batches(work)), work.state, []
    planned = memory.count_step_bytes(work.step.lower(state, batch).compile())
    for _ in range(3):
        state, metrics = work.step(state, batch)
        values += [float(metrics["loss"]), float(metrics["gradient_norm"])]
    used = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {"values": values, "planned_bytes": planned, "used_bytes": used}


def run_json(command: list[str], environ: Mapping[str, str] | None = None) -> Any:
    """Run a command and return the JSON of its last line, or its error."""
    ended = subprocess.run(command, env=os.environ | dict(environ or {}), capture_output=True, text=True, check=False)
    return ended.stderr.strip()[-500:] if ended.returncode else json.loads(ended.stdout.strip().splitlines()[-1])


def compare_with_cpu(method: str) -> Any:
    """Return the largest relative difference of losses and gradient norms from those of the CPU, and the memory."""
    command = [sys.executable, __file__, f"--steps={method}"]
    here, cpu = run_json(command), run_json(command, {"JAX_PLATFORMS": "cpu"})
    if isinstance(here, str) or isinstance(cpu, str):
        return {"error": here if isinstance(here, str) else cpu}
    pairs = zip(here.pop("values"), cpu["values"], strict=True)
    return {"difference": max(abs(a - b) / max(abs(b), 1e-9) for a, b in pairs)} | here


def kill_and_resume(folder: Path) -> dict[str, Any]:
    """Return whether a run that is killed in its pretraining ends with the predictions of one that is not."""
    config = Path(__file__).parents[2] / "tests" / "tiny_config.py"

    def start(name: str) -> subprocess.Popen:
        options = f"--workdir={folder / name}", "--config.deterministic=True"
        command = [sys.executable, "-m", "jaxssl", "run", str(config), *options]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    killed, rows = start("killed"), folder / "killed" / "metrics.jsonl"
    while killed.poll() is None and not (rows.exists() and '"step": 4' in rows.read_text()):
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    codes = [killed.wait(), start("killed").wait(), start("whole").wait()]
    predictions = [folder / name / "predictions.csv" for name in ("killed", "whole")]
    same = all(p.exists() for p in predictions) and len({p.read_bytes() for p in predictions}) == 1
    return {"exit_codes": codes, "resumed_to_the_same_bytes": codes == [-signal.SIGKILL, 0, 0] and same}


def make_table(found: Mapping[str, Any]) -> str:
    """Return what is written to check.md."""
    rows = {f"compared with the CPU, {method}": value for method, value in found["compared_with_cpu"].items()}
    rows |= {"killed and resumed": found["resume"]} | found["speed"]
    lines = [f"Devices: {found['devices']}{', tiny sizes' * found['tiny']}", "", "| check | result |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | `{json.dumps(value)}` |" for name, value in rows.items())]) + "\n"


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("folder", type=Path, nargs="?", default=Path("accelerator_check"))
    p.add_argument("--tiny", action="store_true", help="a trial of the check itself: less of it, at tiny sizes")
    p.add_argument("--steps", choices=COMPARED, help="only print what `take_steps` returns")
    a = p.parse_args()
    runtime.configure()
    if a.steps:
        print(json.dumps(take_steps(a.steps)))
        return
    a.folder.mkdir(parents=True, exist_ok=True)
    # This process takes no device, of which each command that it runs may want all memory.
    devices = run_json([sys.executable, "-c", "import jax, json; print(json.dumps([str(d) for d in jax.devices()]))"])
    compared = list(COMPARED)[: 1 if a.tiny else None]
    found = {"devices": devices, "tiny": a.tiny, "compared_with_cpu": {m: compare_with_cpu(m) for m in compared}}
    with tempfile.TemporaryDirectory() as folder:
        found["resume"] = kill_and_resume(Path(folder))
    rows = [f"{row} {TINY}" for row in ROWS[::2][:2]] if a.tiny else ROWS
    found["speed"] = {
        f"{row} --dtype={dtype}": run_json([*BENCH, *row.split(), "--brief", f"--dtype={dtype}"])
        for row in rows
        for dtype in ("float32", "bfloat16")
    }
    files.write_json(a.folder / "check.json", found)
    files.write_text(a.folder / "check.md", make_table(found))
    print(make_table(found))


if __name__ == "__main__":
    main()
