#!/usr/bin/env python3
"""Draw speed against size from a result file of run.py --curves, as the README shows it."""

import argparse
import html
import importlib.util
import io
import json
import re
import sys
from pathlib import Path

from floatfmt.palette import PALETTE

RESULTS = Path(__file__).parent / "results" / "README-curves.json"
FOLDER = Path(__file__).parent / "plots"

#: The pictures, and the cases of their panels.
PICTURES = {
    "conversions": (
        "decompose-fp32",
        "encode-fp32-fp16",
        "encode-fp32-fp8_e4m3fn",
        "decode-fp8_e4m3fn-fp32",
    ),
    "quantisers": ("absmax-int8", "quantize-int8", "absmax-int8-rows", "nf4"),
}
#: How a library is drawn: the role of its colour, and its marker.
LINES = {
    "floatfmt": ("accent", "o"),
    "torch": ("second", "s"),
    "numpy": ("third", "^"),
    "ml_dtypes": ("third", "v"),
    "onnxruntime": ("muted", "D"),
    "numkong": ("muted", "P"),
    "bitsandbytes": ("muted", "X"),
    "gfloat": ("muted", "<"),
    "apytypes": ("muted", ">"),
    "pychop": ("muted", "*"),
    "torchao": ("muted", "p"),
}
WIDTH, HEIGHT = 9.0, 7.6
#: What matplotlib draws in; the style of the file takes its place.
SENTINELS = {role: f"#ab12{index:02x}" for index, role in enumerate(PALETTE)}
STYLE = {
    "font.size": 10,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "floatfmt",  # the same file for the same figures
    "axes.edgecolor": SENTINELS["muted"],
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.facecolor": SENTINELS["paper"],
    "savefig.facecolor": SENTINELS["paper"],
    "grid.color": SENTINELS["rule"],
    "grid.linewidth": 0.6,
    "text.color": SENTINELS["ink"],
    "axes.labelcolor": SENTINELS["ink"],
    "axes.titlecolor": SENTINELS["ink"],
    "xtick.color": SENTINELS["muted"],
    "ytick.color": SENTINELS["muted"],
    "xtick.labelcolor": SENTINELS["ink"],
    "ytick.labelcolor": SENTINELS["ink"],
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
}


def curves(report: dict, case: str) -> dict[str, list[tuple[int, float]]]:
    """Return sizes and elements a second by library, its fastest way, and of a copy.

    Who is given scales that the others have to find does less, and is no way of doing it.
    """
    found: dict[str, list[tuple[int, float]]] = {}
    for result in sorted(report["results"], key=lambda result: result["size"]):
        if result["case"] != case or result.get("caches", "warm") != "warm":
            continue
        best = {"copy": 1e9 * result["copy"]["gb_per_s"] / result["bytes_per_element"]}
        for row in result["rows"]:
            if row["contender"].endswith(" given"):
                continue
            library = row["library"]
            best[library] = max(best.get(library, 0.0), row["elements_per_s"])
        for library, speed in best.items():
            found.setdefault(library, []).append((result["size"], speed))
    return found


def about(report: dict) -> str:
    """Return in a line where and with what was measured."""
    versions = ", ".join(
        f"{name} {version}" for name, version in report["peers"].items() if version
    )
    return (
        f"{report['machine']['cpu']}, one thread, {report['date'][:10]}; "
        f"floatfmt {report['software']['backends'][-1]}, {versions}"
    )


def draw(report: dict, name: str) -> str:
    """Return a picture as SVG that is light or dark as the reader's screen is."""
    import matplotlib.style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        FigureCanvasSVG(figure)
        panels = figure.subplots(2, 2, sharex=True)
        for axes, case in zip(panels.flat, PICTURES[name], strict=True):
            draw_panel(axes, report, case)
        lines = {line.get_label(): line for axes in panels.flat for line in axes.lines}
        order = [label for label in ("copy", *LINES) if label in lines]
        figure.legend(
            [lines[label] for label in order],
            ["copying as many bytes" if label == "copy" else label for label in order],
            loc="outside lower center",
            ncols=6,
            frameon=False,
        )
        file = io.BytesIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", metadata=nothing)
    return styled(file.getvalue().decode(), about(report))


def draw_panel(axes: object, report: dict, case: str) -> None:
    found = curves(report, case)
    titles = {result["case"]: result["about"] for result in report["results"]}
    axes.set_title(titles.get(case, case), loc="left", fontsize=10)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    for library, (role, marker) in reversed({"copy": ("ink", ""), **LINES}.items()):
        if library in found:
            axes.plot(
                *zip(*found[library], strict=True),
                label=library,
                color=SENTINELS[role],
                marker=marker,
                markersize=4,
                linewidth={"floatfmt": 2.2}.get(library, 1.1),
                linestyle="--" if library == "copy" else "-",
            )
    axes.grid()
    axes.set_xticks([2**power for power in range(4, 28, 4)])
    axes.minorticks_off()
    axes.set_ylabel("elements a second")
    if axes.get_subplotspec().is_last_row():
        axes.set_xlabel("elements")


def styled(svg: str, description: str) -> str:
    """Return a picture in the palette's colours, the dark ones where the screen is dark."""
    svg = re.sub(r"(\d\.\d)\d+", r"\1", svg)  # a tenth of a pixel is exact enough
    for role, sentinel in SENTINELS.items():
        svg = svg.replace(sentinel, f"var(--{role})")
    light, dark = (
        ";".join(f"--{role}:{getattr(shade, mode)}" for role, shade in PALETTE.items())
        for mode in ("light", "dark")
    )
    style = f"svg{{{light}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}"
    head = f"<desc>{html.escape(description)}</desc>\n<style>{style}</style>"
    return re.sub(r"<svg [^>]*>", lambda tag: f"{tag[0]}\n{head}", svg, count=1)


def results_file(path: str) -> dict:
    """Return a report; argparse turns the error into one line and exit code 2."""
    try:
        report = json.loads(Path(path).read_text())
        about(report)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise argparse.ArgumentTypeError(f"{path} is no results file of run.py") from None
    return report


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="?", type=results_file, default=str(RESULTS))
    parser.add_argument("--to", type=Path, default=FOLDER, metavar="FOLDER", help="Not plots/.")
    options = parser.parse_args()
    if importlib.util.find_spec("matplotlib") is None:
        print("plots need matplotlib: pip install 'floatfmt[plot]'", file=sys.stderr)
        return 1
    options.to.mkdir(parents=True, exist_ok=True)
    for name in PICTURES:
        file = options.to / f"{name}.svg"
        file.write_text(draw(options.results, name))
        print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
