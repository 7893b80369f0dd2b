"""Show what a file of weights holds, and which encoder and options it fits.

    jaxssl weights dinov2_vits14_pretrain.pth

The file is a .safetensors, .pth or .pt file. Its weights are used with --config.init.weights=FILE and the model and
options that this command prints. Attention heads, the kind of GELU and the pooling are not stored in weights: those of
the published models are printed.
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

from jaxssl.results.words import clean_text
from jaxssl.training import runtime
from jaxssl.weights import hub
from jaxssl.weights.describe import Description, Network, describe

GROUP = "trained networks"
MAX_GROUPS = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="A .safetensors, .pth or .pt file, or hf:owner/name@revision.")


def run(options: argparse.Namespace) -> int:
    runtime.configure()
    print("\n".join(lines(describe(hub.find_file(options.file)))))
    return 0


def lines(content: Description) -> Iterator[str]:
    """Return the description of a file as lines of text."""
    yield f"{content.file}: {content.tensors:,} tensors, {content.parameters:,} numbers, SHA-256 {content.sha256}"
    for name, note in content.notes.items():
        yield clean_text(f"  {name}: {note if len(note) <= 100 else note[:97] + '...'}")
    if not content.networks:
        yield f"no network with a known layout: {content.unknown}; tensors: {counts(content.groups)}"
    if len(content.networks) > 1:
        yield f"{len(content.networks)} networks: choose one with --config.init.prefix=PREFIX"
    for network in content.networks:
        yield from describe_network(content.file, network, len(content.networks) > 1)


def describe_network(file: Path, network: Network, several: bool) -> Iterator[str]:
    details = [f"prefix {network.prefix!r}"] * bool(network.prefix)
    details += [f"{network.channels} channel{'s' * (network.channels > 1)}"] * bool(network.channels)
    details += [f"positions of {network.size} px"] * bool(network.size)
    yield ", ".join([f"{network.family} in the naming of {network.naming}", *details])
    if network.model:
        yield "  " + " ".join(f"--config.{name}={value}" for name, value in fields(file, network, several).items())
    if network.left_out:
        yield f"  left out: {counts(network.left_out)}"
    if network.problem:
        yield f"  does not fit: {network.problem}"


def fields(file: Path, network: Network, several: bool) -> dict[str, str]:
    """Return the config fields that load this network, as they are written on the command line."""
    model = network.model
    values = {"init.weights": file} | ({"init.prefix": network.prefix} if several else {})
    values |= {"model.name": model["name"]} | ({"model.stem": "small"} if model["stem"] == "small" else {})
    values |= {f"model.options.{name}": value for name, value in model["options"].items()}
    return {name: str(value).replace(" ", "") for name, value in values.items()}


def counts(groups: Mapping[str, int]) -> str:
    """Return "head (2), decoder_blocks (24)", at most `MAX_GROUPS` of them."""
    shown = [f"{name} ({count})" for name, count in groups.items()]
    more = [f"and {len(shown) - MAX_GROUPS} more"] * (len(shown) > MAX_GROUPS)
    return ", ".join(shown[:MAX_GROUPS] + more)
