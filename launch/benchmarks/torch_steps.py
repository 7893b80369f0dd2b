"""Time what lightly's script lacks in PyTorch: a supervised step, and the features of an encoder in `eval()`.

    peer/bin/python launch/benchmarks/torch_steps.py --method supervised --model tf_efficientnet_lite0 --size 64

Prints one JSON line with the fields that `launch/bench.py` compares. These methods have no augmentation, here and in
`bench.py`: end to end starts from uint8 images in memory. Memory is channels-last, PyTorch's faster layout on CPUs.
"""

import argparse
import json
import resource
import statistics
import time

import timm
import torch
from torch import nn

CLASSES = 10


def parse_args() -> argparse.Namespace:
    p = argparse.ArgumentParser()
    p.add_argument("--method", choices=("supervised", "features"), default="supervised")
    p.add_argument("--model", default="tf_efficientnet_lite0")
    p.add_argument("--size", type=int, default=64)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--steps", type=int, default=6)
    p.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    return p.parse_args()


def main() -> None:
    a = parse_args()
    training = a.method == "supervised"
    net = timm.create_model(a.model, num_classes=CLASSES if training else 0).to(memory_format=torch.channels_last)
    net.train(training)
    optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
    images = torch.randint(0, 256, (2048, 3, a.size, a.size), dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (2048,))

    def prepare(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = (images[rows].float() / 255 - 0.5) / 0.25
        return x.to(memory_format=torch.channels_last), labels[rows]

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        autocast = torch.autocast("cpu", torch.bfloat16, enabled=a.bf16)
        if not training:
            with torch.inference_mode(), autocast:
                net(x).sum().item()
            return
        with autocast:
            loss = nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    step(*prepare(torch.arange(a.batch)))
    start = time.perf_counter()
    for _ in range(a.steps):
        step(*prepare(torch.randperm(2048)[: a.batch]))
    end_to_end = time.perf_counter() - start
    alone, batch = [], prepare(torch.arange(a.batch))
    for _ in range(max(3, a.steps // 2)):
        start = time.perf_counter()
        step(*batch)
        alone.append(time.perf_counter() - start)
    result = {
        "images_per_second": round(a.batch * a.steps / end_to_end, 1),
        "images_per_second_step_only": round(a.batch / statistics.median(alone), 1),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(
        json.dumps({"peer": "torch", "method": a.method, "model": a.model, "size": a.size, "batch": a.batch} | result)
    )


if __name__ == "__main__":
    main()
