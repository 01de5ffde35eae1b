"""The sample model that ships with floatfmt: a small byte-level GPT-2 in fp32."""

from pathlib import Path

__all__ = ["SAMPLE_MODEL"]

SAMPLE_MODEL: Path = Path(__file__).resolve().parent / "sample"
"""Directory of the sample model, in the Hugging Face layout (``config.json``, safetensors)."""
