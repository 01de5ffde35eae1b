"""The command line: it parses, calls and prints; what it shows is computed elsewhere.

Bad usage and bad input are one line on standard error and exit code 2. With ``--json`` standard
output has JSON only, with a schema version.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import click

from . import __version__
from .backends import available_backends, backend_name, chosen_by, told_threads
from .backends.native import compiler
from .comparison import compare
from .comparison_plot import check as plot_path
from .convention import Conventions, conventions, find
from .convention_tables import conventions_lines
from .diagnosis import doctor
from .formats import Format
from .formats import formats as registered_formats
from .inspection import inspect
from .reading import is_bit_pattern
from .rounding import fresh_seed
from .survey import round_all
from .table import Part, Table, printable, rich_lines

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["cli", "main"]

#: What doctor exits with if there is a problem.
UNHEALTHY = 1
BAD_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells count
#: A progress bar that is gone at once only flickers.
PROGRESS_AFTER_S = 1.0


# --- running a command --------------------------------------------------------------------------


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line: the entry point of ``floatfmt`` and ``python -m floatfmt``."""
    with contextlib.suppress(AttributeError, ValueError):  # not a text file of the interpreter's
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            status = cli.main(args, prog_name="floatfmt", standalone_mode=False)
        if sys.stdout is not None:  # it may have been closed from outside
            sys.stdout.flush()
    except click.ClickException as exc:
        _fail(exc)
    except OSError as exc:
        _give_up_output(exc)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    sys.exit(status or 0)  # a command that says nothing has done well


def _give_up_output(exc: OSError) -> NoReturn:
    """End with one line, or none where a pipe was closed, and nothing left to be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(exc, BrokenPipeError):
        sys.exit(1)
    _fail(click.ClickException(f"cannot write the output: {exc.strerror}"))


def _fail(exc: click.ClickException) -> NoReturn:
    message = printable(" ".join(exc.format_message().split()))
    context = getattr(exc, "ctx", None)
    if context is not None and isinstance(exc, click.UsageError):
        end = " See" if message.endswith("?") else "; see"
        message = f"{message.rstrip('.')}{end} '{context.command_path} --help'"
    click.echo(f"Error: {message}", err=True)
    sys.exit(BAD_INPUT)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    click.echo(f"Note: {message}", err=True)


@contextlib.contextmanager
def _user_errors() -> Iterator[None]:
    """Turn what the library raises over its input into a line for the user."""
    try:
        yield
    except MemoryError:
        raise click.ClickException("not enough memory") from None
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as exc:
        raise click.ClickException(str(exc)) from exc


# --- showing an answer --------------------------------------------------------------------------


def _show(answer: object) -> None:
    """Print an answer: in colour and to the width of a terminal, else as plain text."""
    if sys.stdout is not None and sys.stdout.isatty():
        from rich.console import Console

        # soft_wrap: what is too wide is wrapped by the terminal rather than cut.
        Console(highlight=False).print(answer, soft_wrap=True)
    else:
        click.echo(str(answer))


def _show_json(answer: dict[str, Any]) -> None:
    click.echo(json.dumps(answer, indent=2, allow_nan=False))


class _Lines:
    """Lines of text that depend on the width they are given, as an answer for `_show`."""

    def __init__(self, layout: Callable[[int | None], Iterable[list[Part]]]) -> None:
        self._layout = layout

    def __str__(self) -> str:
        return "\n".join("".join(text for text, _ in line) for line in self._layout(None))

    def __rich_console__(self, console: Any, options: Any) -> Iterable[object]:
        return rich_lines(self._layout(options.max_width))


class _ProgressBar:
    """A bar on standard error, if that is a terminal and it takes more than a moment."""

    def __init__(self, doing: str, unit: str) -> None:
        self._began = time.monotonic()
        self._bar: Progress | None = None
        self._doing, self._unit = doing, unit

    def __enter__(self) -> _ProgressBar:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        if self._bar is None and self._is_due():
            self._bar = _started_bar(self._doing, total)
            self._first, self._since = done, time.monotonic()
        if self._bar is not None:
            seconds = time.monotonic() - self._since
            rate = (done - self._first) / seconds if seconds else 0
            pace = f"{_short_count(rate)} {self._unit}/s"
            self._bar.update(self._bar.task_ids[0], completed=done, pace=pace)

    def _is_due(self) -> bool:
        return time.monotonic() - self._began > PROGRESS_AFTER_S and sys.stderr.isatty()


class _StepsBar:
    """A bar on standard error, if that is a terminal, for one step after the other."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._doing = ""

    def __enter__(self) -> _StepsBar:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, doing: str, done: int, total: int) -> None:
        if not sys.stderr.isatty():
            return
        if self._bar is None:
            self._bar = _started_bar(doing, total)
        elif doing != self._doing:
            self._bar.reset(self._bar.task_ids[0], description=doing, total=total, pace="")
        self._doing = doing
        self._bar.update(self._bar.task_ids[0], completed=done)


