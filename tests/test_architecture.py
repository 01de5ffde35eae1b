"""Who may import whom, what `import floatfmt` pulls in, and that public names are documented."""

import ast
import copy
import dataclasses
import doctest
import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import floatfmt as ff
import mutations
from floatfmt.data import SAMPLE_MODEL

PACKAGE = Path(ff.__file__).parent

#: A module imports only modules that stand above it. `.` separates as in Python; bench/, data/ and
#: experiment/ are folders whose members may import each other.
ORDER = (
    "formats",
    "rounding",
    "exact",
    "elements",
    "interop",
    "figures",
    "spelling",
    "table",
    "placement",
    "reading",
    "remarks",
    "card",
    "numberline",
    "explanation",
    "inspection",
    "survey",
    "rounding_chain",
    "backends.reference",
    "backends.threads",
    "backends.native",
    "backends",
    "streaming",
    "arrays",
    "grid",
    "fields",
    "packing",
    "codebooks",
    "convention_words",
    "convention_plan",
    "convention_rows",
    "convention_tables",
    "convention",
    "schemes",
    "groups",
    "codes",
    "quantized",
    "by_convention",
    "exports",
    "quantizing",
    "quantization",
    "storage",
    "error_figures",
    "metrics",
    "usage",
    "measurement",
    "integer_product",
    "llm_int8",
    "checkpoint",
    "checkpoint_writer",
    "quantized_file",
    "checkpoint_conversion",
    "timing",
    "data",
    "comparison_rows",
    "palette",
    "plot_names",
    "comparison_plot",
    "comparison",
    "audit",
    "bench",
    "diagnosis",
    "experiment",
    "cli",
)
FOLDERS = ("audit", "bench", "data", "experiment")


def modules() -> dict[str, Path]:
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(part for part in parts if part != "__init__")] = path
    return names


def room(name: str) -> str:
    """The entry of ORDER that a module belongs to."""
    folder = name.split(".")[0]
    return folder if folder in FOLDERS else name


class _WithoutTypeChecking(ast.NodeTransformer):
    def visit_If(self, node: ast.If) -> ast.AST | None:
        is_type_checking = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if is_type_checking else self.generic_visit(node)


