"""The audio VAE, the vocoder and the mel spectrogram against the official code's numbers and names."""

import json

import pytest
import torch
from places import REFERENCE
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

from ovi_studio.models.audio_vae import AudioVAE
from ovi_studio.models.mel import FLOOR, mel_filterbank, mel_spectrogram
from ovi_studio.models.vocoder import Snake, Vocoder, fold_weight_norm

TOLERANCE = 2e-5
PARAMETRIZED = ("parametrizations.weight.original0", "parametrizations.weight.original1")


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return ((actual - expected).norm() / expected.norm()).item()


def meta_tensors(keys: str) -> dict[str, Tensor]:
    shapes = json.loads((REFERENCE / "keys" / f"{keys}.keys.json").read_text())
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.fixture
def config() -> dict:
    return json.loads((REFERENCE / "audio_codec.config.json").read_text())


@pytest.fixture
def case() -> dict[str, Tensor]:
    return load_file(REFERENCE / "audio_codec.case.safetensors")


@pytest.fixture
def vae(config) -> AudioVAE:
    vae = AudioVAE(**config["vae"])
    vae.load_state_dict(load_file(REFERENCE / "audio_codec.vae.safetensors"))
    return vae


@pytest.fixture
def vocoder_file() -> dict[str, Tensor]:
    return load_file(REFERENCE / "audio_codec.vocoder.safetensors")


@pytest.fixture
def vocoder(config, vocoder_file) -> Vocoder:
    vocoder = Vocoder.from_config(config["vocoder"])
    vocoder.load_state_dict(fold_weight_norm(vocoder_file))
    return vocoder


@pytest.mark.parametrize("fused", [False, True])
@torch.inference_mode()
def test_vae_matches_the_reference_with_raw_and_with_fused_weights(vae, case, fused):
    if fused:
        vae.fuse_weight_norm()
    assert relative_error(vae.encode(case["mel_in"]), case["latent_mean"]) < TOLERANCE
    assert relative_error(vae.decode(case["latent"]), case["mel"]) < TOLERANCE


@torch.inference_mode()
def test_vocoder_matches_the_reference(vocoder, case):
    assert relative_error(vocoder(case["mel"]), case["waveform"]) < TOLERANCE


@torch.inference_mode()
def test_latent_becomes_the_reference_waveform(vae, vocoder, case):
    waveform = vocoder(vae.fuse_weight_norm().decode(case["latent"]))
    assert relative_error(waveform, case["waveform"]) < TOLERANCE


@torch.inference_mode()
def test_each_clip_of_a_batch_decodes_as_it_does_alone(vae, vocoder, case):
    latents = torch.cat([case["latent"], case["latent"].flip(-1)])
    waveforms = vocoder(vae.decode(latents))
    assert relative_error(waveforms[:1], case["waveform"]) < TOLERANCE
    assert relative_error(waveforms[1:], vocoder(vae.decode(latents[1:]))) < TOLERANCE


def test_fusing_twice_changes_nothing(vae):
    once = {name: tensor.clone() for name, tensor in vae.fuse_weight_norm().state_dict().items()}
    twice = vae.fuse_weight_norm().state_dict()
    assert all(torch.equal(once[name], twice[name]) for name in once)


@torch.inference_mode()
def test_loading_raw_weights_into_a_fused_model_normalises_them_again(vae, case):
    vae.fuse_weight_norm()
    vae.load_state_dict(load_file(REFERENCE / "audio_codec.vae.safetensors"))
    assert relative_error(vae.decode(case["latent"]), case["mel"]) < TOLERANCE


def test_full_size_vae_takes_exactly_the_official_tensors(config):
    with torch.device("meta"):
        vae = AudioVAE(**config["vae"] | {"hidden_dim": 384})
    vae.load_state_dict(meta_tensors("mmaudio_vae_16k"), strict=True)


@pytest.mark.slow
def test_full_size_vocoder_takes_exactly_the_official_tensors(config):
    with torch.device("meta"):
        vocoder = Vocoder.from_config(config["vocoder"] | {"upsample_initial_channel": 1536})
    vocoder.load_state_dict(fold_weight_norm(meta_tensors("bigvgan_16k")), strict=True)


def test_vae_resamples_and_attends_at_the_configured_levels(config):
    layers = {"ch_mult": [2, 3, 4], "down_layers": [0, 1], "attn_layers": [1]}
    vae = AudioVAE(**config["vae"] | layers)
    shapes = {name: tuple(tensor.shape) for name, tensor in vae.state_dict().items()}
    assert {f"encoder.down.1.attn.{i}.qkv.weight" for i in range(2)} <= shapes.keys()
    assert {f"decoder.up.1.attn.{i}.proj_out.weight" for i in range(3)} <= shapes.keys()
    assert {"encoder.down.1.downsample.conv2.weight", "decoder.up.2.upsample.conv.weight"} <= shapes.keys()
    assert shapes["encoder.down.0.block.0.nin_shortcut.weight"] == (16, 8, 1)
    assert shapes["decoder.conv_out.weight"] == (80, 16, 3)
    mel = torch.randn(2, 80, 16)
    latent = vae.encode(mel)
    assert latent.shape == (2, 20, 4)
    assert vae.decode(latent).shape == mel.shape