def _short_count(count: float) -> str:
    """Return a count to three digits.

    Examples
    --------
    >>> _short_count(1_234_000_000), _short_count(87)
    ('1.23 G', '87 ')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return f"{count:.3g} "


def _started_bar(doing: str, total: int) -> Progress:
    from rich import progress
    from rich.console import Console

    columns = (
        *("{task.description}", progress.BarColumn(), progress.TaskProgressColumn()),
        *("{task.fields[pace]}", progress.TimeRemainingColumn(compact=True), "left"),
    )
    bar = progress.Progress(*columns, console=Console(stderr=True), transient=True)
    bar.add_task(doing, total=total, pace="")
    bar.start()
    return bar


# --- commands -----------------------------------------------------------------------------------


def _show_version(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    with _user_errors():
        backend = backend_name()
    click.echo(f"floatfmt {__version__}")
    click.echo(f"backend   {backend} (available: {', '.join(available_backends())})")
    click.echo(f"compiler  {compiler() or 'none: the C kernel is not installed'}")
    context.exit()


@click.group(invoke_without_command=True)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version, the backend in use and the compiler of the C kernel.",
)
@click.pass_context
def cli(context: click.Context) -> None:
    """See every bit of a number format, and measure what formats do to data.

    \b
    Examples:
      floatfmt inspect 0.1 --format bf16
      floatfmt formats
      floatfmt compare model.safetensors --format int8_row --format nf4
      floatfmt quantize model.safetensors -o int8.safetensors
      floatfmt verify torch --source fp32 --target bf16
      floatfmt experiment --html report.html
      floatfmt bench
      floatfmt doctor

    The environment variable FLOATFMT_BACKEND chooses the backend (see --version).
    """  # noqa: D301
    if context.invoked_subcommand != "doctor":
        with _user_errors():
            told_threads()
            if chosen_by():
                backend_name()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


#: Options that inspect takes as ff.encode does: what is passed on is what was given.
_rounding_options = (
    click.option("--rounding", metavar="M", help="The rounding mode; nearest_even by default."),
    click.option("--overflow", metavar="O", help="Beyond the range: ieee, saturate or nan."),
    click.option(
        "--nan",
        metavar="N",
        help="What NaN becomes: quiet, preserve, canonical, error, zero or largest.",
    ),
    click.option("--subnormals", metavar="S", help="Subnormal results: keep or flush."),
    click.option("--seed", type=int, metavar="I", help="For the rounding mode stochastic."),
)


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_rounding_options):
        command = option(command)
    return command


# -0.5 and -inf look like options; what is no option of ours is a value.
@cli.command("inspect", context_settings={"ignore_unknown_options": True})
@click.argument("values", metavar="X...", nargs=-1, required=True)
@click.option("--format", "format_name", metavar="F", help="The format; all, in a table, without.")
@click.option("--code", "are_codes", is_flag=True, help="X is a code of the format: 0x3C00.")
@click.option("--explain", is_flag=True, help="Say why it was rounded to where it went.")
@_with_options
@_json_option
@click.pass_context
def inspect_command(
    context: click.Context,
    /,
    values: tuple[str, ...],
    format_name: str | None,
    are_codes: bool,
    explain: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Show every bit of a number, and what rounding does to it.

    X is a decimal (0.1, -1e-400), a fraction (1/3), hexadecimal (0x1.8p-3), inf or nan, taken
    exactly and rounded once; or all bits of a code (0b0011110000000000, '0|01111|0000000000').
    Of several X, stochastic rounding draws for each as ff.encode does for an array of them.

    \b
    Examples:
      floatfmt inspect 0.1
      floatfmt inspect -0.5 1/3 --format fp16
      floatfmt inspect 0x3C00 --code --format fp16
      floatfmt inspect 0.1 --format bf16 --explain --rounding toward_zero
    """  # noqa: D301
    _refuse_unknown_options(values, context)
    _require_format(values, format_name, are_codes, explain, context)
    given = {name: value for name, value in options.items() if value is not None}
    with _user_errors():
        if format_name is None:
            kind, answers = "round_all", [round_all(value, **given) for value in values]
        else:
            kind, answers = _inspections(values, format_name, are_codes, explain, given)
    if as_json:
        plural = {"round_all": "surveys", "explain": "explanations", "inspect": "inspections"}
        dictionaries = [answer.to_dict() for answer in answers]
        _show_json({"schema": f"floatfmt.{kind}/1", plural[kind]: dictionaries})
        return
    for number, answer in enumerate(answers):
        if number:
            click.echo()
        _show(answer)


