"""Layers that store int8: what they compute, to the bit, and models made of them."""

import copy

import numpy as np
import pytest
import torch
import transformers
from transformers.pytorch_utils import Conv1D

import floatfmt as ff
from floatfmt import integer_product
from floatfmt.experiment import (
    Int8Linear,
    dequantize_model,
    load_model,
    products,
    quantize_model,
    simulate,
)
from floatfmt.experiment.int8_layers import LAYER_SCHEMES, int8_layers

EVERY_SCHEME = pytest.mark.parametrize("scheme", LAYER_SCHEMES)


@pytest.fixture(scope="module")
def sample():
    return load_model()


@pytest.fixture
def model(sample):
    return copy.deepcopy(sample.model)


@pytest.fixture(scope="module")
def tokens(sample):
    return torch.tensor([sample.tokenizer.encode("The import statement, and then some more.")])


def layer_of(weight, scheme="int8_rowwise", bias=True, threshold=6.0):
    outputs, inputs = weight.shape
    linear = torch.nn.Linear(inputs, outputs, bias)
    linear.weight.data = weight
    return quantize_model(torch.nn.Sequential(linear), scheme, threshold=threshold)[0]


def activations(seed, rows, inputs, outliers=()):
    x = torch.randn(rows, inputs, generator=torch.Generator().manual_seed(seed))
    x[:, list(outliers)] *= 20
    return x


@pytest.fixture(params=["by_int_mm", "by_padded", "by_kernel", "by_kernel on threads"])
def way(request, monkeypatch):
    """Every way of multiplying, whichever is the fastest here."""
    monkeypatch.setattr(products, "trusted_int_mm", lambda: torch._int_mm)
    if request.param.endswith("threads"):
        assert products._gomp_parallel(), "torch on Linux has an OpenMP runtime"
        monkeypatch.setattr(products, "TEAM_PRODUCTS", 1)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    return getattr(products, request.param.split()[0])


# --- one layer ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(1, 8, 8), (16, 7, 300), (1, 1041, 500), (40, 2085, 133), (3, 8, 1)]
)
@pytest.mark.parametrize("bias", [True, False])
def test_products_of_codes_are_exact_by_every_way(way, shape, bias):
    rows, inputs, outputs = shape
    rng = np.random.default_rng(0)
    scale, row_scale = rng.uniform(1, 2, outputs).astype(np.float32), np.exp2(np.arange(rows) % 9)
    if rows > 16 and way is products.by_padded:
        way = products.by_int_mm
    for codes in (
        lambda s: np.full(s, 127, np.int8),
        lambda s: rng.integers(-127, 128, s, np.int8),
    ):
        x, w = codes((rows, inputs)), -codes((outputs, inputs))
        sums = x.astype(np.int64) @ w.T.astype(np.int64)
        values = sums * (row_scale[:, None] * scale)
        layer = products.Layer8(w, scale, scale if bias else None)
        for other in (None, 1.5 - values):  # sums beyond fp32's integers, but for 1.5 taken away
            out = np.full((rows, outputs), np.nan, np.float32)
            way(x, row_scale, other, layer, out)
            wanted = values if other is None else values + other
            np.testing.assert_array_equal(out, (wanted + scale if bias else wanted).astype("f4"))


def test_a_way_that_is_not_exact_is_not_used(monkeypatch):
    monkeypatch.setattr(torch, "_int_mm", lambda x, w: (x.int() @ w.int()) + 1)
    integer_product.is_exact.cache_clear()
    integer_product._pays.cache_clear()
    integer_product._int_mm.cache_clear()
    assert integer_product.trusted_int_mm() is None
    assert "twice as fast as fp32" in products.route_name()


@pytest.mark.parametrize("backend", ff.available_backends())
@pytest.mark.parametrize("rows", [1, 5, 33])
def test_a_layer_computes_what_its_definition_says(backend, rows):
    weight, x = activations(0, 9, 40), activations(1, rows, 40)
    layer = layer_of(weight)
    layer.bias.data = activations(2, 1, 9)[0]
    w, q = ff.absmax(weight, axis=0), ff.absmax(x, axis=0)
    sums = q.codes.numpy().astype(np.int64) @ w.codes.numpy().T.astype(np.int64)
    scales = q.scale.numpy().astype(np.float64) * w.scale.numpy().T.astype(np.float64)
    expected = (sums * scales + layer.bias.detach().numpy().astype(np.float64)).astype(np.float32)
    with ff.use_backend(backend):
        np.testing.assert_array_equal(layer(x).numpy(), expected)


