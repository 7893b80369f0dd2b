"""Options of functions that are called by name."""

import doctest

import pytest

from jaxssl import models, objectives, option_calls
from jaxssl.objectives import distill
from tests import tiny
from tests.refusals import refuses


def make(encoder, *, classes, margin=1.0):
    return encoder, classes, margin


@pytest.mark.parametrize("module", [option_calls, models, objectives])
def test_examples(module):
    assert doctest.testmod(module).failed == 0


def test_a_function_gets_its_options_and_what_it_names_of_the_context():
    context = {"classes": 3, "steps": 10}
    call = dict(context=context, no_options=context, section="pretrain.options", name="pairs")
    assert option_calls.call(make, "encoder", options={"margin": 2.0}, **call) == ("encoder", 3, 2.0)
    with refuses("unknown-name", "pretrain.options.margins", "did you mean 'margin'", "'pairs'"):
        option_calls.call(make, "encoder", options={"margins": 2.0}, **call)
    with refuses("unknown-name", "pretrain.options.steps"):
        option_calls.call(make, "encoder", options={"steps": 2}, **call)


def test_names_that_are_unknown():
    with refuses("unknown-name", "model.name", "did you mean 'resnet18'"):
        models.make("resnet17")
    with refuses("unknown-name", "model.options.widht", "did you mean 'width'"):
        models.make("resnet18", {}, {"widht": 4})
    with refuses("unknown-name", "model.options.parent", "stages, width"):
        models.make("resnet18", {}, {"parent": None})
    with refuses("out-of-range", "model.options", "heads=5"):
        models.make("vit_tiny", {}, {"heads": 5})
    with refuses("unknown-name", "pretrain.objective", "did you mean 'byol'"):
        objectives.make("boyl", tiny.Encoder(), {}, {})


def test_the_options_of_a_teacher_are_the_callers():
    options = objectives.options("distill")
    assert list(options) == ["teacher", "evaluation", "teacher_size", "on", "temperature", "label_weight"]
    teacher = distill.Teacher("there", lambda variables, image: image, {}, 1)
    made = objectives.make("distill", tiny.Encoder(), {"classes": 3, "teacher": teacher}, options)
    assert made.constant_target
