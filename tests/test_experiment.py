"""The experiment: loading, footprints, weights, scores, texts, and the run as a whole."""

import copy
import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import floatfmt as ff
from floatfmt.data import SAMPLE_MODEL, train_sample
from floatfmt.experiment import (
    ModelError,
    Scorer,
    activation_outliers,
    beside_bitsandbytes,
    errata,
    first_weight,
    footprint,
    generate_texts,
    gpt2_footprints,
    histograms,
    layer_sensitivity,
    load_model,
    models,
    quantize_model,
    run,
    running,
    simulate,
    threshold_sweep,
)
from floatfmt.experiment.scoring import estimate, windows
from floatfmt.experiment.variants import DEFAULT_SCHEMES, scheme_of


@pytest.fixture(scope="module")
def sample():
    return load_model()


@pytest.fixture
def model(sample):
    return copy.deepcopy(sample.model)


@pytest.fixture(scope="module")
def scorer(sample):
    text = train_sample.heldout_text()[:400]
    return Scorer([0, *text], sample.model, 128, 64)


@pytest.fixture
def directory(tmp_path):
    """A copy of the sample model that a test may damage."""
    copied = tmp_path / "model"
    shutil.copytree(SAMPLE_MODEL, copied)
    return copied


# --- loading ------------------------------------------------------------------------------------


def test_a_directory_is_loaded_as_the_sample_is(directory, sample):
    found = load_model(directory, tokenizer="bytes")
    assert found.name == str(directory)
    assert (found.dtype, found.context, found.start) == ("fp32", 256, 0)
    for name, tensor in sample.model.state_dict().items():
        assert torch.equal(found.model.state_dict()[name], tensor)


def test_weights_of_another_format_are_computed_in_fp32(directory):
    path = directory / "model.safetensors"
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(path).items()}
    save_file(tensors, path, {"format": "pt"})
    _edit(directory / "config.json", dtype="bfloat16")
    found = load_model(directory, tokenizer="bytes")
    assert found.dtype == "bf16"
    assert {p.dtype for p in found.model.parameters()} == {torch.float32}


def test_a_tokenizer_of_the_hub_is_used(directory):
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel

    words = Tokenizer(WordLevel({"the": 0, "of": 1, "[UNK]": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(directory)
    found = load_model(directory)
    assert found.tokenizer.encode("the of the") == [0, 1, 0]
    assert found.tokenizer.decode([1, 0]) == "of the"


def _truncate(path):
    path.write_bytes(path.read_bytes()[:100_000])


def _poison(path):
    tensors = load_file(path)
    tensors["transformer.h.1.mlp.c_fc.weight"][3, 5] = math.nan
    save_file(tensors, path, {"format": "pt"})


def _drop_a_tensor(path):
    tensors = load_file(path)
    del tensors["transformer.h.1.mlp.c_fc.weight"]
    save_file(tensors, path, {"format": "pt"})


def _edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "config.json").unlink(), "has no config.json"),
        (lambda d: (d / "config.json").write_text("{"), "config.json cannot be read"),
        (lambda d: (d / "config.json").write_text("[]"), "no JSON object"),
        (
            lambda d: (d / "model.safetensors").unlink(),
            "has no weights: it needs model.safetensors",
        ),
        (
            lambda d: (d / "model.safetensors").rename(d / "pytorch_model.bin"),
            "is a pickle, which can run any code",
        ),
        (
            lambda d: (d / "model.safetensors").rename(d / "model.safetensors.incomplete"),
            "model.safetensors.incomplete is half a download",
        ),
        (lambda d: _truncate(d / "model.safetensors"), "is the download complete"),
        (lambda d: _poison(d / "model.safetensors"), r"c_fc\.weight\[3, 5\] is nan"),
        (lambda d: _drop_a_tensor(d / "model.safetensors"), r"lacks 1 tensors.*1\.mlp\.c_fc"),
        (lambda d: _edit(d / "config.json", n_embd=96), r"has shape \(.*by config.json it is \("),
        (
            lambda d: _edit(d / "config.json", model_type="t5", n_layer=None),
            "causal language model",
        ),
        (lambda d: _edit(d / "config.json", model_type="never"), "causal language model"),
        (
            lambda d: _edit(d / "config.json", vocab_size=300),
            r"wte\.weight has shape \(256, 192\).*\(300, 192\)",
        ),
    ],
)
def test_a_damaged_directory_is_one_clear_line(directory, damage, message):
    damage(directory)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(directory, tokenizer="bytes")
    assert "\n" not in str(caught.value)