@pytest.mark.parametrize("outliers", [(), (3,), (0, 7, 39), tuple(range(40))])
def test_llm_int8_equals_the_product_of_the_library(outliers):
    """Up to the order in which float64 sums of outlier columns are added up."""
    weight, x = activations(0, 9, 40), activations(1, 20, 40, outliers)
    layer = layer_of(weight, "llm_int8", bias=False)
    expected = ff.llm_int8_matmul(x, weight.t(), weights="dequantised")
    found = layer(x)
    if not outliers:
        assert torch.equal(found, expected.output)
    assert layer.outlier_columns == len(expected.outlier_columns)
    torch.testing.assert_close(found, expected.output, rtol=2**-23, atol=1e-12)


def test_llm_int8_with_original_weights_is_the_exact_product_where_all_are_outliers():
    weight, x = activations(0, 9, 40), activations(1, 20, 40)
    layer = layer_of(weight, "llm_int8_original", bias=False, threshold=0.0)
    exact = x.double() @ weight.double().t()
    torch.testing.assert_close(layer(x), exact.float(), rtol=2**-23, atol=1e-12)


def test_weights_only_are_what_their_codes_stand_for():
    weight, x = activations(0, 9, 40), activations(1, 5, 40)
    layer = layer_of(weight, "int8_weight_only")
    values = ff.absmax(weight, axis=0).dequantize()
    assert torch.equal(layer.values(), values)
    expected = torch.nn.functional.linear(x, values, layer.bias)
    assert torch.equal(layer(x), expected)


@EVERY_SCHEME
def test_results_have_the_activations_dtype_and_leading_axes(scheme):
    layer = layer_of(activations(0, 9, 40), scheme)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        x = activations(1, 6, 40).reshape(2, 3, 40).to(dtype)
        assert layer(x).shape == (2, 3, 9)
        assert layer(x).dtype == dtype
    assert layer(torch.zeros(0, 40)).shape == (0, 9)
    assert layer(torch.zeros(40)).shape == (9,)


def test_strides_of_activations_change_nothing():
    layer = layer_of(activations(0, 9, 40))
    x = activations(1, 40, 6).t()
    assert torch.equal(layer(x), layer(x.contiguous()))


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_activations_that_are_not_finite_are_named(model, value):
    layer = layer_of(activations(0, 9, 4))
    x = torch.zeros(2, 4)
    x[1, 2] = float(value)
    with pytest.raises(ValueError, match=rf"0: input\[1, 2\] is {value}"):
        layer(x)


@pytest.mark.parametrize("scheme", ["llm_int8", "llm_int8_original"])
def test_outliers_that_are_not_finite_are_refused_too(scheme):
    layer = layer_of(activations(0, 9, 40), scheme, threshold=np.inf)
    x = activations(1, 3, 40)
    x[2, 7] = np.inf
    with pytest.raises(ValueError, match=r"input\[2, 7\] is inf"):
        layer(x)


@EVERY_SCHEME
def test_scales_stay_fp32_whatever_a_model_is_turned_to(scheme):
    layer = layer_of(activations(0, 9, 40), scheme)
    x = activations(1, 3, 40)
    expected = layer(x)
    for turned in (layer.to(torch.bfloat16), layer.half(), layer.double()):
        assert torch.equal(turned(x), expected)
        assert turned.scale.dtype == torch.float32


@EVERY_SCHEME
def test_a_model_in_bf16_stays_one(scheme):
    model = torch.nn.Sequential(torch.nn.Linear(40, 9)).bfloat16()
    x = activations(1, 3, 40).bfloat16()
    assert quantize_model(model, scheme)(x).dtype == torch.bfloat16
    back = dequantize_model(model)
    assert {p.dtype for p in back.parameters()} == {torch.bfloat16}
    assert back(x).dtype == torch.bfloat16


def test_flushed_subnormals_change_nothing():
    layer = layer_of(activations(0, 9, 40) * 1e-38, bias=False)
    x = activations(1, 3, 40, outliers=(2,))
    expected = layer.values(), layer(x)
    torch.set_flush_denormal(True)
    try:
        found = layer.values(), layer(x)
    finally:
        torch.set_flush_denormal(False)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a.view(torch.int32), b.view(torch.int32))
    assert (expected[0].abs() < 2**-126).any()


