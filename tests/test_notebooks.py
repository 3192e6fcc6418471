"""The notebooks of the documentation: each runs from top to bottom, with less to train."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
RECIPES = FOLDER.parents[1] / "recipes"
LESS = {
    "quick_start": "EPOCHS, SEEDS, SIZE = 1, 1, 16",
    "technique": "EPOCHS, SEEDS, SIZE = 1, 1, 16",
    "cassava": f"""
RECIPE = {str(RECIPES / "cassava-cpu.yaml")!r}
CHANGES = {{
    "name": "cassava-in-a-notebook",
    "model": {{"arch": "test_efficientnet", "pretrained": False}},
    "size": 32,
    "presize": 40,
    "phases": [{{"name": "head", "epochs": 1, "batch_size": 32}},
               {{"name": "finetune", "epochs": 1, "batch_size": 32}}],
    "techniques.progressive_resizing": {{"head": {{"size": 24, "presize": 40}}, "finetune": 32}},
    "techniques.mixup": {{"alpha": 0.2, "further": {{"name": "mixup", "epochs": 1}}}},
    "study.vary": ["progressive_resizing", "mixup", "label_smoothing", "tta"],
    "study.seeds": 1,
}}""",
}
"""What the cell with the tag `parameters` is replaced by."""


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


class Client(NotebookClient):
    """Keeps what was shown and written over, too."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.passed: list[str] = []

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        self.passed.append(msg["content"].get("data", {}).get("text/html", ""))
        return super().process_message(msg, cell, cell_index)


def run(name: str, folder: Path) -> tuple[Any, list[str]]:
    """A notebook with less to train, run in a folder, and all HTML that was shown meanwhile."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    (parameters,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    parameters.source = LESS[name]
    client = Client(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    return notebook, client.passed


def shown(notebook: Any, kind: str = "text/html") -> str:
    """All that the cells of a notebook have put out of one kind."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return "\n".join(str(output["data"][kind]) for output in outputs if kind in output.get("data", {}))


def test_each_is_run():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(LESS)


def displayed(cell: Any) -> list[Any]:
    """A cell's outputs but for what libraries warn of."""
    return [output for output in cell.outputs if output.get("name") != "stderr"]


def test_the_quick_start(tmp_path: Path):
    notebook, passed = run("quick_start", tmp_path)
    html = shown(notebook)
    (first,) = (cell for cell in notebook.cells if "show_batch" in cell.source)
    assert len(displayed(first)) == 1  # a grid, also before there is a learner
    for caption in ("digits-in-a-notebook", "plan", "digits-in-a-notebook: effects on accuracy"):
        assert f"<caption>{caption}</caption>" in html
    assert any("<progress" in text and "baseline · start · seed 0" in text for text in passed)
    assert "<progress" not in html  # the bars are gone when the study is finished
    assert (tmp_path / ".out" / "digits-in-a-notebook" / "report.html").is_file()


def test_a_technique_of_ones_own(tmp_path: Path):
    notebook, _ = run("technique", tmp_path)
    assert "gradient_centralization" in shown(notebook)
    texts = shown(notebook, "text/plain")
    assert "tensor([[-1.,  0.,  1.]," in texts
    assert "gradient_centralization" in (tmp_path / ".out" / "centralization" / "trials.csv").read_text()
    (checked,) = (cell for cell in notebook.cells if "largest_mean(), largest_mean(" in cell.source)
    without, with_it = map(float, displayed(checked)[0]["data"]["text/plain"].strip("()").split(", "))
    assert with_it < 1e-6 < 1e-4 < without


def test_the_cassava_walk(tmp_path: Path, cassava: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CASSAVA_DATA", str(cassava))
    monkeypatch.setenv("ABLATE_WEIGHTS", str(tmp_path))
    html = shown(run("cassava", tmp_path)[0])
    assert "<caption>cassava-in-a-notebook: effects on accuracy</caption>" in html


@pytest.mark.parametrize("name", LESS)
def test_what_readers_see_is_whole_and_of_no_machine(name: str):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    numbers = [cell.execution_count for cell in code_cells(notebook)]
    assert numbers == [*range(1, len(numbers) + 1)]
    for cell in code_cells(notebook):
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr"
            assert not re.search(r"(?<![\w.…])/(?:home|root|tmp|work|Users|mnt|var)/", str(output))
    assert os.path.getsize(FOLDER / f"{name}.ipynb") < 1_500_000