def _refuse_unknown_options(values: tuple[str, ...], context: click.Context) -> None:
    for value in values:
        if value.startswith("--"):
            names = [name for option in context.command.params for name in option.opts]
            near = difflib.get_close_matches(value, names)
            raise click.NoSuchOption(value, possibilities=near, ctx=context)


def _require_format(
    values: tuple[str, ...],
    format_name: str | None,
    are_codes: bool,
    explain: bool,
    context: click.Context,
) -> None:
    """Refuse what means nothing without a format."""
    if format_name is not None:
        return
    if are_codes:
        raise click.UsageError("--code needs --format: without one a code means nothing", context)
    if explain:
        raise click.UsageError("--explain needs --format: it is about one rounding", context)
    for value in values:
        if is_bit_pattern(value):
            raise click.UsageError(
                f"{value!r} is a code bit by bit, which needs --format: without one it means "
                "nothing",
                context,
            )


def _inspections(
    values: tuple[str, ...],
    format_name: str,
    are_codes: bool,
    explain: bool,
    options: dict[str, Any],
) -> tuple[str, list[Any]]:
    """Return what is shown of each value, and what it is called."""
    options.setdefault("seed", fresh_seed())  # one for all values, as in encode
    found = [
        inspect(code=value, format=format_name)
        if are_codes
        else inspect(value, format_name, index=index, **options)
        for index, value in enumerate(values)
    ]
    if explain:
        return "explain", [inspection.explain() for inspection in found]
    return "inspect", found


@cli.command("compare")
@click.argument("file", required=False)
@click.option("--tensor", metavar="NAME", help="The one tensor to look at; by default all.")
@click.option(
    "--format",
    "formats",
    metavar="F",
    multiple=True,
    help="A format or scheme to compare, or several with commas. May be repeated.",
)
@click.option("--plot", metavar="OUT", help="Draw SQNR against bits: a .svg, .png or .pdf file.")
@_json_option
def compare_command(
    file: str | None, tensor: str | None, formats: tuple[str, ...], plot: str | None, as_json: bool
) -> None:
    """Measure what formats do to tensors: size, error, speed.

    FILE is a .npy, .npz or .safetensors file, or a directory of Hugging Face; without one, the
    sample model that ships with floatfmt. Each tensor of floats is quantised by itself. Rows are
    sorted by bits a weight, and * marks the Pareto front.

    A format F is a float format that values are cast to (see 'floatfmt formats'), or a scheme:

    \b
      int8, int4, uint4 ...     2 to 8 bits; _absmax, _zeropoint, _asymmetric
      nf4, fp4, dynamic8        codebooks, in blocks
      mxfp4, mxfp8_e4m3fn ...   OCP Microscaling; nvfp4
      fp8_e4m3fn_scaled         a float format by a scale

    \b
    and what is to differ from the usual, one after the other:
      _row                      a scale for each index of axis 0
      _block32                  a scale for each block of 32
      _double                   scales quantised too
      _floor _ceil _even _rceil the rule for power-of-two scales
      _mse _p99.9               clipping
      _bf16scale _fp16scale _e8m0scale

    \b
    Examples:
      floatfmt compare
      floatfmt compare model.safetensors --tensor transformer.wte.weight
      floatfmt compare model.safetensors --format bf16,int8_row,int4_block32,nf4 --plot out.svg
      floatfmt compare weights.npy --format bf16 --format int8_absmax_row --json
    """  # noqa: D301
    wanted = [name for text in formats for name in text.split(",") if name.strip()]
    if formats and not wanted:
        raise click.UsageError("--format names no format")
    with _user_errors():
        if plot is not None:
            plot_path(plot)  # before the work, not after it
        with _ProgressBar("comparing", "values") as progress:
            comparison = compare(file, wanted or None, tensor=tensor, progress=progress)
    if as_json:
        _show_json(comparison.to_dict())
    else:
        _show(comparison)
    if plot is not None:
        with _user_errors():
            comparison.plot(plot)


