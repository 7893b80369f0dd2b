"""The planned steps equal those of a run, the counts those of the config; with libtpu (slow), two real plans."""

import importlib.util
import json
from pathlib import Path

import jax
import pytest
from planning import chips, compiler, estimate, hlo, output, plans, steps

from jaxssl.run import experiment
from jaxssl.training import sharding, step
from tests import tiny_config
from tests.refusals import refuses

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("plan", ROOT / "launch" / "plan.py")
plan = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(plan)


@pytest.fixture
def command(monkeypatch, capfd):
    """Return a function of arguments -> exit code, stdout, stderr."""
    monkeypatch.chdir(ROOT)
    # Keep the tests' own devices.
    monkeypatch.setattr(jax.config, "update", lambda name, value: None)

    def run(*arguments):
        return plan.main(arguments), *capfd.readouterr()

    return run


def tiny(**pretrain):
    config = tiny_config.get_config()
    config.mesh.data = 2
    config.pretrain.images_per_epoch = config.transfer.images_per_epoch = 32
    config.pretrain.epochs = config.transfer.epochs = 1
    config.transfer.freeze_epochs = 0
    config.transfer.protocols = ("finetune",)
    config.pretrain.update(pretrain)
    return config


def describe(jitted, state, batch):
    """Return shapes, types and shardings of the inputs of a step, and its FLOPs."""
    arrays = jax.tree.leaves_with_path((state, batch))
    names = {jax.tree_util.keystr(path): (a.shape, str(a.dtype), str(a.sharding.spec)) for path, a in arrays}
    return names, jitted.lower(state, batch).cost_analysis()["flops"]


@pytest.mark.slow
def test_the_planned_steps_equal_those_of_a_run(tmp_path, monkeypatch):
    config, taken, known, jit_step = tiny(), [], [], step.jit_step

    def recording(*args):
        jitted = jit_step(*args)

        def first(state, batch):
            if jitted not in known:
                taken.append(describe(jitted, state, batch))
                known.append(jitted)
            return jitted(state, batch)

        return first

    with monkeypatch.context() as patched:
        patched.setattr(step, "jit_step", recording)
        experiment.run(config, tmp_path)
    mesh = sharding.make_mesh(2, 1)
    pretrain, transfer = steps.phases(config, steps.known_images(config.data, 0, 0))
    assert describe(*pretrain.make_step(16, mesh)) == taken[0]
    assert describe(*transfer.make_step(16, mesh)) == taken[-1] != taken[0]
    counts = [
        sum(json.loads(line)["phase"].startswith(phase) and "loss" in json.loads(line) for line in lines)
        for lines in [(tmp_path / "metrics.jsonl").read_text().splitlines()]
        for phase in ("pretrain", "finetune")
    ]
    assert [pretrain.seen, transfer.seen] == [16 * n for n in counts]


def test_the_number_of_images_is_known_or_required():
    config = tiny()
    assert steps.known_images(config.data, 0, 0) == (120, 1, 3, "float32")
    assert steps.known_images(config.data, 7, 3) == (7, 3, 3, "float32")
    config.data.name = "ham10000"
    assert steps.known_images(config.data, 0, 0) == (10015, 3, 7, "uint8")
    config.data.name = "npz"
    with refuses("missing", "--images", "npz"):
        steps.known_images(config.data, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "--topology=v5e:4x4"),
        (("--topology=v5e:4x4", "--sweep=v5e:2x2"), "--topology=v5e:4x4"),
        (("--topology=v7:4x4",), "'v7' is not a known chip"),
        (("--topology=v5e:4x4",), "pip install 'jaxssl[tpu]'"),
        (("--topology=h100:8",), f"jax-cuda13-pjrt=={jax.__version__}"),
        (("--sweep=v5e:2x2,v5e:4",), "'v5e:4' needs 2 sides"),
        (("--topology=v5e:4x4", "--config.data.name=npz"), "--images is missing"),
        (("--topology=v5e:4x4", "--config.pretrain.epohcs=1"), "epohcs"),
    ],
)
def test_invalid_input_is_reported_in_one_line(command, monkeypatch, arguments, line):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, _, errors = command("--config=tests/tiny_config.py", *arguments)
    assert code == 2
    assert errors.startswith("jaxssl: ") and errors.count("\n") == 1 and line in errors


def test_a_batch_that_does_not_divide_is_refused(monkeypatch):
    mesh = sharding.make_mesh(8, 1)
    (phase, _) = steps.phases(tiny(batch_size=12), steps.known_images(tiny().data, 0, 0))
    with refuses("mismatch", "pretrain.batch_size", "12", "8 devices"):
        compiler.compile_step(phase, 12, mesh, chips.CHIPS["h100"])


@pytest.mark.parametrize("batch_size", [160, 4096])
def test_the_largest_batch_takes_few_compilations(monkeypatch, batch_size):
    mesh, tried = sharding.make_mesh(8, 1), []
    phase = steps.phases(tiny(), steps.known_images(tiny().data, 0, 0))[0]

    def compile_step(phase, batch_size, mesh, chip=None):
        tried.append(batch_size)
        memory = 5e4 + 1e3 * batch_size
        return estimate.Program(memory, memory <= 1e6)

    monkeypatch.setattr(compiler, "compile_step", compile_step)
    memory = compile_step(phase, batch_size, mesh).memory
    planned = {"batch_size": batch_size, "memory_bytes": memory, "fits": memory <= 1e6, "memory_of_chip": 1e6}
    found = plans.largest_batch(phase, mesh, None, planned)
    assert 950 / (1 + 1 / 8) - 8 <= found <= 950
    assert len(tried) <= 5


