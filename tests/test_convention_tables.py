"""How conventions look: rules and results as text, JSON and on the command line."""

import json
import math

import numpy as np
import pytest

import floatfmt as ff
from floatfmt import convention_words
from floatfmt.convention_tables import WITH_A_SCALE, WITHOUT, conventions_text

ROWS = ff.conventions()


def test_conventions_are_a_tuple_that_is_found_in_by_name():
    assert isinstance(ROWS, tuple)
    assert ROWS["onnx"] is next(row for row in ROWS if row.name == "onnx")
    assert ROWS[0].name == "floatfmt"
    assert [row.name for row in ROWS[1:3]] == ["article", "torch"]
    with pytest.raises(ValueError, match="no convention is called 'onyx'; there are floatfmt"):
        ROWS["onyx"]


def test_every_convention_is_in_the_text_and_no_line_is_too_long():
    text = str(ROWS)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert not any(line != line.rstrip() for line in lines)
    for row in ROWS:
        assert text.count(f"\n{row.name} ") >= 3
        assert row.proof in text
    assert "<pre" in ROWS._repr_html_()


def lines_of(text: str, convention: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.startswith(f"{convention} ")]


def test_results_are_computed_and_marked():
    given = str(ROWS).partition("Codes with a given scale")[2].partition("\n\nCodes and")[0]
    codes = {name: lines_of(given, name)[0][1:] for name in ("torch", "onnx", "torch_fake")}
    assert codes["torch"][:3] == ["2", "*4", "-128"]
    assert codes["onnx"][:3] == ["2", "3", "*-127"]
    assert codes["torch_fake"][5:8] == ["-128", "127", "-128"]
    own = str(ROWS).partition("Codes and values")[2]
    assert "131: 2.12e-05" in own  # 0 beside 1, in bitsandbytes_blockwise


def test_a_row_of_ones_own_has_results_of_its_own(monkeypatch):
    """Nothing in the tables is written down: another rule gives another table."""
    before = lines_of(str(ROWS), "ggml_q8_0")
    monkeypatch.setitem(convention_words.ROUNDINGS, "half away", np.floor)
    after = lines_of(str(ROWS), "ggml_q8_0")
    assert before[:2] == after[:2]
    assert before[-2] != after[-2]


def test_the_results_are_those_of_traces():
    found = ROWS.to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [row["name"] for row in found["conventions"]] == [row.name for row in ROWS]
    schemes = sum(s.name != "given" for row in ROWS for s in row.schemes)
    given = sum(row.takes_scale for row in ROWS)
    assert len(found["results"]) == schemes * len(WITHOUT) + given * len(WITH_A_SCALE)
    for result in found["results"]:
        if "none" in result:
            assert result["none"] in ("refused", "undefined")
            continue
        scheme = None if result["scheme"] == "given" else result["scheme"]
        own = {name: result[name] for name in ("scale", "zero_point") if name in result}
        x = np.array([float(v) for v in result["x"]], np.float32)
        traced = ROWS[result["convention"]].trace(x, scheme, **own)
        assert int(traced.codes[0]) == result["code"]
        value, told = float(traced.values[0]), float(result["value"])
        assert value == told or (math.isnan(value) and math.isnan(told))


def test_one_row_alone_has_tables_too():
    assert "none" in conventions_text([ROWS["torch_fake"]])
    assert lines_of(conventions_text([ROWS["onnx"]]), "onnx")


def test_probes_are_named_alike():
    for probes in (WITH_A_SCALE, WITHOUT):
        assert len({(probe.scale is None) for probe in probes}) == 1
        assert all(probe.name for probe in probes)
