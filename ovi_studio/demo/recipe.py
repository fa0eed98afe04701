"""How the embedded bundle is made: codecs and text encoder from scenes, then the transformer on their latents.

Each stage leaves `weights.safetensors` in a folder of its own and is left out if it is there; a stage that was killed
goes on. Text, audio and video can be trained side by side, a process each; so can vocoder and transformer. The decoder
comes last, since it learns to read what the transformer makes.
"""

import functools
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ovi_studio.checkpoints.hashes import file_sha256
from ovi_studio.checkpoints.layout import take_inventory
from ovi_studio.checkpoints.load import Models, load_models
from ovi_studio.core.spec import DEFAULT_AUDIO_NEGATIVE_PROMPT, DEFAULT_VIDEO_NEGATIVE_PROMPT
from ovi_studio.core.variants import read_bundle
from ovi_studio.demo import codecs, words
from ovi_studio.demo.bundle_writer import write_bundle
from ovi_studio.demo.captions import caption
from ovi_studio.demo.dimensions import BUNDLE, DIMENSIONS
from ovi_studio.demo.fit import Budget
from ovi_studio.demo.remade import Remaker
from ovi_studio.demo.scenes import Background, Motion, Scene, Shape, draw_lesson, draw_scene, render, synthesise
from ovi_studio.demo.sheets import Row, save_sheet
from ovi_studio.models import video_vae
from ovi_studio.models.audio_vae import AudioVAE
from ovi_studio.models.mel import mel_spectrogram
from ovi_studio.models.text_encoder import build_text_encoder, encode_texts
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.models.video_vae import from_bytes, to_bytes
from ovi_studio.models.vocoder import Vocoder
from ovi_studio.sampling.denoise import Schedule, denoise, draw_noise
from ovi_studio.training.cache import LatentDataset, Sample, write_sample
from ovi_studio.training.flow import Unconditional
from ovi_studio.training.settings import FlowSettings, TrainSettings
from ovi_studio.training.trainer import EMA, train

WEIGHTS = "weights.safetensors"
_START = "start.safetensors"
_STATISTICS = "statistics.json"
_CAPTIONS = 4
"""Of each scene, in other words."""
_STATISTICS_SCENES = 64
_SHOWN, _STEPS, _SHIFT, _GUIDANCE = 4, 20, 5.0, 3.0
"""Of the sample clips."""
_REMADE = 0.7
"""Part of the decoder's clips whose latents are the transformer's."""


@dataclass(frozen=True)
class Recipe:
    """How long each stage is trained, and on how many scenes."""

    seed: int
    text: Budget
    audio: Budget
    video: Budget
    vocoder: Budget
    decoder: Budget
    scenes: int
    transformer: TrainSettings


RECIPE = Recipe(
    seed=0,
    text=Budget(minutes=2, learning_rate=3e-3),
    audio=Budget(minutes=9),
    video=Budget(minutes=20),
    vocoder=Budget(minutes=20),
    decoder=Budget(minutes=70, learning_rate=5e-4, matrix_rate=4e-3),
    scenes=3000,
    transformer=TrainSettings(
        minutes=170,
        batch_size=8,
        learning_rate=2e-3,
        muon_learning_rate=0.02,
        ema=0.998,
        flow=FlowSettings(shift=3.0, first_frame=0.15),
        checkpoint_minutes=3.0,
    ),
)
"""For a bundle like the committed one (what differed stands in docs/demo-model.md); minutes of one server core each."""
FURTHER = replace(
    RECIPE,
    decoder=replace(RECIPE.decoder, minutes=58),
    transformer=replace(
        RECIPE.transformer,
        minutes=55,
        learning_rate=1e-3,
        muon_learning_rate=0.01,
        # Outlines are decided late on the way from noise to clip.
        flow=FlowSettings(shift=1.5, first_frame=0.4),
    ),
)
"""For a bundle that is trained further: at half of the rates, and nearer to the clean clip."""


