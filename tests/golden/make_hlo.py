"""Two small steps as the TPU compiler has them, for tests/test_tpu.py: `python tests/golden/make_hlo.py`, with libtpu.

The gradient of two layers on v5e:4x4: "fsdp" splits the weights among 4 and the batch among 16 chips; "parts" has whole
weights on each chip and adds the gradients of 3 parts of the batch in a loop. What the tests do not read is left out.
"""

import os
import re
from pathlib import Path

os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5litepod-4"}
os.environ |= {"ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "JAX_PLATFORMS": "cpu"}

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

HIDDEN, WIDTH, BATCH = 2048, 512, 768


def loss(w: dict, x: jax.Array) -> jax.Array:
    h = jax.nn.relu(x @ w["a"])
    return jnp.square((h - h.mean(0)) @ w["b"]).mean()


def fsdp(w: dict, x: jax.Array) -> dict:
    return jax.tree.map(lambda w, g: w - g, w, jax.grad(loss)(w, x))


def parts(w: dict, x: jax.Array) -> dict:
    def add(total: dict, part: jax.Array) -> tuple[dict, None]:
        return jax.tree.map(jnp.add, total, jax.grad(loss)(w, part)), None

    split = x.reshape(-1, 3, WIDTH).swapaxes(0, 1)
    total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, w), split)
    return jax.tree.map(lambda w, g: w - g, w, total)


def short(text: str) -> str:
    text = text[: text.index("\n\nFileNames")] + text[text.index("\n\n%") :] if "\n\nFileNames" in text else text
    cycles = re.compile(r'"estimated_cycles":"\d+"')
    text = re.sub(r"backend_config=.*", lambda m: "".join(cycles.findall(m[0])), text)
    return re.sub(r" stack_frame_id=\d+|, $", "", text, flags=re.MULTILINE)


if __name__ == "__main__":
    devices = topologies.get_topology_desc("v5e:4x4", "tpu").devices
    mesh = jax.make_mesh((4, 4), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2, devices=devices)
    for step, weights in ((fsdp, P("fsdp")), (parts, P())):
        where, batch = NamedSharding(mesh, weights), NamedSharding(mesh, P(("data", "fsdp")))
        w = {"a": jax.ShapeDtypeStruct((WIDTH, HIDDEN), "float32", sharding=where)}
        w["b"] = jax.ShapeDtypeStruct((HIDDEN, WIDTH), "float32", sharding=where)
        x = jax.ShapeDtypeStruct((BATCH, WIDTH), "bfloat16", sharding=batch)
        compiled = jax.jit(step, donate_argnums=0, out_shardings={"a": where, "b": where}).lower(w, x).compile()
        Path(__file__).with_name(f"hlo_{step.__name__}.txt").write_text(short(compiled.as_text()))