def test_a_shard_that_is_missing_is_named(directory):
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    index = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(tensors)}
    for file in set(index.values()):
        part = {name: t for name, t in tensors.items() if index[name] == file}
        save_file(part, directory / file, {"format": "pt"})
    (directory / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )
    assert load_model(directory, tokenizer="bytes").context == 256
    (directory / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match="model-00002-of-00002"):
        load_model(directory, tokenizer="bytes")


def test_a_tokenizer_that_is_missing_is_said_and_bytes_are_offered(directory):
    with pytest.raises(ModelError, match=r"has no tokenizer.*--tokenizer bytes"):
        load_model(directory)


def test_a_path_that_is_not_there_is_no_hub_id(tmp_path):
    with pytest.raises(ModelError, match="is not there"):
        load_model(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="is a file"):
        load_model(tmp_path / "file")


@pytest.mark.parametrize("is_there", [True, False])
def test_a_hub_id_without_a_hub_says_what_to_download(monkeypatch, is_there):
    def offline(where, **options):
        assert (where, options["local_files_only"]) == ("openai-community/gpt2", not is_there)
        raise OSError("We couldn't connect. Check your internet connection.")

    monkeypatch.setattr(models, "_hub_is_there", lambda: is_there)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", offline)
    with pytest.raises(ModelError, match=r"download config.json, model.safetensors and tokenizer"):
        load_model("openai-community/gpt2")


def test_a_quantised_checkpoint_is_refused(directory):
    path = directory / "model.safetensors"
    ff.quantize_checkpoint(path, directory / "int8.safetensors", scheme="int8_row")
    (directory / "int8.safetensors").replace(path)
    with pytest.raises(ModelError, match="floatfmt dequantize"):
        load_model(directory, tokenizer="bytes")


# --- footprints ---------------------------------------------------------------------------------


def test_the_published_footprints_of_gpt2_come_out():
    now, fp32, int8 = gpt2_footprints()
    assert (now.nbytes, fp32.nbytes, int8.nbytes) == (497_759_232, 510_342_192, 176_527_896)
    assert {row.parameters for row in (now, fp32, int8)} == {124_439_808}


@pytest.mark.parametrize("scheme", ["int8_rowwise", "llm_int8", "llm_int8_original"])
def test_counted_footprints_are_those_of_the_layers(model, scheme):
    counted = {row.name: row.nbytes for row in footprint(model, [scheme])}
    assert counted["fp32"] == model.get_memory_footprint()
    assert quantize_model(model, scheme).get_memory_footprint() == counted[scheme]


@pytest.mark.parametrize("scheme", ["int8_absmax", "int8_zeropoint", "int8_row", "nf4", "nvfp4"])
def test_counted_footprints_are_those_of_the_quantised_tensors(model, scheme):
    row = scheme_of(scheme)
    quantised = set()
    total = 0
    for module in model.modules():
        for kind in ("weight", "bias"):
            parameter = getattr(module, kind, None)
            is_linear = type(module).__name__ == "Conv1D" and kind == "weight"
            if parameter is None or id(parameter) in quantised:
                continue
            quantised.add(id(parameter))
            matrix = parameter.detach().t() if type(module).__name__ == "Conv1D" else parameter
            matrix = matrix if parameter.ndim == 2 else parameter
            if row.parameters == "all" or is_linear:
                total += ff.quantize(matrix.detach(), **row.options_for(parameter.ndim)).nbytes
            else:
                total += parameter.nbytes
    assert footprint(model, [scheme])[1].nbytes == total


# --- weights ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["bf16", "fp8_e4m3fn", "int8_absmax", "int8_zeropoint"])
def test_every_parameter_becomes_what_its_codes_stand_for(sample, model, scheme):
    found = simulate(model, scheme)
    assert found.count == sum(p.numel() for p in model.parameters())
    originals = dict(sample.model.named_parameters())
    for name, parameter in model.named_parameters():
        x = originals[name].detach()
        if scheme.startswith("int8"):
            expected = ff.quantize(x, scheme.removeprefix("int8_")).dequantize()
        else:
            expected = ff.decode(ff.encode(x, scheme), scheme).float()
        assert torch.equal(parameter.detach(), expected), name


