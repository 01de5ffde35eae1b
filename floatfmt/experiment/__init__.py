"""A language model quantised: its weights, its text and its perplexity, before and after.

`run` is the whole experiment, as ``floatfmt experiment`` makes it; each step of it is a function of
its own. Needs torch and transformers: ``pip install 'floatfmt[torch]'``.
"""

try:
    import torch  # noqa: F401
    import transformers  # noqa: F401
except ImportError as exc:
    raise ModuleNotFoundError(
        f"floatfmt.experiment needs {exc.name}: pip install 'floatfmt[torch]'"
    ) from None

from .errata import errata
from .footprint import footprint, gpt2_footprints
from .int8_layers import Int8Linear, dequantize_model, quantize_model
from .losses import activation_outliers, layer_sensitivity, threshold_sweep
from .models import LanguageModel, ModelError, load_model
from .peer import beside_bitsandbytes
from .results import Experiment
from .running import default_text, run
from .scoring import Scorer
from .texts import generate_texts
from .variants import simulate
from .weights import first_weight, histograms

__all__ = [
    "Experiment",
    "Int8Linear",
    "LanguageModel",
    "ModelError",
    "Scorer",
    "activation_outliers",
    "beside_bitsandbytes",
    "default_text",
    "dequantize_model",
    "errata",
    "first_weight",
    "footprint",
    "generate_texts",
    "gpt2_footprints",
    "histograms",
    "layer_sensitivity",
    "load_model",
    "quantize_model",
    "run",
    "simulate",
    "threshold_sweep",
]
