"""The text encoder's training: what it is asked, and how a trained encoder gets another tokenizer."""

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from ovi_studio.core.variants import EMBEDDED_BUNDLE, read_bundle
from ovi_studio.demo.captions import caption
from ovi_studio.demo.dimensions import DIMENSIONS
from ovi_studio.demo.embedder import Embedder, written
from ovi_studio.demo.phrasing import Prompt, training_prompt
from ovi_studio.demo.reading import prepare_reading
from ovi_studio.demo.scenes import Background, Colour, Motion, Scene, Shape, Sound, draw_scene
from ovi_studio.demo.text_encoder import _labels, adopt, caption_tokenizer
from ovi_studio.demo.usual import completed
from ovi_studio.models.text_encoder import build_text_encoder, load_tokenizer
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.training.cache import Sample

SCENE = Scene(Colour.RED, Shape.BALL, Background.GREEN_FLOOR, Motion.BOUNCE, Sound.IMPACT)


def test_the_questions_are_about_the_scene_that_a_prompt_means() -> None:
    named = frozenset({"colour"})
    labels = _labels([Prompt("red", named, completed(SCENE, named)), Prompt("all", frozenset(), SCENE)])
    assert labels["colour"].tolist() == [list(Colour).index(Colour.RED)] * 2
    assert labels["shape"].tolist() == [list(Shape).index(Shape.BALL)] * 2
    assert labels["sound"].tolist() == [list(Sound).index(Sound.IMPACT)] * 2


@pytest.mark.slow
def test_the_tokenizer_knows_the_words_that_people_use_as_whole_words() -> None:
    tokenizer = caption_tokenizer(DIMENSIONS["text_encoder"]["vocab_size"], 0)
    for word in ("red", "ball", "doughnut", "lawn", "hopping", "turquoise", "bouncing"):
        assert len(tokenizer.tokenize(word)) == 1, word
    assert tokenizer.tokenize("zebra"), "any text can be read"


@pytest.mark.slow
def test_an_encoder_with_another_tokenizer_starts_with_the_known_embeddings() -> None:
    random = np.random.default_rng(0)
    tokenizers = [caption_tokenizer(size, 0) for size in (600, 1024)]
    torch.manual_seed(0)
    encoders = [build_text_encoder({**DIMENSIONS["text_encoder"], "vocab_size": size}).eval() for size in (600, 1024)]
    start = Embedder(encoders[0], tokenizers[0])
    adopt(encoders[1], tokenizers[1], start)
    texts = [caption(draw_scene(random), random) for _ in range(40)]
    alike = [text for text in texts if tokenizers[0].tokenize(text) == tokenizers[1].tokenize(text)]
    assert alike
    after = Embedder(encoders[1], tokenizers[1])
    for before, now in zip(start(alike), after(alike), strict=True):
        torch.testing.assert_close(now, before)


@pytest.mark.slow
@torch.no_grad()
def test_a_reading_is_zero_for_the_same_texts_and_large_for_others() -> None:
    random = np.random.default_rng(2)
    tokenizer = caption_tokenizer(600, 0)
    torch.manual_seed(0)
    text = Embedder(build_text_encoder({**DIMENSIONS["text_encoder"], "vocab_size": 600}).eval(), tokenizer)
    transformer = OviTransformer(**DIMENSIONS["fusion"]).eval().requires_grad_(False)
    texts = [caption(draw_scene(random), random) for _ in range(6)]
    sample = Sample(torch.randn(16, 19, 6, 6), torch.randn(95, 20), text(texts[:1]))
    reading = prepare_reading(transformer, text, [sample])
    same = pad_sequence(text(texts), batch_first=True)
    assert reading.distance(same, texts, 0) == 0
    assert reading.distance(same.flip(0), texts, 0) > 1
    assert not any(module._forward_hooks for module in transformer.modules())


def test_prompts_are_embedded_as_the_pipeline_writes_them() -> None:
    assert written("a ball  Audio: wind") == "a ball <AUDCAP>wind<ENDAUDCAP>"
    assert written("a ball <AUDCAP>wind<ENDAUDCAP>") == "a ball <AUDCAP>wind<ENDAUDCAP>"


def test_no_prompt_is_longer_than_the_model_reads() -> None:
    folder = EMBEDDED_BUNDLE / "Wan2.2-TI2V-5B" / "google" / "umt5-xxl" / "tokenizer.json"
    tokenizer, random = load_tokenizer([folder]), np.random.default_rng(1)
    limit = read_bundle(EMBEDDED_BUNDLE).dimensions["fusion"]["video"]["text_len"]
    lengths = [len(tokenizer(written(training_prompt(draw_scene(random), random).text)).input_ids) for _ in range(500)]
    assert max(lengths) <= limit