@pytest.mark.parametrize("scheme", ["int8_row", "nf4", "mxfp4"])
def test_rows_and_blocks_are_those_of_inputs(sample, model, scheme):
    """A Conv1D stores (inputs, outputs): what shares a scale must not depend on that."""
    simulate(model, scheme)
    before = sample.model.transformer.h[0].mlp.c_fc.weight.detach().t().contiguous()
    options = scheme_of(scheme).options
    expected = ff.quantize(before, **options).dequantize()
    assert torch.equal(model.transformer.h[0].mlp.c_fc.weight.detach().t(), expected)
    assert torch.equal(model.transformer.wte.weight, sample.model.transformer.wte.weight)
    assert torch.equal(
        model.transformer.h[0].ln_1.weight, sample.model.transformer.h[0].ln_1.weight
    )


def test_the_article_protocol_gives_the_codes_that_it_prints():
    """The corner of GPT-2's first attention weight, as the article prints it."""
    data = Path(__file__).parent / "data" / "article.json"
    printed = json.loads(data.read_text())["gpt2_h0_attn_c_attn"]
    weight = torch.tensor(printed["weights"])
    # The extremes, which the article does not print: any others in their range give these codes.
    weight = torch.cat([weight, torch.tensor([[printed["min"], printed["max"], 0, 0, 0, 0]])])
    layer = torch.nn.Linear(6, 7, bias=False)
    layer.weight.data = weight
    found = first_weight(torch.nn.ModuleDict({"attn": layer}))
    codes = {after.scheme: [list(row) for row in after.codes] for after in found.after}
    at = found.rows[:3]
    assert at == (0, 1, 2)
    assert codes["int8_absmax"][:3] == printed["absmax_codes"][:3]
    assert codes["int8_zeropoint"][:3] == printed["zeropoint_codes"][:3]
    assert found.after[1].zero_point == printed["zeropoint"]


def test_the_first_weight_shows_its_bits(sample):
    found = first_weight(sample.model, ["bf16", "mxfp4", "int8_absmax", "nf4"])
    assert found.name == "transformer.h.0.attn.c_attn.weight"
    assert found.rows == (0, 1, 2, 189, 190, 191)
    value = sample.model.transformer.h[0].attn.c_attn.weight[0, 0].item()
    assert found.values[0][0] == value
    assert found.bits[0][0].replace("|", "") == ff.inspect(value, "fp32").bits
    bits = {after.scheme: after.bits[0][0] for after in found.after}
    assert bits["bf16"].replace("|", "") == ff.inspect(value, "bf16").bits
    assert [len(bits[name].replace("|", "")) for name in bits] == [16, 4, 8, 4]
    assert bits["bf16"].count("|") == 2
    assert int(bits["int8_absmax"], 2) == found.after[2].codes[0][0] % 256


def test_histograms_count_every_weight(sample, model):
    simulate(model, "int8_absmax")
    article, robust = histograms({"original": sample.model, "int8_absmax": model})
    size = sum(p.numel() for p in model.parameters())
    everything = np.concatenate([p.detach().numpy().ravel() for p in sample.model.parameters()])
    for found in (article, robust):
        for name in ("original", "int8_absmax"):
            assert found.counts[name].sum() + found.outside[name] == size
        expected, _ = np.histogram(everything, 150, (found.low, found.high))
        np.testing.assert_array_equal(found.counts["original"], expected)
    assert (article.low, article.high, article.bins) == (-2, 2, 150)
    assert 0.999 <= np.mean(np.abs(everything) <= robust.high) < 0.9995


def test_histograms_of_int8_layers_count_what_codes_stand_for(sample, model):
    simulated = copy.deepcopy(sample.model)
    simulate(simulated, "int8_row")
    found = histograms({"simulated": simulated, "layers": quantize_model(model)})
    np.testing.assert_array_equal(found[0].counts["simulated"], found[0].counts["layers"])


@pytest.mark.parametrize(
    ("scheme", "parameters", "message"),
    [
        ("int9", None, "int9"),
        ("original", None, "always there"),
        ("llm_int8", "all", "for linear layers"),
        ("bf16", "some", "'all' or 'linear', got 'some'"),
    ],
)
def test_unknown_schemes_are_refused(scheme, parameters, message):
    with pytest.raises(ValueError, match=message):
        scheme_of(scheme, parameters)


def test_a_value_beyond_a_format_is_named(model):
    model.transformer.h[2].mlp.c_fc.weight.data[4, 7] = 1e6
    with pytest.raises(ValueError, match=r"h\.2\.mlp\.c_fc\.weight\[4, 7\] becomes inf in fp16"):
        simulate(model, "fp16")