class Workshop:
    """The stages of one training folder."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.folder = folder
        self.recipe = recipe

    def run(self, stage: str, part: int = 1, parts: int = 1) -> None:
        """Do a stage, unless it is done."""
        # Gradients near zero fall into the range of denormal numbers, with which a CPU computes many times slower.
        torch.set_flush_denormal(True)
        if (self.folder / stage / WEIGHTS).is_file():
            print(f"Stage {stage} is done already.")
        elif stage == "latents":
            self.latents(part, parts)
        else:
            torch.manual_seed(self.recipe.seed)
            getattr(self, stage)()

    @property
    def goes_on(self) -> bool:
        """Whether it began with the weights of a bundle."""
        return (self.folder / "transformer" / _START).is_file()

    def further(self) -> "Workshop":
        """The folder with the recipe for going on: other weights see other scenes, so every sitting has its own."""
        seed = int(file_sha256(self.folder / "transformer" / _START)[:8], 16)
        return Workshop(self.folder, replace(FURTHER, seed=seed, transformer=replace(FURTHER.transformer, seed=seed)))

    def adopt(self, bundle: Path) -> None:
        """Begin with the weights of a bundle: all is then done but transformer and decoder, which go on from there."""
        variant = read_bundle(bundle)
        models = load_models(take_inventory(variant, bundle), torch.device("cpu"), torch.float32)
        models.tokenizer.save_pretrained(self.folder / "text" / "tokenizer")
        self._keep("text", models.text_encoder)
        self._keep("audio", models.audio_vae)
        self._keep("vocoder", models.vocoder)
        self._keep("video", models.video_vae)
        statistics = {name: variant.dimensions["video_vae"][name] for name in ("latents_mean", "latents_std")}
        (self.folder / "video" / _STATISTICS).write_text(json.dumps(statistics))
        self._keep("transformer", models.transformer, _START)

    def text(self) -> None:
        tokenizer = words.caption_tokenizer(DIMENSIONS["text_encoder"]["vocab_size"], self.recipe.seed)
        tokenizer.save_pretrained(self.folder / "text" / "tokenizer")
        encoder = build_text_encoder(DIMENSIONS["text_encoder"])
        right = words.train_text_encoder(encoder, tokenizer, self.recipe.text, self.folder / "text", self.recipe.seed)
        print(f"The text encoder reads {right:.1%} of captions that it has never seen.")
        self._keep("text", encoder)

    def audio(self) -> None:
        vae = AudioVAE(**DIMENSIONS["audio_codec"]["vae"])
        codecs.train_audio_vae(vae, self.recipe.audio, self.folder / "audio", self.recipe.seed)
        self._keep("audio", vae)

    def video(self) -> None:
        vae = video_vae.build_video_vae(DIMENSIONS["video_vae"])
        codecs.train_video_vae(vae, self.recipe.video, self.folder / "video", self.recipe.seed)
        self._keep("video", vae)

    def vocoder(self) -> None:
        vocoder = Vocoder.from_config(DIMENSIONS["audio_codec"]["vocoder"])
        folder = self.folder / "vocoder"
        codecs.train_vocoder(vocoder, self.audio_vae(), self.recipe.vocoder, folder, self.recipe.seed)
        self._keep("vocoder", vocoder)

    def decoder(self) -> None:
        """The video decoder alone, for longer, after the transformer, whose latents it learns to read."""
        vae, folder = self.video_vae("video"), self.folder / "decoder"
        codecs.train_video_decoder(vae, self._encoded_clip, self.recipe.decoder, folder, self.recipe.seed)
        self._keep("decoder", vae)

    def _encoded_clip(self, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """One of the scenes that `latents` encoded, with the size its latents had before they were normalised."""
        kinds = list(self._encoded)
        path = random.choice(self._encoded[kinds[random.integers(len(kinds))]])
        scene, sample = self._scene(path), load_file(path)
        latents = self._remake(sample, random) if random.random() < _REMADE else sample["video"]
        mean, std = (torch.tensor(values).view(-1, 1, 1, 1) for values in self._statistics().values())
        return (latents * std + mean).unsqueeze(0), from_bytes(render(scene))

    @functools.cached_property
    def _remake(self) -> Remaker:
        return Remaker(self._finished_transformer(), self.unconditional())

    @functools.cached_property
    def _encoded(self) -> dict[tuple[Shape, int], list[Path]]:
        """The encoded scenes by shape and by how hard they are. A decoder reads no captions: it guesses what is usual,
        so it must see all alike."""
        kinds = defaultdict(list)
        for path in sorted((self.folder / "latents").glob("*.safetensors")):
            scene = self._scene(path)
            kinds[scene.shape, _hardness(scene)].append(path)
        return kinds

    def _scene(self, path: Path) -> Scene:
        """What was encoded in a file."""
        return draw_lesson(self._random(int(path.stem)))

    def _random(self, index: int) -> np.random.Generator:
        """What the scene with this number and its captions are drawn with."""
        return np.random.default_rng([self.recipe.seed, index])

    @torch.no_grad()
    def latents(self, part: int = 1, parts: int = 1) -> None:
        """Encode scenes; what is there already is left out, and several processes can each do a part."""
        folder = self.folder / "latents"
        vae, audio_vae = self.video_vae("video"), self.audio_vae()
        encoder, tokenizer = self.text_encoder(), self.tokenizer()
        for index in range(part - 1, self.recipe.scenes, parts):
            name = f"{index:05}"
            if (folder / f"{name}.safetensors").is_file():
                continue
            random = self._random(index)
            scene = draw_lesson(random)
            captions = [caption(scene, random) for _ in range(_CAPTIONS)]
            video = video_vae.encode(vae, from_bytes(render(scene)))[0]
            audio = audio_vae.encode(mel_spectrogram(torch.from_numpy(synthesise(scene)).unsqueeze(0)))[0].T
            texts = encode_texts(encoder, tokenizer, captions, _text_length())
            write_sample(folder, name, Sample(video, audio, texts))
            if index % 100 < parts:
                print(f"{index} of {self.recipe.scenes} scenes are encoded.", flush=True)

    def transformer(self) -> None:
        transformer = OviTransformer(**DIMENSIONS["fusion"])
        if self.goes_on:
            transformer.load_state_dict(load_file(self.folder / "transformer" / _START))
        train(
            transformer,
            LatentDataset(self.folder / "latents"),
            self.unconditional(),
            self.recipe.transformer,
            self.folder / "transformer",
            on_checkpoint=self._show,
        )

    @torch.no_grad()
    def _show(self, step: int) -> None:
        """A sheet of clips that the transformer makes by now, of captions whose combinations it never sees."""
        transformer, vae, audio_vae = self._finished_transformer(), self.video_vae("video"), self.audio_vae()
        random = np.random.default_rng(self.recipe.seed)
        captions = [caption(draw_scene(random, held_out=True), random, complete=True) for _ in range(_SHOWN)]
        texts = encode_texts(self.text_encoder(), self.tokenizer(), captions, _text_length())
        unconditional = self.unconditional()
        sample = load_file(next((self.folder / "latents").glob("*.safetensors")))
        rows = []
        for seed, text in enumerate(texts):
            noise = draw_noise(sample["video"].shape, sample["audio"].shape, seed, text.device, torch.float32)
            guidance = unconditional.guidance(transformer, text, _GUIDANCE, _GUIDANCE)
            latents = denoise(transformer, noise, guidance, Schedule("unipc", _STEPS, _SHIFT))
            frames = to_bytes(video_vae.decode_whole(vae, latents.video))
            rows.append(Row(captions[seed], frames, audio_vae.decode(latents.audio.T.unsqueeze(0))[0]))
        print(f"samples: {save_sheet(rows, self.folder / 'transformer', step)}", flush=True)

    def bundle(self, target: Path) -> None:
        """Write what there is as a bundle."""
        settled = (self.folder / "decoder" / WEIGHTS).is_file()
        vae = self.video_vae("decoder" if settled else "video")
        models = Models(
            transformer=self._finished_transformer(),
            text_encoder=self.text_encoder(),
            tokenizer=self.tokenizer(),
            video_vae=vae,
            audio_vae=self.audio_vae(),
            vocoder=self._filled("vocoder", Vocoder.from_config(DIMENSIONS["audio_codec"]["vocoder"])),
        )
        dimensions = {**DIMENSIONS, "video_vae": {**DIMENSIONS["video_vae"], **self._statistics()}}
        write_bundle({**BUNDLE, "dimensions": dimensions}, models, target, torch.bfloat16)

    def _finished_transformer(self) -> OviTransformer:
        """Its averaged weights, even while it is trained."""
        transformer = OviTransformer(**DIMENSIONS["fusion"])
        transformer.load_state_dict(load_file(self.folder / "transformer" / EMA))
        return transformer.eval().requires_grad_(False)

    def unconditional(self) -> Unconditional:
        texts = [DEFAULT_VIDEO_NEGATIVE_PROMPT, DEFAULT_AUDIO_NEGATIVE_PROMPT]
        with torch.no_grad():
            return Unconditional(*encode_texts(self.text_encoder(), self.tokenizer(), texts, _text_length()))

    def video_vae(self, stage: str) -> nn.Module:
        return self._filled(stage, video_vae.build_video_vae({**DIMENSIONS["video_vae"], **self._statistics()}))

    def audio_vae(self) -> AudioVAE:
        return self._filled("audio", AudioVAE(**DIMENSIONS["audio_codec"]["vae"]))

    def text_encoder(self) -> nn.Module:
        return self._filled("text", build_text_encoder(DIMENSIONS["text_encoder"]))

    def tokenizer(self) -> PreTrainedTokenizerBase:
        return AutoTokenizer.from_pretrained(self.folder / "text" / "tokenizer", local_files_only=True)

    def _statistics(self) -> Mapping[str, list[float]]:
        """Of the latents' channels, measured once the encoder is settled."""
        path = self.folder / "video" / _STATISTICS
        if not path.is_file():
            vae = self._filled("video", video_vae.build_video_vae(DIMENSIONS["video_vae"]))
            latents = _encoded_scenes(vae, self.recipe.seed, min(self.recipe.scenes, _STATISTICS_SCENES))
            mean, std = codecs.latent_statistics(latents)
            path.write_text(json.dumps({"latents_mean": mean, "latents_std": std}))
        return json.loads(path.read_text())

    def _keep(self, stage: str, model: nn.Module, name: str = WEIGHTS) -> None:
        path = self.folder / stage / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{name}.part")
        # Copies, since the text encoder's embedding stands under two names.
        save_file({name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()}, part)
        part.replace(path)

    def _filled(self, stage: str, model: Any) -> Any:
        model.load_state_dict(load_file(self.folder / stage / WEIGHTS))
        return model.eval().requires_grad_(False)


def _hardness(scene: Scene) -> int:
    """0 to 2: outlines are learned last of what goes in a circle, and on the ground with the least contrast."""
    return (scene.motion is Motion.CIRCLE) + (scene.background is Background.STONE_FLOOR)


@torch.no_grad()
def _encoded_scenes(vae: nn.Module, seed: int, count: int) -> Tensor:
    random = np.random.default_rng([seed, 2**32])
    clips = (from_bytes(render(draw_scene(random))) for _ in range(count))
    return torch.cat([video_vae.encode(vae, clip) for clip in clips])


def _text_length() -> int:
    return DIMENSIONS["fusion"]["video"]["text_len"]
