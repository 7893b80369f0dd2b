"""Compare LoRA with full fine-tuning: trained parameters, state of the optimizer, memory and time of a step.

python launch/lora.py            ViT-Ti/16 at 224 px, batches of 16
python launch/lora.py vit_small --batch=8
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl import models
from jaxssl.models.shapes import count_parameters
from jaxssl.objectives import supervised
from jaxssl.training import lora, memory, optimizers, runtime
from jaxssl.training.step import init_state, train_step

STEPS = 5
ROWS = {"full": (0, ()), "LoRA, rank 8, q and v": (8, ("q", "v")), "LoRA, rank 8, all": (8, lora.PRODUCTS)}


def measure(
    name: str, batch: int, size: int, rank: int, products: tuple[str, ...]
) -> tuple[int, int, int, float, float]:
    """Return trained parameters, bytes of the optimizer and of a step, and the median seconds of a step, CPU last."""
    encoder = models.make(name, {}, {})
    objective = lora.adapt(supervised.make(encoder, classes=10), rank, 16.0, products)
    tx = optimizers.make("adamw", learning_rate=1e-4, steps=100, lora=rank > 0)
    rng = np.random.default_rng(0)
    images = {"image": rng.normal(size=(batch, size, size, 3)).astype("f4"), "label": np.arange(batch) % 10}

    def augment(key: jax.Array, batch: dict) -> dict:
        return batch | {"views": (batch["image"],)}

    state = jax.jit(lambda key: init_state(key, images, objective, augment, tx))(jax.random.key(0))
    compiled = jax.jit(lambda s, b: train_step(s, b, objective, augment, tx), donate_argnums=0).lower(state, images)
    step = compiled.compile()
    seconds, cpu = [], []
    for _ in range(STEPS + 1):
        start, cpu_start = time.perf_counter(), time.process_time()
        state, _ = jax.block_until_ready(step(state, images))
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - cpu_start)
    trained = count_parameters({k: v for k, v in state.params.items() if k != "encoder" or not rank})
    moments = sum(leaf.nbytes for leaf in jax.tree.leaves(state.opt_state) if jnp.ndim(leaf))
    return (
        trained,
        moments,
        memory.count_step_bytes(step) or 0,
        statistics.median(seconds[1:]),
        statistics.median(cpu[1:]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="vit_tiny")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=224)
    options = parser.parse_args()
    runtime.configure()
    names = ("fine-tuning", "trained parameters", "optimizer, MiB", "a step, MiB", "a step, s", "CPU, s")
    print(f"| {' | '.join(names)} |\n{'|---' * len(names)}|")
    for row, (rank, products) in ROWS.items():
        trained, moments, needed, seconds, cpu = measure(options.model, options.batch, options.size, rank, products)
        print(
            f"| {row} | {trained:,} | {moments / 2**20:.1f} | {needed / 2**20:.0f} | {seconds:.2f} | {cpu:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