def test_layers_are_no_simulation(model):
    with pytest.raises(ValueError, match="call quantize_model"):
        simulate(model, "llm_int8")


# --- scores -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "length", "stride"), [(129, 128, 64), (401, 128, 64), (300, 7, 3)]
)
def test_windows_predict_every_token_once(tokens, length, stride):
    predicted = []
    for window in windows(tokens, length, stride):
        assert window.stop - window.start == length
        predicted += range(window.start + window.first + 1, window.stop + 1)
    assert predicted == list(range(1, tokens))


def test_a_score_is_that_of_the_sample_models_own_evaluation(sample, scorer):
    text = train_sample.heldout_text()[:700]
    found = Scorer([0, *text], sample.model, 256, 128).score(sample.model)
    bits = train_sample.bits_per_byte(sample.model, text)
    assert found.tokens == 700
    assert math.log2(found.perplexity.value) == pytest.approx(bits, rel=1e-6)


def test_the_original_differs_from_itself_by_nothing(sample, scorer, model):
    found = scorer.score(model)
    assert (found.ratio.value, found.ratio.error) == (1, 0)
    assert (found.kl.value, found.kl.error) == (0, 0)
    assert (found.top1.value, found.top1.error) == (1, 0)
    assert found.perplexity == scorer.score(sample.model).perplexity


def test_divergences_are_those_of_the_definition(sample, scorer, model):
    simulate(model, "nf4")
    found = scorer.score(model)
    kl, same = [], []
    with torch.inference_mode():
        for window in windows(401, 128, 64):
            given = scorer.tokens[None, window.start : window.stop]
            q, p = (m(given).logits[0, window.first :].double() for m in (sample.model, model))
            divergence = torch.nn.functional.kl_div(
                p.log_softmax(-1), q.log_softmax(-1), reduction="none", log_target=True
            )
            kl.append(divergence.sum(-1))
            same.append(q.argmax(-1) == p.argmax(-1))
    assert found.kl.value == pytest.approx(torch.cat(kl).mean().item(), rel=1e-3)
    assert found.top1.value == pytest.approx(torch.cat(same).double().mean().item(), abs=0.006)
    assert found.kl.value > 0


def test_distributions_that_do_not_fit_are_computed_again(sample, model, monkeypatch):
    from floatfmt.experiment import scoring

    simulate(model, "nf4")
    tokens = [0, *train_sample.heldout_text()[:300]]
    kept = Scorer(tokens, sample.model, 128, 64).score(model)
    monkeypatch.setattr(scoring, "KEPT_BYTES", 0)
    assert Scorer(tokens, sample.model, 128, 64).score(model) == kept


def test_standard_errors_are_those_of_batch_means():
    rng = np.random.default_rng(0)
    independent = rng.normal(size=32 * 1000)
    assert estimate(independent).error == pytest.approx(1 / math.sqrt(32_000), rel=0.1)
    dependent = np.repeat(rng.normal(size=4000), 8)
    assert estimate(dependent).error == pytest.approx(1 / math.sqrt(4000), rel=0.1)
    assert math.isnan(estimate(np.ones(127)).error)


@pytest.mark.parametrize(
    ("tokens", "length", "stride", "message"),
    [
        (100, 128, 64, "99 tokens to predict, fewer than a window of 128"),
        (300, 128, 0, "1 to 128"),
        (300, 128, 129, "1 to 128"),
    ],
)
def test_texts_and_strides_that_do_not_fit_are_refused(sample, tokens, length, stride, message):
    with pytest.raises(ValueError, match=message):
        Scorer([0] * tokens, sample.model, length, stride)


# --- texts --------------------------------------------------------------------------------------


def test_texts_start_from_the_seed_each(sample):
    one = generate_texts(sample, "The following ", new_tokens=20)
    state = torch.get_rng_state()
    two = generate_texts(sample, "The following ", new_tokens=20)
    assert one == two
    assert torch.equal(torch.get_rng_state(), state)
    assert generate_texts(sample, "The following ", new_tokens=20, seed=1)[1] != one[1]
    assert one[0] == generate_texts(sample, "The following ", new_tokens=20, seed=1)[0]


def test_greedy_texts_take_the_likeliest_token(sample):
    expected = train_sample.generate(sample.model, b"The following ", 20).decode()
    assert generate_texts(sample, "The following ", new_tokens=20)[0].continuation == expected


