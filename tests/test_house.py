"""The house keeps its own rules: imports, vendors, documentation, and the two commands."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from daemon.settings import Settings, shown_settings
from handlers.routes import ROUTES

ROOT = Path(__file__).parent.parent
PACKAGES = ("state", "handlers", "daemon")
LAYER = {name: level for level, name in enumerate(PACKAGES)}

VENDORS: dict[str, set[str]] = {
    "qdrant_edge": {"state/stores/edge_shard.py"},
    "qdrant_client": {"state/stores/qdrant*.py"},
    "apscheduler": {"daemon/schedule.py"},
    "supervisely": {"daemon/platform/client.py"},
    "httpx": {"daemon/platform/client.py"},
    "watchfiles": {"daemon/folder/watch.py"},
    "PIL": {
        "daemon/pictures.py",
        "daemon/folder/samples.py",
        "daemon/encoders/clip_documents.py",
        "daemon/encoders/onnx.py",
    },
    "typer": {"daemon/__main__.py", "daemon/command_line.py", "daemon/*_commands.py"},
    "fastembed": {"daemon/encoders/onnx.py"},
    "onnxruntime": {"daemon/encoders/onnx.py"},
    "huggingface_hub": set(),
    "grpc": {"daemon/encoders/clip_grpc.py", "state/stores/qdrant_errors.py"},
    "google": {"daemon/encoders/clip_messages.py"},
    "clip_client": set(),
    "jina": set(),
    "prometheus_client": {"handlers/metrics.py"},
}
"""Each vendor and the only modules that may import it."""

UNKNOWN_TO_STATE = {"aiohttp", "pydantic", "structlog"}

READERS_OF_THE_ENVIRONMENT = {"daemon/settings.py", "daemon/command_line.py"}


def imports_of(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def wrong_imports(path: str, source: str) -> list[str]:
    """Name the imports of a module that the house forbids."""
    package = path.partition("/")[0]
    wrong = []
    for module in imports_of(source):
        top = module.partition(".")[0]
        if LAYER.get(top, -1) > LAYER[package]:
            wrong.append(f"{path} imports {module}: not back up")
        if top in VENDORS and not any(fnmatch(path, place) for place in VENDORS[top]):
            wrong.append(f"{path} imports {module}: its place is {', '.join(sorted(VENDORS[top]))}")
        if package == "state" and top in UNKNOWN_TO_STATE:
            wrong.append(f"{path} imports {module}: state knows nothing of it")
    if re.search(r"os\.(environ|getenv)", source) and path not in READERS_OF_THE_ENVIRONMENT:
        wrong.append(f"{path} reads the environment")
    return wrong


def modules() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            yield file.relative_to(ROOT).as_posix(), file.read_text()


def undocumented(names: list[str], document: str) -> list[str]:
    return [name for name in names if f"`{name}`" not in document]


def test_imports_go_one_way_and_each_vendor_has_one_place() -> None:
    assert [wrong for path, source in modules() for wrong in wrong_imports(path, source)] == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("state/changes.py", "from handlers.app import create_app"),
        ("handlers/search.py", "import daemon.settings"),
        ("handlers/search.py", "from qdrant_edge import EdgeShard"),
        ("daemon/sync.py", "import apscheduler.schedulers.asyncio"),
        ("state/journal.py", "import aiohttp"),
        ("handlers/app.py", "import os\nHOST = os.environ['HOST']"),
    ],
)
def test_a_broken_import_rule_is_noticed(path: str, source: str) -> None:
    assert wrong_imports(path, source)


def test_every_setting_is_documented_with_its_default() -> None:
    document = (ROOT / "docs/settings.md").read_text()
    rows = [(name, value) for name, value, _, _ in shown_settings(Settings())]
    missing = [
        name
        for name, value in rows
        if not re.search(rf"^\| `{name}` \| `?{re.escape(value)}", document, re.M)
    ]
    assert missing == []
    assert undocumented(["NO_SUCH_SETTING"], document)


def test_no_setting_is_documented_that_does_not_exist() -> None:
    document = (ROOT / "docs/settings.md").read_text()
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", document, re.M))
    assert documented == {name for name, *_ in shown_settings(Settings())}


def test_every_route_and_field_is_documented() -> None:
    document = (ROOT / "docs/http.md").read_text()
    assert [route.path for route in ROUTES if route.path not in document] == []
    fields = {name for route in ROUTES for name in route.takes.model_fields}
    assert undocumented(sorted(fields), document) == []


def test_the_readme_and_ci_use_the_same_commands() -> None:
    ci = (ROOT / ".ci/run").read_text()
    commands = re.findall(r"^(make \w+) +#", (ROOT / "README.md").read_text(), re.M)
    assert commands == ["make run", "make test"]
    assert [command for command in commands if not re.search(rf"^{command}\b", ci, re.M)] == []


def test_every_link_in_the_documents_leads_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    broken = [
        f"{document.name}: {target}"
        for document in documents
        for target in re.findall(r"\]\((?!http)([^)#]+)", document.read_text())
        if not (document.parent / target).exists()
    ]
    assert broken == []


def fault_rows(document: str) -> list[tuple[str, list[str]]]:
    """Return each fault of the table with the tests its row names."""
    rows = [line.split("|") for line in document.splitlines() if line.startswith("| ")]
    return [(row[1].strip(), re.findall(r"`(test_\w+)`", row[-2])) for row in rows if len(row) == 5]


def test_every_row_of_the_fault_table_names_a_test_that_exists() -> None:
    tests = "\n".join(file.read_text() for file in (ROOT / "tests").rglob("*.py"))
    rows = fault_rows((ROOT / "docs/reliability.md").read_text())
    assert len(rows) > 15
    without = [fault for fault, names in rows if fault != "fault" and not names]
    assert without == []
    assert [name for _, names in rows for name in names if f"def {name}(" not in tests] == []


def test_a_fault_without_a_test_is_noticed() -> None:
    assert fault_rows("| a fault | an answer | |") == [("a fault", [])]


def test_importing_the_daemon_loads_nothing_slow() -> None:
    slow = {"sklearn", "scipy", "supervisely", "grpc", "google", "fastembed", "onnxruntime", "qdrant_client"}
    script = f"import sys, daemon.wiring; print(sorted({slow!r} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == "[]"