def test_a_layer_that_stands_twice_is_one_layer():
    linear = torch.nn.Linear(4, 4)
    model = quantize_model(torch.nn.Sequential(linear, torch.nn.ReLU(), linear))
    assert model[0] is model[2]
    assert isinstance(model[0], Int8Linear)


def test_a_wrong_width_is_said():
    with pytest.raises(ValueError, match=r"0 takes 4 columns, got shape \(2, 5\)"):
        layer_of(activations(0, 9, 4))(torch.zeros(2, 5))


def test_layers_refuse_to_train():
    layer = layer_of(activations(0, 9, 4))
    with pytest.raises(RuntimeError, match="inference_mode"):
        layer(torch.zeros(1, 4, requires_grad=True))


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@EVERY_SCHEME
@pytest.mark.parametrize(
    "weight", [torch.zeros(3, 4), torch.full((3, 4), 1e-45), torch.zeros(3, 0)]
)
def test_zero_and_tiny_and_empty_weights_have_results(scheme, weight):
    layer = layer_of(weight, scheme)
    x = torch.ones(2, weight.shape[1])
    expected = layer.bias + x.double() @ weight.double().t()
    torch.testing.assert_close(layer(x), expected.float())


# --- models -------------------------------------------------------------------------------------


@EVERY_SCHEME
@pytest.mark.parametrize("skip", [None, ()])
def test_a_saved_and_loaded_state_gives_the_same_logits(
    sample, model, tokens, scheme, skip, tmp_path
):
    quantized = quantize_model(model, scheme, skip=skip, threshold=2.0)
    expected = quantized(tokens).logits
    torch.save(quantized.state_dict(), tmp_path / "state.pt")
    other = quantize_model(copy.deepcopy(sample.model), scheme, skip=skip, threshold=2.0)
    for layer in int8_layers(other).values():
        layer.codes.zero_()
    other.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert torch.equal(other(tokens).logits, expected)


def test_a_state_takes_the_way_through_safetensors(sample, model, tokens, tmp_path):
    from safetensors.torch import load_file, save_file

    quantized = quantize_model(model)
    state = {name: tensor.clone() for name, tensor in quantized.state_dict().items()}
    save_file(state, tmp_path / "state.safetensors")
    other = quantize_model(copy.deepcopy(sample.model))
    other.load_state_dict(load_file(tmp_path / "state.safetensors"))
    assert torch.equal(other(tokens).logits, quantized(tokens).logits)


def test_the_footprint_shrinks_by_what_is_stored(sample, model):
    before = model.get_memory_footprint()
    layers = [m for m in model.modules() if isinstance(m, Conv1D)]
    weights = sum(layer.weight.numel() for layer in layers)
    outputs = sum(layer.nf for layer in layers)
    after = quantize_model(model).get_memory_footprint()
    assert after == before - 3 * weights + 4 * outputs


def test_the_head_is_left_alone_unless_asked_for(model):
    quantize_model(model)
    assert isinstance(model.lm_head, torch.nn.Linear)
    assert model.lm_head.weight is model.transformer.wte.weight


def test_a_tied_head_gets_codes_and_the_embedding_stays(sample, model, tokens):
    embedding = model.transformer.wte.weight.clone()
    quantize_model(model, skip=())
    assert isinstance(model.lm_head, Int8Linear)
    assert torch.equal(model.transformer.wte.weight, embedding)
    model.tie_weights()
    assert isinstance(model.lm_head, Int8Linear)
    dequantize_model(model)
    values = ff.absmax(embedding, axis=0).dequantize()
    assert torch.equal(model.lm_head.weight, values)
    assert torch.equal(model.transformer.wte.weight, embedding)


def test_dequantised_models_have_the_original_names_and_layers(sample, model):
    names = {name: t.shape for name, t in sample.model.state_dict().items()}
    back = dequantize_model(quantize_model(model))
    assert {name: t.shape for name, t in back.state_dict().items()} == names
    assert sum(isinstance(m, Conv1D) for m in back.modules()) == 16
    before = sample.model.transformer.h[0].attn.c_attn.weight
    after = back.transformer.h[0].attn.c_attn.weight
    assert torch.equal(after, ff.absmax(before.detach(), axis=1).dequantize())


def test_weight_only_layers_and_simulated_weights_give_equal_logits(sample, model, tokens):
    """Both multiply the same fp32 weights: the same product in the same order."""
    quantize_model(model, "int8_weight_only")
    simulated = copy.deepcopy(sample.model)
    simulate(simulated, "int8_row")
    with torch.inference_mode():
        a, b = model(tokens).logits, simulated(tokens).logits
    # A Conv1D multiplies (inputs, outputs), which BLAS adds up in another order.
    torch.testing.assert_close(a, b, rtol=0, atol=2e-4)


