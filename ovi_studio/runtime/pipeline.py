"""`Pipeline`: a `ClipSpec` in, a `Clip` out. Text -> conditions -> noise -> latents -> frames and samples."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ovi_studio.adapters.library import AdapterLibrary, default_adapter_directory
from ovi_studio.adapters.manager import AdapterManager
from ovi_studio.capacity.memory import TOKENS_AT_ONCE
from ovi_studio.capacity.tiers import ALL_RESIDENT, MemoryPlan
from ovi_studio.checkpoints.hashes import BackgroundHash
from ovi_studio.checkpoints.layout import Inventory
from ovi_studio.checkpoints.load import Models, StoredTensors, load_models
from ovi_studio.checkpoints.number_formats import official_shapes
from ovi_studio.core.clip import Clip, Frames, NewFrameSink, Picture
from ovi_studio.core.errors import JobError
from ovi_studio.core.prompts import format_prompt
from ovi_studio.core.spans import kept_of_picture, kept_of_sound
from ovi_studio.core.spec import ClipSpec, clip_size
from ovi_studio.core.step_caches import OFF, find_step_cache
from ovi_studio.core.variants import Part, Variant
from ovi_studio.distributed.pass_layout import SINGLE_PROCESS, PassLayout
from ovi_studio.distributed.ranks import ALONE, Ranks
from ovi_studio.distributed.shards import reshard
from ovi_studio.media.frame_array import FrameArray
from ovi_studio.media.pictures import read_first_frame
from ovi_studio.media.sources import Source, pin_source, read_source
from ovi_studio.models import video_vae
from ovi_studio.models.attention import choose_backend
from ovi_studio.models.causal_layers import make_channels_last
from ovi_studio.models.device import forbid_spilling
from ovi_studio.models.mel import mel_spectrogram
from ovi_studio.models.precision import fast_bfloat16, set_tf32
from ovi_studio.models.text_encoder import encode_texts
from ovi_studio.runtime.clip_decoder import ClipDecoder, OnDecoded
from ovi_studio.runtime.clip_record import PhaseClock, machine, package_versions, source_record
from ovi_studio.runtime.compute import Compute
from ovi_studio.runtime.conditioning import TextEmbeddings, first_frame_pixels
from ovi_studio.runtime.finite import FiniteCheck
from ovi_studio.runtime.placement import Placement, check_host_memory, choose_plan
from ovi_studio.sampling.denoise import Latents, OnStep, Schedule, Step, denoise, draw_noise
from ovi_studio.sampling.guidance import Guidance
from ovi_studio.sampling.kept import Kept, KeptStream

if TYPE_CHECKING:
    from ovi_studio.distributed.sharding import Sharding


class Pipeline:
    """The models of one variant, ready to make clips.

    Args:
        hashes: hashes of the checkpoint files, for the clip's record.
        find_adapter: returns the path of an adapter by its name; None looks in the default folder.
        ranks: the ranks that make each clip together, each with a pipeline that is called in the same way; the clip is
            complete only on the leader.
        plan: the memory plan that the models were loaded for; None chooses one.
        pristine: the transformer's tensors as stored in the files; without it, adapters copy what they change.
        sharding: how the weights are distributed over several ranks.

    Raises `JobError` if a requested attention kernel or compilation is not available here.
    """

    def __init__(
        self,
        variant: Variant,
        models: Models,
        compute: Compute,
        hashes: BackgroundHash | None = None,
        find_adapter: Callable[[str], Path] | None = None,
        ranks: Ranks = ALONE,
        plan: MemoryPlan | None = None,
        pristine: Mapping[str, Tensor] | None = None,
        sharding: "Sharding | None" = None,
    ) -> None:
        self.variant = variant
        self.ranks = ranks
        self.models = models
        self.compute = compute = compute.with_attention(variant, ranks)
        self.plan = plan or choose_plan(variant, compute.device, compute.options.memory, compute.options.weights)
        self._hashes = hashes
        self._sharding = sharding
        set_tf32(bool(compute.options.tf32))
        make_channels_last(models.video_vae)
        if models.video_vae.refiner is not None and fast_bfloat16(compute.device):
            # Of the rounding of its corrections, frames show less than a level.
            models.video_vae.refiner.to(torch.bfloat16)
        self._placement = Placement(models, compute.device, self.plan, offloaded=compute.options.offloaded)
        self.adapters = AdapterManager(
            models.transformer,
            find_adapter or AdapterLibrary(default_adapter_directory()).path,
            pristine=pristine,
            worker=compute.device,
            shapes=official_shapes(models.transformer),
            writable=partial(self._placement.writable, models.transformer),
        )
        models.transformer.set_attention(choose_backend(compute.options.attention, compute.device, compute.dtype))
        self.compiled = compute.compiles(variant)
        """Whether the transformer's blocks are compiled."""
        self.on_compiling: Callable[[], None] = lambda: None
        """Called before a step in which blocks are compiled; what it raises ends the run."""
        self._compiled_kinds: set[tuple[Any, ...]] = set()
        if self.compiled:
            models.transformer.compile_blocks()
        self._finite = FiniteCheck(compute.options.attention, self.plan.weights, lambda: self.adapters.in_use)
        self.decoder = ClipDecoder(models, self._placement, compute.device, ranks, self._finite, tile=self.plan.tile)

    @property
    def tier(self) -> str | None:
        """The memory tier of a single GPU; None on a CPU and on several ranks."""
        return self.plan.tier.name if self.compute.device.type == "cuda" and self.ranks.count == 1 else None

    @classmethod
    def load(
        cls,
        inventory: Inventory,
        compute: Compute | None = None,
        find_adapter: Callable[[str], Path] | None = None,
        ranks: Ranks = ALONE,
    ) -> "Pipeline":
        """Load a complete inventory (`checkpoints.layout.require`); raises `JobError` for a bad file."""
        compute = compute or Compute.of()
        if compute.device.type == "cuda":
            torch.cuda.set_device(compute.device)
        forbid_spilling(compute.device)
        # Several ranks have their own plan.
        tier = compute.options.memory if ranks.count == 1 else ALL_RESIDENT
        plan = choose_plan(inventory.variant, compute.device, tier, compute.options.weights)
        # What is not possible is refused before minutes of loading.
        compute = compute.with_attention(inventory.variant, ranks)
        compute.compiles(inventory.variant)
        # The hashes are for the clip's record and are computed long before it is written.
        hashes = (
            BackgroundHash([path for paths in inventory.files.values() for path in paths]) if ranks.is_leader else None
        )
        home = torch.device("cpu") if compute.options.offloaded or plan.tier.offloaded else compute.device
        sharding = None
        if ranks.count > 1:
            # Imports Accelerate, which one process does not need.
            from ovi_studio.distributed.sharding import load_shared, resolve_sharding

            sharding = resolve_sharding(compute.options.sharding, inventory.variant, ranks, plan.weights)
            models = load_shared(inventory, home, compute.dtype, sharding, ranks, plan.weights)
        else:
            check_host_memory(
                inventory.variant,
                plan,
                compute.device,
                offloaded=compute.options.offloaded,
                converted=inventory.converted,
            )
            models = load_models(inventory, home, compute.dtype, weights=plan.weights, worker=compute.device)
        pristine = StoredTensors(inventory.files[Part.TRANSFORMER])
        return cls(inventory.variant, models, compute, hashes, find_adapter, ranks, plan, pristine, sharding)

    @torch.no_grad()
    def __call__(
        self,
        spec: ClipSpec,
        on_step: OnStep | None = None,
        on_decoded: OnDecoded | None = None,
        new_sink: NewFrameSink = FrameArray,
    ) -> Clip:
        """Make one clip; its spec contains the hash of every adapter, and its frames are what the sink makes of them.

        Raises `JobError` if the picture, an adapter or a setting does not fit, and what `on_step` and `on_decoded`
        raise.
        """
        clock = PhaseClock(self.compute.device)
        with self.ranks.share_errors():
            spec = pin_source(spec)
            skip_block = self._skip_block(spec)
            picture = read_first_frame(spec)
            source = read_source(spec, self.variant)
            size = self._latent_size(spec, picture, source)
            layout = self._layout(spec, size)
        with clock.phase("adapters"), self.ranks.share_errors():
            # Adapters change the layers that project text, so they come first.
            prepared = self.adapters.prepare(spec.stack, spec.steps)
            memory = self._fit_adapters(self.adapters.runtime_bytes)
        self._placement.prefetch()
        with clock.phase("text"):
            texts = self.embed_texts(spec)
        with clock.phase("first_frame"):
            first_frame = None if picture is None else self.encode_first_frame(picture)
        kept, own = None, Source()
        if source is not None:
            with clock.phase("source"), self.ranks.share_errors():
                kept = self.encode_source(spec, source)
            # Decoding what is kept as a whole would only blur it.
            own = source.parts(picture=kept.all_picture, sound=kept.all_sound)
        noise = self.draw_noise(size, spec.seed)
        noise, texts, first_frame, kept = self._broadcast_inputs(noise, texts, first_frame, kept)
        video_passes: list[int] = []
        watched = self._watched(on_step, video_passes)
        with clock.phase("denoise"), self._compiling(spec, noise, first_frame):
            latents = self.denoise(spec, noise, texts, first_frame, skip_block, watched, layout, kept)
        with clock.phase("decode_audio"), self.ranks.share_errors():
            samples = self.decoder.audio(latents.audio).numpy() if own.samples is None else own.samples
        with clock.phase("decode_video"), self.ranks.share_errors():
            if own.frames is None:
                frames = self.decoder.video(latents.video, on_decoded, new_sink)
            else:
                frames = self.decoder.given(own.frames, on_decoded, new_sink)
        record = self._record(clock, frames, memory)
        record["video_passes"] = sum(video_passes)
        record["adapters"] = {name: report.summary() for name, report in prepared.reports.items()}
        if kept is not None:
            record["source"] = source_record(spec, kept)
        return Clip(spec.with_stack(prepared.stack), frames, samples, picture, record)

    def embed_texts(self, spec: ClipSpec) -> TextEmbeddings:
        """Encode the prompt and the negative prompts."""
        prompt = format_prompt(spec.prompt, self.variant.audio_tag)
        texts = [prompt, spec.video_negative_prompt, spec.audio_negative_prompt]
        models = self.models
        limit = models.transformer.video_model.text_len
        with self._placement.in_use(models.text_encoder):
            return TextEmbeddings(*encode_texts(models.text_encoder, models.tokenizer, texts, limit))

    def encode_first_frame(self, picture: Picture) -> Tensor:
        """Encode a picture at the clip's size: latents (channels, 1, height, width)."""
        pixels = first_frame_pixels(picture.pixels, self.variant.pixel_area, self.variant.size_unit)
        with self._placement.in_use(self.models.video_vae):
            return video_vae.encode(self.models.video_vae, pixels.unsqueeze(2).to(self.compute.device))[0]

    def encode_source(self, spec: ClipSpec, source: Source) -> Kept:
        """Encode what a clip uses of its source; raises `JobError` if a span of it keeps nothing."""
        video = audio = None
        models, device = self.models, self.compute.device
        if source.frames is not None:
            mask = kept_of_picture(spec.keep_picture, self.variant.video_latent_frames)
            with self._placement.in_use(models.video_vae):
                video = KeptStream.of_video(video_vae.encode_frames(models.video_vae, source.frames)[0], mask)
        if source.samples is not None:
            mask = kept_of_sound(spec.keep_sound, self.variant.audio_latent_length)
            mel = mel_spectrogram(torch.from_numpy(source.samples).unsqueeze(0).to(device))
            with self._placement.in_use(models.audio_vae):
                audio = KeptStream.of_audio(models.audio_vae.encode(mel)[0].T, mask)
        return Kept(video, audio, spec.strength, spec.resamples)

    def draw_noise(self, latent_size: tuple[int, int], seed: int) -> Latents:
        """Draw the noise for latents of the given (height, width)."""
        sizes = self.variant.dimensions["fusion"]
        video_shape = (sizes["video"]["in_dim"], self.variant.video_latent_frames, *latent_size)
        audio_shape = (self.variant.audio_latent_length, sizes["audio"]["in_dim"])
        return draw_noise(video_shape, audio_shape, seed, self.compute.device, self.compute.dtype)

    def denoise(
        self,
        spec: ClipSpec,
        noise: Latents,
        texts: TextEmbeddings,
        first_frame: Tensor | None = None,
        skip_block: int | None = None,
        on_step: OnStep | None = None,
        layout: PassLayout = SINGLE_PROCESS,
        kept: Kept | None = None,
    ) -> Latents:
        """Run the sampling loop with this pipeline's transformer and the adapters that were applied last."""
        transformer = self.models.transformer
        with self._placement.in_use(transformer):
            positive, video_negative, audio_negative = (
                embedding.unsqueeze(0).to(self.compute.device, transformer.dtype)
                for embedding in (texts.positive, texts.video_negative, texts.audio_negative)
            )

            def guidance() -> Guidance:
                return Guidance(
                    positive=transformer.prepare_text(positive, positive),
                    negative=transformer.prepare_text(video_negative, audio_negative) if spec.guided else None,
                    video_scale=spec.video_guidance,
                    audio_scale=spec.audio_guidance,
                    skip_block=skip_block,
                )

            def before_step(index: int) -> Guidance | None:
                return guidance() if self.adapters.set_step(index) else None

            cache = find_step_cache(spec.step_cache)
            schedule = Schedule(spec.solver, spec.steps, spec.shift, spec.timesteps, spec.seed, cache)
            try:
                return denoise(
                    transformer,
                    noise,
                    guidance(),
                    schedule,
                    first_frame=first_frame,
                    kept=kept,
                    on_step=on_step,
                    before_step=before_step,
                    layout=layout,
                )
            finally:
                reshard(transformer)  # decoding needs the memory

    def _fit_adapters(self, adapter_bytes: int) -> dict[str, Any]:
        """Make room on the device for run-time adapters; returns the memory entry of the clip's record."""
        if self._sharding is None:
            plan = self.plan.with_adapters(adapter_bytes)
            self._placement.apply(plan)
            return plan.record()
        from ovi_studio.distributed.sharding import keep_gathered

        transformer, sharding = self.models.transformer, self._sharding
        less = math.ceil(adapter_bytes / self.plan.block_bytes)
        resident = sharding.residents(len(transformer.fusion_blocks), less)
        if sharding.shards:
            keep_gathered(transformer, resident)
        return {
            "sharding": str(sharding.strategy),
            "offloaded": sharding.offloaded,
            "weights": str(self.plan.weights),
            "resident_blocks": resident,
        }

    @contextmanager
    def _compiling(self, spec: ClipSpec, noise: Latents, first_frame: Tensor | None) -> Iterator[None]:
        """Report that blocks will be compiled, if no clip was made before whose blocks would serve for this one."""
        tokens = math.prod(noise.video.shape[1:]) // math.prod(self.variant.dimensions["fusion"]["video"]["patch_size"])
        chunks = math.ceil(tokens / TOKENS_AT_ONCE)
        kind = first_frame is not None, chunks, self.adapters.runtime_bytes, spec.step_cache
        if self.compiled and kind not in self._compiled_kinds:
            self.on_compiling()
        yield
        self._compiled_kinds.add(kind)

    def _watched(self, on_step: OnStep | None, video_passes: list[int]) -> OnStep:
        """Wrap a step callback so that the clip ends as soon as its latents are not finite.

        Args:
            video_passes: gets the number of each step's passes over the video.
        """

        def watched(step: Step) -> None:
            video_passes.append(step.video_passes)
            finite = torch.isfinite(step.latents.video).all() & torch.isfinite(step.latents.audio).all()
            self._finite.require(f"the latents after step {step.index} of {step.total}", finite)
            if on_step is not None:
                on_step(step)

        return watched

    def _latent_size(self, spec: ClipSpec, picture: Picture | None, source: Source | None) -> tuple[int, int]:
        first = None if picture is None else picture.pixels.shape[:2]
        height, width = clip_size(spec, self.variant, first)
        if source is not None and source.frames is not None:
            own, (height, width) = (height, width), source.frames.shape[1:3]
            if first is not None and own != (height, width):
                raise JobError(
                    f"The first frame makes clips of {own[0]}x{own[1]} pixels, and the kept picture has "
                    f"{height}x{width}; crop the first frame to the same aspect ratio."
                )
        return height // self.variant.latent_stride, width // self.variant.latent_stride

    def _broadcast_inputs(
        self, noise: Latents, texts: TextEmbeddings, first_frame: Tensor | None, kept: Kept | None
    ) -> tuple[Latents, TextEmbeddings, Tensor | None, Kept | None]:
        """Give all ranks the leader's values: GPUs may round differently, and such differences would remain."""
        embeddings = (texts.positive, texts.video_negative, texts.audio_negative)
        streams = [] if kept is None else [stream for stream in (kept.video, kept.audio) if stream is not None]
        given = [] if first_frame is None else [first_frame]
        video, audio, positive, video_negative, audio_negative, *others = self.ranks.broadcast_tensors(
            noise.video, noise.audio, *embeddings, *given, *(stream.clean for stream in streams)
        )
        texts = TextEmbeddings(positive, video_negative, audio_negative)
        if first_frame is not None:
            first_frame = others.pop(0)
        if kept is not None:
            kept = kept.with_latents(others)
        return Latents(video, audio), texts, first_frame, kept

    def _layout(self, spec: ClipSpec, latent_size: tuple[int, int]) -> PassLayout:
        height, width = latent_size
        tower = self.variant.dimensions["fusion"]["video"]
        tokens = self.variant.video_latent_frames * height * width // math.prod(tower["patch_size"])
        # With a step cache most steps have a single pass: one half of the ranks would wait for the other.
        return self.ranks.layout(tower["num_heads"], tokens, guided=spec.guided and spec.step_cache == OFF)

    def _skip_block(self, spec: ClipSpec) -> int | None:
        layer = self.variant.slg_layer if spec.slg_layer is None else spec.slg_layer
        depth = len(self.models.transformer.fusion_blocks)
        if layer >= depth:
            raise JobError(f"Skip-layer block {layer} does not exist: {self.variant.name} has blocks 0 to {depth - 1}.")
        return layer if layer > 0 else None

    def _record(self, clock: PhaseClock, frames: Frames, memory: dict[str, Any]) -> dict[str, Any]:
        digests = self._hashes.result() if self._hashes else {}
        return {
            "size": list(frames.shape[1:3]),
            "checkpoint": {path.name: digest for path, digest in digests.items()},
            "versions": package_versions(),
            "machine": machine(
                self.compute.device, self.compute.dtype, self.compute.options.attention, compiled=self.compiled
            ),
            "memory": memory | ({"lacked_memory_with": list(self.compute.exhausted)} if self.compute.exhausted else {}),
            "seconds": clock.seconds,
        }
