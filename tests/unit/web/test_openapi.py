"""The OpenAPI file is current, valid, and describes what the endpoints really take and answer."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

from ovi_studio.core.spec import ClipSpec
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.studio import Studio
from ovi_studio.web.api import job_facts
from ovi_studio.web.openapi import describe_api, render

FILE = ROOT / "docs" / "openapi.json"


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    studio = Studio.open(tmp_path / "outputs", RuntimeOptions(checkpoint_directory=tmp_path / "checkpoints"))
    yield studio
    studio.close()


def test_the_file_is_current(studio: Studio) -> None:
    now = render(describe_api(studio))
    assert FILE.read_text(encoding="utf-8") == now, "python -m ovi_studio.web.openapi > docs/openapi.json"


def test_a_job_is_described_as_it_is_answered(studio: Studio) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="comes with the package mcp")
    (job,) = studio.store.add([ClipSpec(prompt="a", variant="b")], "")
    document = json.loads(FILE.read_text(encoding="utf-8"))
    schema = document["components"]["schemas"]["Job"]
    facts = job_facts(studio.store.get(job))
    assert list(schema["properties"]) == list(facts)
    jsonschema.validate(json.loads(json.dumps(facts)), schema)


def test_every_reference_leads_somewhere() -> None:
    document = json.loads(FILE.read_text(encoding="utf-8"))

    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            yield from [node["$ref"]] if "$ref" in node else []
            node = list(node.values())
        for child in node if isinstance(node, list) else []:
            yield from references(child)

    assert {found.rsplit("/", 1)[1] for found in references(document)} <= document["components"]["schemas"].keys()
