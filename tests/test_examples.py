"""The notebook for teachers runs, and prints what is stored in it.

Cells with the tag ``varies`` print texts that a model makes: another processor may round a logit
otherwise, and all that follows differs. They have to run, but are not compared; nor are pictures.
``python tests/test_examples.py`` runs the notebook and writes it anew.
"""

import re
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parent.parent / "examples" / "weight_quantization.ipynb"
STORED = nbformat.read(NOTEBOOK, as_version=4)
CODE = {cell.id: cell for cell in STORED.cells if cell.cell_type == "code"}
COMPARED = [name for name, cell in CODE.items() if "varies" not in cell.metadata.get("tags", [])]
SECONDS_A_CELL = 300
MOST_BYTES = 500_000
#: What may be said of the notebook as a whole: nothing of the machine that ran it.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def executed(notebook: nbformat.NotebookNode, directory: Path) -> nbformat.NotebookNode:
    """Return the notebook with the outputs of a run by this very Python, in a directory."""
    # Without directories to look in, "python3" is the Python that runs this.
    manager = AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    client = NotebookClient(
        nbformat.from_dict(notebook),
        km=manager,
        timeout=SECONDS_A_CELL,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(directory)}},
    )
    made = client.execute(cleanup_kc=True)
    made.metadata = nbformat.from_dict(METADATA)
    return made


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> dict[str, nbformat.NotebookNode]:
    """The code cells of a new run, by id; a cell that fails is an error here."""
    made = executed(STORED, tmp_path_factory.mktemp("notebook"))
    return {cell.id: cell for cell in made.cells if cell.cell_type == "code"}


def without_pictures(cell: nbformat.NotebookNode) -> list:
    """Return a cell's outputs; of a picture only that it is there."""
    return [
        output.text
        if output.output_type == "stream"
        else {kind: kind == "image/png" or content for kind, content in output.data.items()}
        for output in cell.outputs
    ]


@pytest.mark.parametrize("name", COMPARED)
def test_the_cell_gives_what_is_stored(name, fresh):
    assert without_pictures(fresh[name]) == without_pictures(CODE[name])


def test_every_cell_shows_something_but_the_preparations(fresh):
    assert [name for name, cell in fresh.items() if not cell.outputs] == ["imports", "fixed-text"]


def test_only_texts_of_a_model_are_not_compared():
    assert CODE.keys() - set(COMPARED) == {"texts", "own-texts"}


def test_nothing_of_a_machine_is_stored():
    assert STORED.metadata == METADATA
    assert all(cell.metadata.keys() <= {"tags"} for cell in STORED.cells)
    outputs = [output for cell in CODE.values() for output in cell.outputs]
    assert {output.get("name", "stdout") for output in outputs} == {"stdout"}, "a warning"
    texts = str([without_pictures(cell) for cell in CODE.values()])
    assert not re.search(r"/(home|root|tmp|usr|work)/|[A-Z]:\\|site-packages", texts)


def test_the_cells_were_run_in_order():
    counts = [cell.execution_count for cell in CODE.values()]
    assert counts == list(range(1, len(counts) + 1))


def test_it_stays_small():
    assert NOTEBOOK.stat().st_size < MOST_BYTES
    assert max(len(cell.source.splitlines()) for cell in CODE.values()) <= 25


if __name__ == "__main__":
    nbformat.write(executed(STORED, NOTEBOOK.parent), NOTEBOOK)