#: Options that quantize and dequantize share.
_conversion_options = (
    click.option(
        *("-o", "--output"),
        metavar="OUT",
        help="What to write: a .safetensors file, or a directory if MODEL is one.",
    ),
    click.option("--dry-run", is_flag=True, help="Show sizes; read no data, write nothing."),
    click.option("--overwrite", is_flag=True, help="Replace OUT, when the new one is complete."),
    _json_option,
)


def _with_conversion_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_conversion_options):
        command = option(command)
    return command


@cli.command("quantize")
@click.argument("model", metavar="MODEL")
@click.option(
    "--scheme",
    default="int8_absmax_row",
    metavar="S",
    help="How to quantise; int8_absmax_row by default.",
)
@click.option(
    "--include",
    multiple=True,
    metavar="PATTERN",
    help="Quantise the float tensors of such names, and no others. May be repeated.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Copy the tensors of such names as they are. May be repeated.",
)
@click.option(
    "--nonfinite",
    type=click.Choice(["error", "saturate", "ignore"]),
    default="error",
    help="What is done about NaN and Inf; error by default.",
)
@_with_conversion_options
@click.pass_context
def quantize_command(
    context: click.Context, /, model: str, output: str | None, as_json: bool, **options: Any
) -> None:
    """Quantise a checkpoint, tensor by tensor.

    MODEL is a .safetensors, .npy or .npz file, a directory of Hugging Face, or an index of shards.
    Float tensors of two or more dimensions are quantised, all others copied as they are; --include
    and --exclude choose by name, with patterns such as '*.mlp.*'. OUT says how it is to be read,
    and is there when it is complete or not at all.

    \b
    Examples:
      floatfmt quantize model.safetensors --dry-run
      floatfmt quantize model.safetensors -o int8.safetensors --exclude '*wte*' --overwrite
    """  # noqa: D301
    from .checkpoint_conversion import quantize_checkpoint

    _require_output(output, options, context)
    with _user_errors(), _ProgressBar("quantising", "B") as progress:
        result = quantize_checkpoint(model, output, **options, progress=progress)
    _show_json(result.to_dict()) if as_json else _show(result)


@cli.command("dequantize")
@click.argument("model", metavar="MODEL")
@_with_conversion_options
@click.pass_context
def dequantize_command(
    context: click.Context, /, model: str, output: str | None, as_json: bool, **options: Any
) -> None:
    """Turn what quantize wrote back into floats.

    Names, shapes and dtypes are those of the original checkpoint.

    \b
    Examples:
      floatfmt dequantize int8.safetensors --dry-run
      floatfmt dequantize int8.safetensors -o back.safetensors --overwrite
    """  # noqa: D301
    from .checkpoint_conversion import dequantize_checkpoint

    _require_output(output, options, context)
    with _user_errors(), _ProgressBar("dequantising", "B") as progress:
        result = dequantize_checkpoint(model, output, **options, progress=progress)
    _show_json(result.to_dict()) if as_json else _show(result)


def _require_output(output: str | None, options: dict[str, Any], context: click.Context) -> None:
    if output is None and not options["dry_run"]:
        raise click.UsageError("--output is missing: what to write; or --dry-run", context)


#: What verify exits with.
_STATUS = {"proved": 0, "refuted": 1, "inconclusive": 3}


