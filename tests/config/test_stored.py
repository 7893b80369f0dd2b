"""Configs that were stored before a field of today existed."""

import copy

import pytest

from jaxssl import files
from jaxssl.config import fields, stored
from tests.refusals import refuses


@pytest.fixture(scope="module")
def whole():
    c = fields.base()
    fields.fill_options(c)
    return stored.config_to_json(c)


def test_each_field_that_is_missing_has_the_value_of_before(whole):
    assert stored.complete(whole) == whole
    found = dict(files.flatten(stored.complete({})))
    for field in fields.FIELDS:
        if not field.path.endswith(".options"):
            expected = field.default if field.before is None else field.before
            assert found[field.path] == (list(expected) if isinstance(expected, tuple) else expected), field.path


def test_options_that_are_missing_have_their_default(whole):
    less = copy.deepcopy(whole)
    del less["pretrain"]["options"]["hidden"], less["data"]["options"]
    assert stored.complete(less) == whole


@pytest.mark.parametrize("config", [None, 3, [1], {"data": 3}, {"a.b": 3}, {"data": {"name": "folder", "options": []}}])
def test_what_is_no_config_is_damaged(tmp_path, config):
    files.write_json(tmp_path / "config.json", {"schema_version": 1, "config": config})
    with refuses("damaged", None, "config.json"):
        stored.read_config(tmp_path)
