"""A Whisper of a few thousand parameters with random weights: everything of the real one but its knowledge."""

from pathlib import Path


def write_tiny_whisper(folder: Path) -> Path:
    """Write the model, its tokenizer and its feature extractor as transformers stores them."""
    import torch
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )

    vocabulary = {letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))}
    names = ["endoftext", "startoftranscript", "en", "translate", "transcribe", "startoflm", "startofprev", "nospeech"]
    names += ["notimestamps", *(f"{step / 50:.2f}" for step in range(1501))]
    vocabulary |= {f"<|{name}|>": len(vocabulary) + place for place, name in enumerate(names)}
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=[], language="en", task="transcribe")
    tokenizer.add_special_tokens({"additional_special_tokens": [f"<|{name}|>" for name in names]})
    number = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in names}
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_target_positions=32,
        bos_token_id=number["endoftext"],
        eos_token_id=number["endoftext"],
        pad_token_id=number["endoftext"],
        decoder_start_token_id=number["startoftranscript"],
        suppress_tokens=[],
        begin_suppress_tokens=[],
    )
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        **{key: getattr(config, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")},
        decoder_start_token_id=number["startoftranscript"],
        lang_to_id={"<|en|>": number["en"]},
        task_to_id={"transcribe": number["transcribe"], "translate": number["translate"]},
        no_timestamps_token_id=number["notimestamps"],
        alignment_heads=[[0, 0], [0, 1]],
        is_multilingual=True,
        max_initial_timestamp_index=50,
        return_timestamps=False,
        max_length=24,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    return folder