def imports_of(name: str, path: Path) -> set[str]:
    """The floatfmt modules a file imports when it runs, inside functions too."""
    known = modules()
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(_WithoutTypeChecking().visit(ast.parse(path.read_text()))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            parts = [*base, *(node.module or "").split(".")]
            if not node.level and parts[0] != "floatfmt":
                continue
            parts = [part for part in parts if part and part != "floatfmt"]
            for alias in node.names:
                candidates = (".".join([*parts, alias.name]), ".".join(parts))
                found.add(next((c for c in candidates if c in known), ""))
        elif isinstance(node, ast.Import):
            found |= {a.name.partition(".")[2] for a in node.names if a.name.startswith("floatfmt")}
    return found - {"", "_native"}


@pytest.mark.parametrize("name", sorted(set(modules()) - {"", "__main__"}))
def test_a_module_imports_only_what_stands_above_it(name):
    assert room(name) in ORDER, f"{name} has no place in ORDER"
    for imported in imports_of(name, modules()[name]):
        if imported in FOLDERS or room(imported) != room(name):
            same_folder = room(imported) == room(name)
            assert same_folder or ORDER.index(room(imported)) < ORDER.index(room(name)), imported


def test_the_import_scanner_sees_imports():
    found = imports_of("arrays", modules()["arrays"])
    assert found == {"backends", "formats", "interop", "rounding", "streaming"}


def test_only_native_imports_the_extension():
    users = {n for n, path in modules().items() if "_native import" in path.read_text()}
    assert users == {"backends.native"}


LOADED = "import sys, floatfmt; print(*sys.modules)"

#: What rounding arrays takes; all else comes when it is asked for.
AT_IMPORT = {
    *("formats", "rounding", "elements", "interop", "backends", "backends.reference"),
    *("backends.native", "backends.threads", "streaming", "arrays", "packing"),
}


def test_importing_floatfmt_loads_nothing_heavy():
    ran = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    loaded = ran.stdout.split()
    heavy = {"torch", "matplotlib", "rich", "click", "safetensors", "transformers", "hypothesis"}
    assert heavy & {name.partition(".")[0] for name in loaded} == set()
    ours = {name.removeprefix("floatfmt.") for name in loaded if name.startswith("floatfmt.")}
    assert ours - {"_native", "_native.lib"} == AT_IMPORT


def test_what_is_loaded_later_is_not_hidden_by_a_module_of_its_name():
    later = {name for names in ff._LATER.values() for name in names}
    assert later & {path.stem for path in PACKAGE.iterdir()} == set()


def public_objects():
    for name in ff.__all__:
        value = getattr(ff, name)
        yield name, value
        if inspect.isclass(value):
            for member, attribute in vars(value).items():
                if not member.startswith("_") and (
                    inspect.isfunction(attribute) or isinstance(attribute, property)
                ):
                    yield f"{name}.{member}", attribute


@pytest.mark.parametrize(
    ("name", "value"), [pytest.param(*pair, id=pair[0]) for pair in public_objects()]
)
def test_public_things_are_documented(name, value):
    text = inspect.getdoc(value)
    assert text, f"{name} has no docstring"
    if inspect.isfunction(value) and "." not in name:
        assert ">>>" in text, f"{name} has no example"


def truncating(x: np.ndarray) -> np.ndarray:
    return np.clip(np.trunc(x / np.float32(0.5)), -128, 127).astype(np.int8)


RESULTS = (
    lambda: ff.inspect(0.1, "bf16"),
    lambda: ff.inspect(0.1, "bf16").explain(),
    lambda: ff.round_all(0.1),
    lambda: ff.decompose(np.float16([[1, -2], [np.nan, 0]])),
    lambda: ff.absmax(np.float32([1, 2])),
    lambda: ff.error(np.float32([1, 2]), np.float32([1, 3])),
    lambda: ff.error(np.float32([1, 2]), np.float32([1, np.inf]), block=1),
    lambda: ff.code_usage(np.int8([1, 2])),
    lambda: ff.measure(np.float32([1, 2]), ff.absmax(np.float32([1, 2]))),
    lambda: ff.llm_int8_matmul(np.float32([[1, 9]]), np.float32([[1], [2]])),
    lambda: ff.sweep_threshold(np.float32([[1, 9]]), np.float32([[1], [2]])),
    lambda: ff.double_rounding("fp64", via="fp32", target="fp16"),
    lambda: ff.verify("ml_dtypes", "fp16", "fp8_e8m0fnu"),
    lambda: ff.identify("ml_dtypes", "fp16", "fp8_e8m0fnu"),
    lambda: ff.diff("ml_dtypes", "floatfmt", "fp16", "fp8_e8m0fnu"),
    lambda: ff.compatibility(["ml_dtypes"], sources=["fp16"], targets=["bf16"]),
    lambda: ff.compare(np.float32([1, 2]), ["bf16"]),
    lambda: ff.doctor(seconds=0),
    lambda: ff.quantize_checkpoint(SAMPLE_MODEL, dry_run=True),
    lambda: ff.verify_quantizer(truncating, scale=0.5, inputs=np.linspace(-9, 9, 99, dtype="f4")),
    lambda: ff.diff_conventions(np.float32([1, 2, 0.3])),
)


@pytest.mark.parametrize("make", RESULTS)
def test_result_objects_are_alike(make):
    result = make()
    assert str(result).strip()
    assert "<" in result._repr_html_()
    assert json.loads(json.dumps(result.to_dict()))
    assert result == copy.deepcopy(result)
    assert result != 3
    with pytest.raises(TypeError, match="unhashable"):
        hash(result)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(result, dataclasses.fields(result)[0].name, None)


def test_all_is_what_the_package_offers():
    assert list(ff.__all__) == sorted(ff.__all__)
    assert all(hasattr(ff, name) for name in ff.__all__)


@pytest.mark.parametrize("name", sorted(set(modules()) - {"__main__", "data.train_sample"}))
def test_the_examples_of_the_docstrings_run(name):
    module = importlib.import_module(f"floatfmt.{name}".rstrip("."))
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


@pytest.mark.parametrize("how", mutations.MUTATIONS.values(), ids=mutations.MUTATIONS)
def test_what_a_mutation_changes_is_there(how):
    assert (mutations.ROOT / "csrc" / how.file).read_text().count(how.old) == 1


def test_mutations_have_names_of_their_own():
    """A later one of a name would take the place of an earlier one."""
    tree = ast.parse(Path(mutations.__file__).read_text())
    keys = [key for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys]
    names = [key.value for key in keys if isinstance(key, ast.Constant)]
    assert len(names) == len(set(names))
    assert set(mutations.MUTATIONS) <= set(names)