def test_int8_layers_and_simulated_ones_agree_to_fp32_rounding(sample, model, tokens):
    """Layer by layer: codes multiplied exactly, against their values multiplied in fp32."""
    inputs = {}
    hooks = [
        layer.register_forward_hook(
            lambda layer, given, out: inputs.update({layer: (given[0], out)})
        )
        for layer in int8_layers(quantize_model(model)).values()
    ]
    with torch.inference_mode():
        model(tokens)
    assert len(inputs) == 16 == len(hooks)
    for layer, (x, found) in inputs.items():
        values = ff.absmax(x, axis=(0, 1)).dequantize()
        simulated = torch.nn.functional.linear(values, layer.values(), layer.bias)
        error = (found - simulated).norm() / simulated.norm()
        assert error < 1e-6


def test_generation_and_evaluation_run_on_int8_layers(sample, model):
    quantize_model(model, "llm_int8")
    given = torch.tensor([sample.tokenizer.encode("The following ")])
    found = model.generate(given, max_new_tokens=8, do_sample=False, pad_token_id=0)
    assert found.shape == (1, given.shape[1] + 8)


def test_a_model_of_another_architecture_is_quantised():
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).eval()
    tokens = torch.arange(20)[None]
    with torch.inference_mode():
        before = model(tokens).logits
        after = quantize_model(model)(tokens).logits
    assert len(int8_layers(model)) == 14
    assert (after - before).norm() / before.norm() < 0.02


def test_patterns_choose_layers(model):
    quantize_model(model, skip=["lm_head", "*.attn.*"])
    assert {name.split(".")[3] for name in int8_layers(model)} == {"mlp"}


def test_quantising_twice_is_refused(model):
    quantize_model(model)
    with pytest.raises(ValueError, match="it has been quantised before"):
        quantize_model(model)


class Own(torch.nn.Linear):
    """What a library may make of a linear layer."""


class _Sub(torch.nn.Sequential):
    def __init__(self):
        super().__init__(Own(2, 2))


def _two():
    return torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: quantize_model(_two(), "int4"), "'int4'; .*int8_rowwise"),
        (lambda: quantize_model(torch.nn.LayerNorm(3)), "no Linear or Conv1D is left"),
        (lambda: quantize_model(torch.nn.Linear(2, 2)), "a single layer: put it into"),
        (lambda: quantize_model(_Sub()), "its layers are Own, which may do more"),
        (lambda: quantize_model(_two(), skip=["typo"]), "no layer is called 'typo'"),
        (lambda: quantize_model(torch.nn.Sequential(), threshold=-1), "at least 0.*-1"),
        (lambda: dequantize_model(torch.nn.Sequential()), "no int8 layers"),
    ],
)
def test_what_cannot_be_done_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_weights_that_are_not_finite_are_named_and_nothing_is_replaced():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    model[1].weight.data[1, 0] = np.inf
    with pytest.raises(ValueError, match=r"1\.weight\[1, 0\] is inf"):
        quantize_model(model)
    assert not int8_layers(model)


def test_something_else_than_a_model_is_refused():
    with pytest.raises(TypeError, match=r"torch\.nn\.Module, got str"):
        quantize_model("gpt2")
    with pytest.raises(TypeError, match=r"skip must be a sequence.*pass \['0'\]"):
        quantize_model(_two(), skip="0")
    with pytest.raises(TypeError, match="threshold must be a number, got '6'"):
        quantize_model(_two(), threshold="6")
    with torch.device("meta"):
        on_meta = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with pytest.raises(TypeError, match="0 is on meta; int8 layers run on the CPU"):
        quantize_model(on_meta)


@EVERY_SCHEME
def test_what_has_no_code_is_named_by_its_place_in_what_was_given(scheme):
    if not LAYER_SCHEMES[scheme].multiplies:
        return
    layer = layer_of(activations(0, 3, 4), scheme)
    x = torch.zeros(2, 3, 4)
    x[1, 1, 2] = torch.nan
    with pytest.raises(ValueError, match=r"input\[1, 1, 2\] is nan"):
        layer(x)
    with pytest.raises(ValueError, match=r"input\[0, 0\] is 1e\+300; that is beyond fp32"):
        layer(torch.full((1, 4), 1e300, dtype=torch.float64))
