"""The configuration: what is refused, what is said, and that config.yaml is the models'."""

import itertools
import json
import re
from pathlib import Path

import pydantic
import pytest
import yaml

from psflib.config import (
    Settings,
    config_schema,
    config_text,
    find_table,
    load_settings,
    read_config,
    section_settings,
)

ROOT = Path(__file__).parents[2]


def models(model=Settings):
    """All models of settings, the nested ones too."""
    yield model
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, pydantic.BaseModel):
            yield from models(field.annotation)


def complaint(mapping):
    with pytest.raises(ValueError, match="the configuration") as caught:
        load_settings(mapping)
    return str(caught.value)


def test_config_yaml_holds_the_defaults():
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    assert load_settings(yaml.safe_load(text)) == Settings()
    assert text == config_text(), "run `make schema`"


def test_schema_is_current():
    text = (ROOT / "workflow/schemas/config.schema.json").read_text(encoding="utf-8")
    assert json.loads(text) == json.loads(json.dumps(config_schema())), "run `make schema`"


def test_nothing_given_means_defaults():
    assert load_settings() == load_settings({}) == load_settings({"prepare": None}) == Settings()


@pytest.mark.parametrize("model", list(models()), ids=lambda model: model.__name__)
def test_models_are_frozen_strict_and_explained(model):
    assert model.model_config["frozen"] and model.model_config["extra"] == "forbid"
    for name, field in model.model_fields.items():
        assert not field.is_required(), f"{name} has no default"
        assert field.description or field.annotation in set(models()), f"{name} is not explained"
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        setattr(model(), next(iter(model.model_fields)), None)


@pytest.mark.parametrize(
    "section",
    [
        n
        for n, field in Settings.model_fields.items()
        if isinstance(field.default, pydantic.BaseModel)
    ],
)
def test_a_section_survives_being_written(section):
    """Settings go through Snakemake as plain values."""
    plain = json.loads(json.dumps(Settings().section(section)))
    assert section_settings(section, plain) == getattr(Settings(), section)


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"subtrakt": {}}, "subtrakt: unknown section; did you mean 'subtract'?"),
        ({"xyz": {}}, "xyz: unknown section; known here: fields, output,"),
        (
            {"detect": {"treshold": 5}},
            "detect.treshold: unknown setting; did you mean 'threshold'?",
        ),
        ({"detect": {"threshold": -1}}, "detect.threshold: must be greater than 0, not -1"),
        ({"detect": {"threshold": "high"}}, "detect.threshold: must be a number"),
        ({"subtract": {"method": "all"}}, "subtract.method: must be one of al"),
        (
            {"subtract": {"al": {"kernel_ordr": 1}}},
            "subtract.al.kernel_ordr: unknown setting; did you mean 'kernel_order'?",
        ),
        ({"detect": 5}, "detect: must be a section of `key: value`, not 5"),
        ("detect", "must be sections of `key: value`"),
    ],
)
def test_each_mistake_is_named(mapping, said):
    assert said in complaint(mapping)


def test_all_mistakes_at_once():
    text = complaint({"subtrakt": {}, "detect": {"treshold": 5, "threshold": 0}})
    assert "3 problems" in text and len(text.splitlines()) == 4


def test_numbers_of_yaml_1_1_are_understood():
    """PyYAML reads 1e5 as a word, and a table may be called 2024."""
    settings = load_settings(yaml.safe_load("simulate: {brightest_star: 1e5}\nfields: 2024"))
    assert settings.simulate.brightest_star == 1e5 and settings.fields == "2024"


def test_each_setting_has_a_comment():
    lines = config_text().splitlines()
    for above, line in itertools.pairwise(lines):
        if re.match(r"\s+\w+:", line):
            assert above.strip().startswith("# "), line


def test_read_config(tmp_path):
    (tmp_path / "my.yaml").write_text("detect:\n  threshold: 7\n")
    assert read_config(tmp_path / "my.yaml").detect.threshold == 7


def test_find_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    (home / "fields.csv").touch()
    assert find_table("fields.csv", home) == home / "fields.csv"
    assert find_table("mine.csv", home) == Path("mine.csv")  # not there: said by read_fields
    Path("fields.csv").touch()
    assert find_table("fields.csv", home) == Path("fields.csv")