def test_all_spellings_of_weight_norm_fold_to_the_same_weights(vocoder_file):
    older = {
        name.replace(PARAMETRIZED[0], "weight_g").replace(PARAMETRIZED[1], "weight_v"): tensor
        for name, tensor in vocoder_file.items()
    }
    folded = fold_weight_norm(vocoder_file)
    for same in (fold_weight_norm(older), fold_weight_norm(folded)):
        assert same.keys() == folded.keys()
        assert all(torch.equal(same[name], folded[name]) for name in folded)


def test_folded_weight_is_the_one_pytorch_computes(vocoder_file):
    layer = nn.utils.parametrizations.weight_norm(nn.ConvTranspose1d(32, 16, 8))
    layer.load_state_dict(
        {name.removeprefix("ups.1.0."): t for name, t in vocoder_file.items() if name.startswith("ups.1.0.")}
    )
    assert relative_error(fold_weight_norm(vocoder_file)["ups.1.0.weight"], layer.weight) < 1e-6


def test_half_of_a_weight_norm_pair_is_refused(vocoder_file):
    for half in PARAMETRIZED:
        rest = {name: tensor for name, tensor in vocoder_file.items() if name != f"conv_pre.{half}"}
        with pytest.raises(ValueError, match="conv_pre"):
            fold_weight_norm(rest)


@pytest.mark.parametrize(
    "entry",
    [
        {"resblock": "2"},
        {"activation": "leaky_relu"},
        {"use_tanh_at_final": False},
        {"use_bias_at_final": False},
    ],
)
def test_vocoder_refuses_what_it_does_not_implement(config, entry):
    with pytest.raises(ValueError, match="not supported"):
        Vocoder.from_config(config["vocoder"] | entry)


def test_anti_aliasing_filters_are_those_of_the_file(config, vocoder_file):
    fresh = Vocoder.from_config(config["vocoder"]).state_dict()
    filters = [name for name in fresh if name.endswith("filter")]
    assert len(filters) == 2 * (18 * 6 + 1)
    assert all(relative_error(fresh[name], vocoder_file[name]) < 1e-6 for name in filters)


@pytest.mark.parametrize("beta", [False, True])
@pytest.mark.parametrize("logscale", [False, True])
def test_snake_has_the_gradients_of_its_formula(beta, logscale):
    snake = Snake(3, beta=beta, logscale=logscale).double()
    parameters = [(torch.rand(3, dtype=torch.double) + 0.5).requires_grad_() for _ in snake.parameters()]
    names = [name for name, _ in snake.named_parameters()]
    x = torch.randn(2, 3, 5, dtype=torch.double, requires_grad=True)

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(snake, dict(zip(names, values, strict=True)), x)

    scales = [p.exp() if logscale else p for p in parameters]
    alpha, divisor = scales[0][:, None], scales[-1][:, None]
    torch.testing.assert_close(call(x, *parameters), x + (alpha * x).sin() ** 2 / divisor)
    assert torch.autograd.gradcheck(call, (x, *parameters))


def test_gradients_reach_every_parameter(vae, vocoder, case):
    waveform = vocoder(vae.decode(case["latent"]))
    assert relative_error(waveform, case["waveform"]) < TOLERANCE
    (waveform.square().mean() + vae.encode(case["mel_in"]).square().mean()).backward()
    missing = [
        name
        for model in (vae, vocoder)
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or parameter.grad.abs().max() == 0
    ]
    assert missing == []


def test_mel_filterbank_is_the_slaney_one():
    expected = mel_filter_bank(513, 80, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney").T
    assert relative_error(mel_filterbank(), torch.from_numpy(expected).float()) < 1e-6


def test_tone_peaks_in_its_mel_band_at_every_frame():
    tone = 0.5 * torch.sin(2 * torch.pi * 1000 / 16_000 * torch.arange(16_000))
    mel = mel_spectrogram(tone[None])
    assert mel.shape == (1, 80, 62)
    centres = (mel_filterbank() * torch.linspace(0, 8000, 513)).sum(1) / mel_filterbank().sum(1)
    nearest = (centres - 1000).abs().argmin()
    assert (mel.argmax(1) == nearest).all()


def test_silence_is_the_floor_and_has_finite_gradients():
    silence = torch.zeros(2, 4096, requires_grad=True)
    mel = mel_spectrogram(silence)
    assert torch.allclose(mel, torch.tensor(FLOOR).log10())
    mel.sum().backward()
    assert silence.grad.isfinite().all()