class _Seconds(click.ParamType):  # type: ignore[type-arg]
    """A duration: 10s, 2m, 1.5h, 500ms."""

    name = "duration"
    UNITS: ClassVar = {"ms": 1e-3, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> float:
        found = _DURATION.fullmatch(value.strip())
        if not found or found[2] not in self.UNITS:
            self.fail(f"{value!r} is no duration, which are such as 10s, 2m, 1.5h", param, context)
        return float(found[1]) * self.UNITS[found[2]]


_DURATION = re.compile(r"(\d+\.?\d*|\.\d+)\s*([a-z]*)")


@cli.command("verify")
@click.argument("cast", metavar="CAST")
@click.option("--source", default="fp32", metavar="F", help="From this format; fp32 by default.")
@click.option("--target", default="bf16", metavar="F", help="To this format; bf16 by default.")
@click.option("--rounding", metavar="M", help="What is expected; nearest_even by default.")
@click.option("--overflow", metavar="O", help="Beyond the range: ieee, saturate or nan.")
@click.option("--subnormals", metavar="S", help="Subnormal results: keep or flush.")
@click.option("--nan", metavar="N", help="Of NaN: any NaN, a quiet one, or the exact one.")
@click.option("--profile", metavar="P", help="A known behaviour instead, such as ocp_saturating.")
@click.option("--identify", "identifies", is_flag=True, help="Say what the cast does instead.")
@click.option("--against", metavar="CAST", help="Compare with another cast instead.")
@click.option("--random", type=click.IntRange(min=0), metavar="N", help="Random fp64 inputs.")
@click.option("--budget", "budget_s", type=_Seconds(), metavar="T", help="Stop after 10s, 2m.")
@click.option("--resume", metavar="FILE", help="Keep in FILE what was done, and go on from it.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="As many as CPUs.")
@_json_option
@click.pass_context
def verify_command(
    context: click.Context,
    /,
    cast: str,
    identifies: bool,
    against: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Prove a cast right on all inputs, or show its faults.

    CAST is a witness (numpy, ml_dtypes, torch, gfloat, f16c, floatfmt, floatfmt:avx2) or a
    function of an array, module:function, found from the current folder.

    Exits with 0 if it is proved right, 1 if it is wrong, 3 if that is not known: it was stopped, or
    sampled; with --against, 0 if the two are alike and 1 if they differ.

    \b
    Examples:
      floatfmt verify torch --source fp32 --target bf16 --budget 1s
      floatfmt verify mymodule:my_cast --source bf16 --target fp16
      floatfmt verify torch --source bf16 --target fp8_e4m3fn --profile ocp_saturating
      floatfmt verify torch --source bf16 --target fp8_e4m3fn --against ml_dtypes
      floatfmt verify ml_dtypes --source fp64 --target bf16 --identify
    """  # noqa: D301
    from .audit import verify as auditor

    given = {name: value for name, value in options.items() if value is not None}
    if identifies and against:
        raise click.UsageError("--identify and --against are two different questions", context)
    kind = "identify" if identifies else "diff" if against else "verify"
    question = getattr(auditor, kind)
    _refuse_options(question, given, kind, context)
    casts = [_cast(name) for name in (cast, against) if name]
    doing = f"{cast} {given['source']} → {given['target']}"
    with _user_errors(), _ProgressBar(doing, "inputs") as progress:
        found = question(*casts, **given, progress=progress)
    if as_json:
        _show_json({"schema": f"floatfmt.{kind}/1", **found.to_dict()})
    else:
        _show(found)
    return _STATUS[(found.verification if identifies else found).verdict]


@cli.command("compatibility")
@click.argument("libraries", metavar="[LIBRARY]...", nargs=-1)
@click.option("--source", "sources", metavar="F", multiple=True, help="Only from this format.")
@click.option("--target", "targets", metavar="F", multiple=True, help="Only to this format.")
@click.option("--budget", "budget_s", type=_Seconds(), metavar="T", help="The most for a cell: 5s.")
@click.option("--markdown", is_flag=True, help="Print the table in Markdown.")
@_json_option
def compatibility_command(
    libraries: tuple[str, ...],
    sources: tuple[str, ...],
    targets: tuple[str, ...],
    budget_s: float | None,
    markdown: bool,
    as_json: bool,
) -> None:
    """Make a table of what libraries convert correctly here.

    LIBRARY is numpy, ml_dtypes, torch or gfloat; all of them without one. All of fp32 is tried
    where that is the source, which takes minutes in all; --budget makes it quick.

    \b
    Examples:
      floatfmt compatibility numpy --budget 1s
      floatfmt compatibility torch --source bf16 --source fp16
    """  # noqa: D301
    from .audit.compatibility import compatibility

    given = {"sources": sources, "targets": targets, "libraries": libraries}
    options: dict[str, Any] = {name: value for name, value in given.items() if value}
    with _user_errors(), _ProgressBar("verifying", "conversions") as progress:
        found = compatibility(**options, budget_s=budget_s, progress=progress)
    if as_json:
        _show_json({"schema": "floatfmt.compatibility/1", **found.to_dict()})
    elif markdown:
        click.echo(found.markdown())
    else:
        _show(found)


def _refuse_options(
    question: Callable[..., Any], given: dict[str, Any], kind: str, context: click.Context
) -> None:
    """Refuse options that the question does not have."""
    import inspect as signatures

    known = signatures.signature(question).parameters
    for name in given:
        if name not in known:
            option = f"--{name.removesuffix('_s')}"
            flag = {"identify": "--identify", "diff": "--against"}[kind]
            raise click.UsageError(f"{option} means nothing with {flag}", context)


def _cast(name: str) -> Any:
    """Return a witness's name, or the function that is meant."""
    from .audit.casts import WITNESSES

    module, colon, attribute = name.partition(":")
    if name in WITNESSES or not colon:
        return name
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as exc:  # whatever a module does when it is imported
        what = "is no witness and " * (module == "floatfmt")
        raise click.ClickException(f"{name!r} {what}cannot be had as a function: {exc}") from exc
    finally:
        sys.path.remove(os.getcwd())
    return found


@cli.command("experiment")
@click.argument("model", required=False)
@click.option(
    "--scheme",
    "schemes",
    metavar="S",
    multiple=True,
    help="A format or scheme, or several with commas. May be repeated.",
)
@click.option("--prompt", metavar="TEXT", help="What texts go on from.")
@click.option("--text", "text_file", metavar="FILE", help="The text that is scored, in UTF-8.")
@click.option("--html", metavar="OUT", help="Write the report: one file, with pictures.")
@click.option("--json", "json_file", metavar="OUT", help="Write all figures; - is the screen.")
@click.option("--max-tokens", type=int, metavar="N", help="Tokens of the text; 8,192 by default.")
@click.option("--window", type=int, metavar="N", help="Tokens the model sees; its context.")
@click.option("--stride", type=int, metavar="N", help="By which windows advance; half of one.")
@click.option("--new-tokens", type=int, metavar="N", help="Tokens added to the prompt.")
@click.option("--seed", type=int, metavar="I", help="Of the sampled texts; 0 by default.")
@click.option("--threshold", type=float, metavar="X", help="Of LLM.int8(); 6 by default.")
@click.option(
    "--parameters",
    type=click.Choice(["all", "linear"]),
    help="What schemes are for; by default as libraries have it.",
)
@click.option(
    "--sensitivity", metavar="S", help="One layer at a time in this scheme; nf4, or none."
)
@click.option("--tokenizer", type=click.Choice(["bytes"]), help="Read text byte by byte.")
@click.pass_context
def experiment_command(
    context: click.Context,
    /,
    model: str | None,
    schemes: tuple[str, ...],
    text_file: str | None,
    html: str | None,
    json_file: str | None,
    **options: Any,
) -> int:
    """Quantise a language model, and see what changes.

    Its weights, the text it writes and its perplexity, before and after, scheme by scheme; and
    where the loss comes from. MODEL is a directory in Hugging Face's layout or a hub's id; without
    one, the small model that ships with floatfmt. Needs 'floatfmt[torch]'.

    A scheme S is what 'floatfmt compare --help' calls a format, or one of layers that store int8
    and multiply it: int8_rowwise, int8_weight_only, llm_int8, llm_int8_original.

    \b
    Examples:
      floatfmt experiment
      floatfmt experiment --html report.html
      floatfmt experiment ./gpt2 --scheme int8_row,nf4 --text wiki.txt --json gpt2.json
    """  # noqa: D301
    with _user_errors():
        from . import experiment
        from .experiment import page

        if html is not None:
            page.check(html)
        given = {name: value for name, value in options.items() if value is not None}
        if given.get("sensitivity") == "none":
            given["sensitivity"] = None
        if schemes:
            given["schemes"] = [name.strip() for part in schemes for name in part.split(",")]
        if text_file is not None:
            given |= {"text": _text_of(text_file), "text_name": text_file}
        if json_file not in (None, "-"):
            _check_folder(json_file)
        with _StepsBar() as progress:
            found = experiment.run(model, **given, progress=progress)
        if json_file == "-":
            _show_json(found.to_dict())
        else:
            _show(found)
        if json_file not in (None, "-"):
            _write(json_file, json.dumps(found.to_dict(), indent=2, allow_nan=False) + "\n")
        if html is not None:
            page.write(found, html)
            click.echo(f"Written: {html}", err=True)
    if found.interrupted:
        kept = "" if html is None and json_file is None else ", and written"
        click.echo(
            f"Interrupted at the step {found.interrupted!r}: what was finished is shown{kept}.",
            err=True,
        )
        return INTERRUPTED
    return 0


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except UnicodeDecodeError as exc:
        raise ValueError(f"{path!r} is no UTF-8 text: {exc.reason} at byte {exc.start:,}") from None
    except OSError as exc:
        raise ValueError(f"{path!r} cannot be read: {exc.strerror}") from None


def _check_folder(path: str) -> None:
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{path!r}: there is no folder {folder!r}")
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path!r} is a folder; --json takes a file, or - for the screen")


def _write(path: str, text: str) -> None:
    """Write a file that is there whole or not at all."""
    part = f"{path}.floatfmt-part"
    try:
        with open(part, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(part, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)


@cli.command("formats")
@_json_option
def formats_command(as_json: bool) -> None:
    """List the number formats and what their layouts give.

    'floatfmt compare --help' has the names of quantisation schemes, such as int8_row and nf4.

    \b
    Examples:
      floatfmt formats
      floatfmt formats --json
    """  # noqa: D301
    if as_json:
        cards = [_format_card(fmt) for fmt in registered_formats()]
        _show_json({"schema": "floatfmt.formats/1", "formats": cards})
    else:
        _show(_Lines(_formats_table().lines))


@cli.command("conventions")
@click.argument("name", required=False)
@_json_option
def conventions_command(name: str | None, as_json: bool) -> None:
    """Show how libraries quantise, and where they differ.

    A table of rules, from a value to its code and from a tensor to its scale, and tables of what
    each library does to inputs on which they differ, computed as they are printed. With NAME, the
    rules of one.

    \b
    Examples:
      floatfmt conventions
      floatfmt conventions onnx
      floatfmt conventions --json
    """  # noqa: D301
    with _user_errors():
        rows = conventions() if name is None else Conventions([find(name)])
    if as_json:
        _show_json({"schema": "floatfmt.conventions/1", **rows.to_dict()})
    else:
        _show(str(rows[0]) if name else _Lines(lambda width: conventions_lines(rows, width)))


@cli.command("doctor")
@click.option(
    "--seconds",
    type=float,
    metavar="S",
    default=1.0,
    help="How long to compare, about; 1 by default.",
)
@_json_option
@click.pass_context
def doctor_command(context: click.Context, /, seconds: float, as_json: bool) -> None:
    """Check what runs here, and that it is right.

    Shows what was built and how, the backend in use and the state of the floating-point unit, and
    compares every level of the C kernel with the NumPy reference, bit for bit, for a second. The
    exit code is 1 if there is a problem; each is said with what to do.

    \b
    Examples:
      floatfmt doctor
      floatfmt doctor --seconds 0.5 --json
    """  # noqa: D301
    with _user_errors():
        diagnosis = doctor(seconds=seconds)
    if as_json:
        _show_json({"schema": "floatfmt.doctor/1", **diagnosis.to_dict()})
    else:
        _show(diagnosis)
    context.exit(0 if diagnosis.healthy else UNHEALTHY)


@cli.command("bench")
@_json_option
def bench_command(as_json: bool) -> None:
    """Measure how fast floatfmt is here, beside other libraries.

    A short table in less than a minute: conversions and quantisers on arrays of 2^10 to 2^23
    values, next to NumPy, torch and others that are installed doing the same on one thread, and
    next to copying as many bytes. Everyone's results are compared before anything is timed.

    \b
    Examples:
      floatfmt bench
      floatfmt bench --json
    """  # noqa: D301
    from .bench.short import short

    with _user_errors(), _StepsBar() as progress:
        measured = short(progress=progress)
    if as_json:
        _show_json({"schema": "floatfmt.bench/1", **measured.to_dict()})
    else:
        _show(measured)


# --- the table of formats -----------------------------------------------------------------------

#: Exact in fp64, which every value of every format is a value of.
_VALUES = ("max_finite", "lowest", "min_positive", "min_normal", "min_subnormal", "epsilon")
_FIELDS = (
    *("bits", "signed", "exponent_bits", "fraction_bits", "bias"),
    *("infinity", "nan", "zero", "twos_complement"),
    *("max_exponent", "min_exponent", "precision", "decimal_digits", "round_trip_digits"),
)


def _format_card(fmt: Format) -> dict[str, Any]:
    values = {name: getattr(fmt, name) for name in _VALUES}
    return {
        "name": fmt.name,
        "aliases": list(fmt.aliases),
        **{name: getattr(fmt, name) for name in _FIELDS},
        **{name: None if value is None else float(value) for name, value in values.items()},
        "counts": fmt.counts,
    }


def _codes(count: int) -> str:
    """Return a count with all its digits, or as a difference of powers of two if shorter.

    Examples
    --------
    >>> _codes(4_261_412_864), _codes(2**53 - 2)
    ('4,261,412,864', '2^53 - 2')
    """
    digits = f"{count:,}"
    high = count.bit_length()
    low = ((1 << high) - count).bit_length() - 1
    is_difference = (1 << high) - (1 << low) == count
    short = f"2^{high} - {f'2^{low}' if low > 1 else 2}"
    return short if is_difference and len(digits) > 14 else digits


def _value(x: Fraction | None) -> str:
    """Return a value to four digits, an integer of up to six with all of them.

    Examples
    --------
    >>> _value(Fraction(65504)), _value(Fraction(1, 128)), _value(None)
    ('65504', '0.007812', '-')
    """
    if x is None:
        return "-"
    return f"{float(x):.4g}" if x.denominator > 1 or abs(x) >= 1_000_000 else f"{x}"


#: The table, column by column: its header and what it says of a format.
_COLUMNS: tuple[tuple[tuple[str, ...], Callable[[Format], str]], ...] = (
    (("format",), lambda fmt: fmt.name),
    (("bits",), lambda fmt: f"{fmt.bits}"),
    (("exponent", "bits"), lambda fmt: f"{fmt.exponent_bits}"),
    (("fraction", "bits"), lambda fmt: f"{fmt.fraction_bits}"),
    (("largest", "finite"), lambda fmt: _value(fmt.max_finite)),
    (("least", "finite"), lambda fmt: _value(fmt.lowest)),
    (("smallest", "normal"), lambda fmt: _value(fmt.min_normal)),
    (("smallest", "subnormal"), lambda fmt: _value(fmt.min_subnormal)),
    (("epsilon",), lambda fmt: _value(fmt.epsilon)),
    (("decimal", "digits"), lambda fmt: f"{fmt.decimal_digits}"),
    (("zero", "codes"), lambda fmt: _codes(fmt.counts["zero"])),
    (("subnormal", "codes"), lambda fmt: _codes(fmt.counts["subnormal"])),
    (("normal", "codes"), lambda fmt: _codes(fmt.counts["normal"])),
    (("infinite", "codes"), lambda fmt: _codes(fmt.counts["infinite"])),
    (("NaN", "codes"), lambda fmt: _codes(fmt.counts["nan"])),
)


def _formats_table() -> Table:
    rows = (
        tuple((cell(fmt), "" if column else "name") for column, (_, cell) in enumerate(_COLUMNS))
        for fmt in registered_formats()
    )
    header = tuple(header for header, _ in _COLUMNS)
    breaks = (header.index(("smallest", "normal")), header.index(("zero", "codes")))
    return Table(header, tuple(rows), breaks)