@pytest.mark.parametrize(
    ("message", "bytes"),
    [
        ("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 23.50G of 15.75G hbm.", 23.5 * 2**30),
        ("RESOURCE_EXHAUSTED: ... required for HLO temporaries (512.00M) exceeds available HBM (15.75G).", 2**29),
    ],
)
def test_required_memory_is_parsed_from_an_out_of_memory_error(message, bytes):
    assert compiler.required_memory(message) == bytes
    with refuses("unsupported", None, "INTERNAL: something else"):
        compiler.required_memory("INTERNAL: something else")


def test_operations_are_merged_over_layers_and_ordered_by_cycles():
    conv = "layer{}_{}/conv{}/cond/branch_0_fun/{}conv_general_dilated"
    cycles = {
        f"jit(step)/jvp(ResNet)/{conv.format(1, 0, 1, '')}": 10,
        f"jit(step)/jvp(ResNet)/{conv.format(2, 3, 2, '')}": 15,
        f"jit(step)/transpose(jvp(ResNet))/{conv.format(2, 3, 2, 'transpose()/')}": 60,
        "jit(step)/add": 15,
    }
    kernels = tuple(hlo.Kernel(name, 0, number, 2) for name, number in cycles.items())
    assert plans.kernel_shares(estimate.Program(0, True, 0, kernels)) == [
        ("backward of ResNet/layer/conv/conv_general_dilated", 0.6),
        ("ResNet/layer/conv/conv_general_dilated", 0.25),
        ("add", 0.15),
    ]


def point(chips, step):
    seconds = {"step": step, "messages": 0.0}
    return {
        "topology": f"v5e:{chips}",
        "chips": chips,
        "batch_size": 8 * chips,
        "memory_bytes": 2**30,
        "fits": True,
        "seconds": seconds,
        "utilisation": 0.5,
        "images_per_second": 8 * chips / step,
        "chip_hours": chips * step,
    }


def test_a_sweep_shows_the_efficiency_of_each_slice(capsys):
    points = [point(4, 1.0), point(16, 1.25), {**point(64, 2.0), "fits": False}]
    plan.Console(width=80).print(output.make_table(points))
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "v5e" in line]
    assert [row[:4] for row in rows] == [["v5e:4", "4", "32", "1.0"], ["v5e:16", "16", "128", "1.0"], rows[2][:4]]
    assert [row[-3:-1] for row in rows[:2]] == [["100", "%"], ["80", "%"]] and rows[2][-2:] == ["too", "large"]
    assert output.draw_sweep(points).count("<svg") == 1


def test_with_once_only_the_messages_are_recalculated(monkeypatch):
    config = tiny()
    config.mesh.data = 4
    meshes = {"v5e:2x2": 4, "v5e:2x4": 8}
    monkeypatch.setattr(compiler, "make_mesh", lambda config, place: sharding.make_mesh(meshes[place.name], 1))
    compiled = []

    def compile_step(phase, batch_size, mesh, chip=None):
        compiled.append((batch_size, mesh.size))
        collectives = (hlo.Collective("all-reduce", 10**6, mesh.size, 2),)
        return estimate.Program(2**30, True, 1e12, (hlo.Kernel("", 10**9, 10**7, 1),), collectives)

    monkeypatch.setattr(compiler, "compile_step", compile_step)
    places = [chips.parse_topology(name) for name in meshes]
    known = steps.known_images(config.data, 0, 0)
    each = plans.plan_sweep(config, known, places, once=False)
    assert compiled == [(16, 4), (32, 8)]
    assert plans.plan_sweep(config, known, places, once=True) == each
    assert compiled[2:] == [(16, 4)]
    monkeypatch.setattr(compiler, "make_mesh", lambda config, place: sharding.make_mesh(2, 1))
    with refuses("conflict", "--once"):
        plans.plan_sweep(config, known, places, once=True)


# With the compiler.

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "gflops_an_image", "gradient_bytes"),
    [
        # ResNet-50: 4.1 G multiply-adds; forward and backward for two views, and forward for the target network.
        (("--config=configs/byol_ham.py",), 2 * 4.1 * 2 * (3 + 1), 4 * 23.5e6),
        # ViT-B/16: 17.6 G for all 197 tokens; 50 of them are visible.
        (
            (
                "--config=configs/mae_brain_tumor.py",
                "--config.model.name=vit_base",
                "--config.model.options.patch=16",
                "--config.model.dtype=bfloat16",
                "--config.data.image_size=224",
                "--config.pretrain.batch_size=1024",
            ),
            2 * 17.6 * 50 / 197 * 3,
            2 * 86e6,  # The layers compute in bfloat16.
        ),
    ],
    ids=["byol", "mae"],
)
def test_two_real_plans(command, tmp_path, arguments, gflops_an_image, gradient_bytes):
    file = tmp_path / "plan.json"
    code, printed, errors = command(
        *arguments, "--topology=v5e:4x4", "--config.transfer.protocols=()", "--no-largest", f"--json={file}"
    )
    assert code == 0, errors
    assert "utilisation" in printed and "Not included" in printed
    (found,) = json.loads(file.read_text())["plans"]
    assert found["fits"] and found["memory_bytes"] < 16 * 2**30
    # Heads, decoder and augmentation add to it; padding subtracts from it.
    an_image = found["flops"] * found["chips"] / found["batch_size"] / 1e9
    assert 0.95 * gflops_an_image < an_image < 1.6 * gflops_an_image
    # Data-parallel: all gradients are summed once.
    added = sum(c["bytes"] * c["count"] for c in found["collectives"] if c["kind"] == "all-reduce")
    assert gradient_bytes < added < 2 * gradient_bytes
    assert 0.05 < found["utilisation"] < 0.8
    assert found["seconds"]["step"] >= max(found["seconds"][name] for name in ("compute", "memory", "kernels"))
