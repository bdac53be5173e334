"""The documents say what is there: settings, links, modules, and the tests that hold the decisions."""

import re
from pathlib import Path

import pytest

from sluicegate.settings import Settings

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
PACKAGE = ROOT / "src" / "sluicegate"


def test_the_readme_lists_every_setting_with_its_meaning():
    readme = (ROOT / "README.md").read_text()
    rows = dict(re.findall(r"^\| `SLUICEGATE_(\w+)` \| [^|]* \| (.*) \|$", readme, re.MULTILINE))
    assert rows == {name.upper(): field.description for name, field in Settings.model_fields.items()}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_somewhere(document):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.parametrize("decision", sorted(ROOT.glob("docs/decisions/*.md")), ids=lambda path: path.name)
def test_every_decision_names_tests_that_exist(decision):
    held_by = decision.read_text().partition("**Held by:**")[2]
    tests = re.findall(r"`(tests/[\w/.]+)", held_by)
    assert tests
    for test in tests:
        assert (ROOT / test).exists(), f"{decision.name} is held by {test}"


def test_the_architecture_page_names_modules_that_exist():
    page = (ROOT / "docs" / "architecture.md").read_text()
    for row in re.findall(r"^\| (`[^|]+) \|", page, re.MULTILINE):
        folder = ""
        for name in re.findall(r"`([\w/*]+)`", row):
            folder = name.rpartition("/")[0] or folder
            paths = [name.rstrip("*"), f"{folder}/{name.rstrip('*')}".lstrip("/")]
            assert any(found for path in paths for found in PACKAGE.glob(f"{path}*")), f"architecture.md names {name}"
