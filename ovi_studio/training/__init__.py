"""Training on any bundle: all weights, a LoRA of both towers, or distillation into a LoRA.

Data flows one way: `clips` (a folder of mp4 files and captions) -> `cache` (latents and text embeddings on disk) ->
`flow` (noise, conditions, loss) -> `trainer` (the loop) -> `ema.safetensors` or, through `lora`, an adapter file.

    dataset = LatentDataset(folder)                        # files written by `cache.write_sample` or `clips`
    settings = TrainSettings(minutes=60, batch_size=16, muon_learning_rate=0.02, learning_rate=2e-3)
    train(transformer, dataset, (video_negative, audio_negative), settings, Path("run"))

writes `run/ema.safetensors` (official names; updated at every checkpoint), `run/log.jsonl` and `run/loss.png`. The same
call again resumes from `run/checkpoint.pt`.
"""