def test_a_text_has_the_perplexity_of_the_articles_protocol(sample):
    text = generate_texts(sample, "The following ", new_tokens=20)[1]
    tokens = torch.tensor([list((text.prompt + text.continuation).encode())])
    with torch.inference_mode():
        loss = sample.model(tokens, labels=tokens).loss.item()
    assert text.perplexity == pytest.approx(math.exp(loss))


def test_texts_end_with_the_context(sample):
    text = generate_texts(sample, "x" * 250, new_tokens=50)[0]
    assert len(text.continuation) <= 6


@pytest.mark.parametrize(("prompt", "message"), [("", "is empty"), ("x" * 256, "256 tokens")])
def test_prompts_that_do_not_fit_are_refused(sample, prompt, message):
    with pytest.raises(ValueError, match=message):
        generate_texts(sample, prompt)


# --- where the loss comes from ------------------------------------------------------------------


def test_sensitivity_quantises_one_matrix_at_a_time(sample, scorer, model):
    found = layer_sensitivity(model, scorer, "int4")
    matrices = {name for name, p in model.named_parameters() if p.ndim == 2}
    assert {row.layer for row in found.rows} == matrices
    kls = [row.score.kl.value for row in found.rows]
    assert kls == sorted(kls, reverse=True)
    assert kls[-1] > 0
    worst = found.rows[0]
    changed = copy.deepcopy(model)
    parameter = dict(changed.named_parameters())[worst.layer]
    parameter.data = ff.quantize(parameter.detach(), "absmax", bits=4).dequantize()
    assert scorer.score(changed).kl.value == pytest.approx(worst.score.kl.value, rel=1e-6)
    for name, tensor in sample.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_outliers_are_those_of_the_layers_inputs(sample, scorer, model):
    seen = []
    layer = model.transformer.h[2].mlp.c_fc
    hook = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].flatten(0, -2)))
    scorer.run(model)
    hook.remove()
    x = torch.cat(seen)
    found = activation_outliers(model, scorer, threshold=4.0)
    row = next(row for row in found.rows if row.layer == "transformer.h.2.mlp.c_fc")
    columns = (x.abs() >= 4).any(0)
    assert len(found.rows) == 16
    assert row.outlier_count == int(columns.sum()) > 0
    assert row.outlier_columns[0] == int(x.abs().amax(0).argmax())
    assert row.outlier_share == pytest.approx((x.abs() >= 4).double().mean().item())
    assert row.largest == x.abs().max().item()
    assert not layer._forward_pre_hooks


def test_the_threshold_sweep_goes_from_none_to_all(sample, scorer):
    found = threshold_sweep(sample.model, scorer, [0.0, 3.0, math.inf])
    assert [row.threshold for row in found.rows] == [math.inf, 3, 0]
    shares = [row.outlier_share for row in found.rows]
    assert shares[0] == 0 < shares[1] < shares[2] == 1
    assert found.rows[2].score.kl.value < found.rows[0].score.kl.value


def test_bitsandbytes_codes_are_explained(sample, scorer):
    found = beside_bitsandbytes(sample.model, scorer, 6.0)
    assert found.layers == 16
    assert 0 < found.differing_codes < 0.02 * found.codes
    assert found.differences[0].endswith("which leaves 0.")
    assert abs(found.score.ratio.value - 1) < 0.01


# --- the whole ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole():
    calls = []
    found = run(max_tokens=600, new_tokens=8, progress=lambda *call: calls.append(call))
    return found, calls


def test_a_run_has_every_part(whole):
    found, calls = whole
    assert [variant.name for variant in found.variants] == ["original", *DEFAULT_SCHEMES]
    assert all(variant.score and len(variant.texts) == 2 for variant in found.variants)
    assert None not in (found.sensitivity, found.outliers, found.sweep, found.peer)
    assert found.interrupted is None
    assert found.errata == errata()
    assert {doing.split(":")[0] for doing, _, _ in calls} >= {"original", "bf16", "bitsandbytes"}
    assert all(0 <= done <= total for _, done, total in calls)


def test_good_schemes_stay_within_half_a_percent(whole):
    ratios = {v.name: v.score.ratio.value for v in whole[0].variants[1:]}
    for name in ("bf16", "fp16", "int8_row", "int8_rowwise", "llm_int8"):
        assert abs(ratios[name] - 1) < 0.005, name


def test_a_run_prints_and_is_json(whole):
    found, _ = whole
    text = str(found)
    for part in ("What each scheme costs", "510,342,192", "bitsandbytes", "article got wrong"):
        assert part in text
    answer = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert answer["schema"] == "floatfmt.experiment/1"
    assert answer["variants"][1]["score"]["kl"]["value"] > 0
    assert answer["footprints"][0]["bits_per_parameter"] == 32


def test_an_interruption_keeps_what_is_finished(monkeypatch):
    made = running.copy_in_scheme

    def interrupted(model, scheme, **options):
        if scheme.name == "nf4":
            raise KeyboardInterrupt
        return made(model, scheme, **options)

    monkeypatch.setattr(running, "copy_in_scheme", interrupted)
    found = run(schemes=["bf16", "nf4"], max_tokens=300, new_tokens=2)
    assert found.interrupted == "variants"
    assert [variant.name for variant in found.variants] == ["original", "bf16"]
    assert found.variants[1].texts
    assert found.sweep is None
    assert "Interrupted at the step 'variants'" in str(found)


def test_what_fails_costs_no_other_result(monkeypatch, sample):
    monkeypatch.setattr(running, "activation_outliers", lambda *_: 1 // 0)
    monkeypatch.setattr(running, "FAILURES", (ValueError, ZeroDivisionError))
    changed = dataclasses.replace(sample, model=copy.deepcopy(sample.model))
    changed.model.transformer.ln_f.weight.data[3] = 1000  # beyond e4m3's 448, a NaN
    schemes = ["int8_row", "fp8_e4m3fn", "bf16"]
    found = run(changed, schemes=schemes, max_tokens=300, new_tokens=2, sensitivity=None)
    assert [variant.name for variant in found.variants] == ["original", "int8_row", "bf16"]
    notes = " ".join(found.notes)
    assert "fp8_e4m3fn is left out, or not whole: transformer.ln_f.weight[3] becomes nan" in notes
    assert "The step 'outliers' failed: " in notes
    assert found.sweep is not None
    assert found.interrupted is None


def test_footprints_are_for_the_parameters_asked_for(sample, monkeypatch):
    for step in ("outliers", "sweep", "peer"):
        monkeypatch.setattr(running._Run, step, lambda self: None)
    options = {"max_tokens": 300, "new_tokens": 2, "sensitivity": None}
    found = run(sample, schemes=["bf16"], parameters="linear", **options)
    assert found.footprints[1].nbytes == found.variants[1].nbytes > 0.5 * 7_512_576


def test_a_run_leaves_the_random_state_as_it_was(scorer, sample):
    before = torch.get_rng_state()
    beside_bitsandbytes(sample, scorer, 6.0)
    assert torch.equal(torch.get_rng_state(), before)


def test_steps_take_the_language_model_too_and_print(sample, scorer):
    assert scorer.score(sample) == scorer.score(sample.model)
    assert footprint(sample, ["bf16"]) == footprint(sample.model, ["bf16"])
    assert "[573]" in str(first_weight(sample))
    assert "threshold" in str(threshold_sweep(sample, scorer, [6.0]))
    assert "outlier" in str(activation_outliers(sample, scorer))
    assert str(scorer.score(sample)).startswith("tokens      400\nperplexity")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schemes": ["int9"]}, "int9"),
        ({"schemes": [""]}, "a scheme's name is empty"),
        ({"sensitivity": "llm_int8"}, "is one of layers, not of single matrices"),
        ({"seed": 2**64}, "seed must be"),
        ({"sensitivity": "int9"}, "int9"),
        ({"text": "short"}, "fewer than a window of 256"),
        ({"prompt": "x" * 300}, "300 tokens"),
        ({"window": 300}, "1 to 256"),
        ({"stride": 0}, "stride must be 1"),
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        ({"threshold": 0}, "above 0"),
        ({"tokenizer": "words"}, "None or 'bytes'"),
    ],
)
def test_what_cannot_be_run_is_said_first(options, message):
    with pytest.raises(ValueError, match=message):
        run(**options)


def test_the_errata_are_computed():
    corrections = " ".join(erratum.correction for erratum in errata())
    assert "off by 0.00079" in corrections
    assert "[[-8001, 0], [-10795, -5334], [-16129, -16129]]" in corrections
    assert "[[106.00787, -34.0], [-41.00787, 124.01575], [-10.0, 164.0]]" in corrections
