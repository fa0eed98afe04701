"""The report about this machine; torch and the GPU tool are played by small scripts, so the tests know the answers."""

import importlib.metadata
import json
import os
import shutil
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from ovi_studio.core import variants
from ovi_studio.core.variants import published_variants
from ovi_studio.services import doctor
from ovi_studio.services.doctor import Finding, Report, State

GIB = 2**30
RTX_3090 = ("NVIDIA GeForce RTX 3090", 23.7, 23.4, (8, 6))

FAKE_TORCH = """
__version__ = "2.13.0+cu130"
GPUS = {gpus!r}
class version:
    cuda, hip = {cuda!r}, None
class cuda:
    is_available = staticmethod(lambda: bool(GPUS))
    device_count = staticmethod(lambda: len(GPUS))
    get_device_name = staticmethod(lambda index: GPUS[index][0])
    mem_get_info = staticmethod(lambda index: (int(GPUS[index][2] * 2**30), int(GPUS[index][1] * 2**30)))
    get_device_capability = staticmethod(lambda index: GPUS[index][3])
"""


class Machine:
    """Decides what the doctor sees."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._folder, self._patch = folder, patch
        (folder / "bin").mkdir()
        patch.setenv("PATH", str(folder / "bin"))
        patch.setenv("PYTHONPATH", str(folder))
        patch.setattr(variants, "EMBEDDED_BUNDLE", folder / "embedded")
        self.ckpts, self.outputs = folder / "ckpts", folder / "outputs"
        self.has_torch()
        self.has_memory(64)

    def has_torch(self, *gpus: tuple[str, float, float, tuple[int, int]], cuda: str | None = "13.0") -> None:
        (self._folder / "torch.py").write_text(FAKE_TORCH.format(gpus=gpus, cuda=cuda))

    def has_broken_torch(self) -> None:
        (self._folder / "torch.py").write_text("raise ImportError('libcudart.so.13 is missing')")

    def has_memory(self, gib: int) -> None:
        memory = namedtuple("memory", "total available")
        self._patch.setattr(psutil, "virtual_memory", lambda: memory(gib * GIB, gib * GIB))

    def has_driver(self, *names: str) -> None:
        tool = self._folder / "bin" / "nvidia-smi"
        tool.write_text("#!/bin/sh\n" + "".join(f"echo '{name}'\n" for name in names))
        tool.chmod(0o755)

    def has_packages(self, **versions: str | None) -> None:
        real = importlib.metadata.version

        def version(name: str) -> str:
            known = versions.get(name.replace("-", "_"), "")
            if known is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return known or real(name)

        self._patch.setattr(importlib.metadata, "version", version)

    def has_disk(self, free: int) -> None:
        usage = namedtuple("usage", "total used free")
        self._patch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12 - free, free))

    def has_variant(self, name: str) -> None:
        header = json.dumps({"weight": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
        for files in published_variants()[name].files.values():
            for file in files:
                path = self.ckpts / file.location
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.suffix == ".pth":
                    with zipfile.ZipFile(path, "w") as archive:
                        archive.writestr("data.pkl", b"weights")
                elif path.suffix == ".pt":
                    path.write_bytes(b"\x80\x02pickle")
                else:
                    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\x00")

    def has_bundle(self) -> None:
        """One that describes itself but has no files."""
        entries = {"name": "tiny", "title": "Tiny", "video_latent_frames": 31, "audio_latent_length": 157}
        entries |= {"pixel_area": 128 * 128, "default_size": [128, 128], "audio_tag": "Audio:", "slg_layer": 2}
        entries |= {"licence": "Apache-2.0", "dimensions": {}}
        (self._folder / "embedded").mkdir()
        (self._folder / "embedded" / "bundle.json").write_text(json.dumps(entries))

    def report(self) -> Report:
        return doctor.examine(self.ckpts, self.outputs)

    def finding(self, text: str) -> Finding:
        """The first finding that contains `text`."""
        report = self.report()
        return next((found for found in report.findings if text in found.text), None) or pytest.fail(
            f"{text!r} is not in\n{doctor.format_report(report)}"
        )


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_a_machine_with_everything_has_no_problem(machine: Machine) -> None:
    machine.has_torch(RTX_3090)
    machine.has_variant("720x720_5s")
    machine.has_packages(flash_attn="2.8.3", flash_attn_3="3.0.0", sageattention="2.2.0")
    report = machine.report()
    assert report.problems == ()
    text = doctor.format_report(report)
    assert "ok       GPU 0: NVIDIA GeForce RTX 3090, 23.7 GiB of memory, 23.4 GiB free\n" in text
    assert "ok       torch 2.13.0+cu130, built for CUDA 13.0\n" in text
    assert "ok       flash-attn 2 2.8.3\n" in text
    assert "ok       SageAttention 2.2.0\n" in text
    assert "ok       av encodes libx264 and aac\n" in text
    assert f"ok       720x720_5s is complete in {machine.ckpts}\n" in text
    assert text.endswith("No problem found.")


def test_asking_imports_no_torch_here(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    machine.report()
    assert "torch" not in sys.modules


def test_without_a_gpu_the_embedded_model_is_named(machine: Machine) -> None:
    found = machine.finding("There is no GPU")
    assert found.state is State.NOTE
    assert "the embedded model runs on the CPU" in found.advice
    assert machine.finding("720x720_5s: needs a GPU").state is State.NOTE


def test_a_gpu_that_this_torch_cannot_use_is_a_problem(machine: Machine) -> None:
    machine.has_driver("NVIDIA GeForce RTX 3090", "NVIDIA GeForce RTX 3090")
    machine.has_torch(cuda=None)
    found = machine.finding("NVIDIA GeForce RTX 3090, NVIDIA GeForce RTX 3090 is here, but this torch knows no GPU")
    assert found.state is State.PROBLEM
    assert "install the CUDA build" in found.advice
    machine.has_torch(cuda="13.0")
    found = machine.finding("is here, but torch does not see it")
    assert found.state is State.PROBLEM
    assert "update the driver" in found.advice


def test_a_torch_that_does_not_start_is_told_with_its_reason(machine: Machine) -> None:
    machine.has_broken_torch()
    assert machine.finding("libcudart.so.13 is missing").state is State.PROBLEM


def test_missing_packages_are_problems_with_the_command_that_installs_them(machine: Machine) -> None:
    machine.has_packages(torch=None, peft=None)
    assert machine.finding("torch is not installed").state is State.PROBLEM
    found = machine.finding("peft is not installed")
    assert (found.state, found.advice) == (State.PROBLEM, "pip install -r requirements.txt")


def test_an_attention_library_that_is_too_old_is_told_apart_from_a_missing_one(machine: Machine) -> None:
    machine.has_packages(sageattention="1.0.6", flash_attn=None, flash_attn_3=None)
    assert machine.finding("SageAttention 1.0.6 is too old").state is State.NOTE
    assert machine.finding("flash-attn 2 is not installed").state is State.NOTE
    assert machine.finding("flash-attn 3 is not installed").state is State.NOTE


def test_a_gpu_in_use_and_an_old_gpu_are_noted(machine: Machine) -> None:
    machine.has_torch(("NVIDIA GeForce RTX 3090", 23.7, 4.0, (8, 6)), ("NVIDIA TITAN RTX", 24.0, 24.0, (7, 5)))
    assert "it is in use" in machine.finding("GPU 0").advice
    assert "no bf16" in machine.finding("GPU 1").advice


def test_an_empty_directory_gets_the_command_and_the_size_for_every_variant(machine: Machine) -> None:
    found = machine.finding("720x720_5s lacks 9 files, about 38.6 GB")
    assert found.state is State.NOTE
    assert found.advice == (
        f"`python -m ovi_studio download 720x720_5s --ckpt-dir {machine.ckpts}` fetches what is missing"
    )
    shared = machine.finding("Wan2.2_VAE.pth is missing")
    assert "(about 2.8 GB, for all of these)" in shared.text
    own = machine.finding("model_960x960_10s.safetensors is missing")
    assert "(about 23.3 GB, for 960x960_10s)" in own.text
    assert machine.finding("Nothing yet").state is State.PROBLEM
    lines = doctor.format_report(machine.report()).splitlines()
    assert len([line for line in lines if "Wan2.2_VAE.pth" in line]) == 1


def test_a_damaged_file_is_a_problem_with_its_command(machine: Machine) -> None:
    machine.has_variant("720x720_5s")
    bad = machine.ckpts / "Ovi" / "model.safetensors"
    bad.write_bytes(bad.read_bytes()[:-1])
    found = machine.finding(f"{bad} has ")
    assert found.state is State.PROBLEM
    assert found.advice == f"`python -m ovi_studio download 720x720_5s --ckpt-dir {machine.ckpts}`"
    assert machine.finding("720x720_5s lacks 1 file, about 23.3 GB").state is State.PROBLEM


def test_a_damaged_file_of_a_diffusers_repository_is_named(machine: Machine) -> None:
    machine.has_variant("720x720_5s")
    (machine.ckpts / "Wan2.2-TI2V-5B" / "Wan2.2_VAE.pth").unlink()
    bad = machine.ckpts / "clone" / "vae" / "diffusion_pytorch_model.safetensors"
    bad.parent.mkdir(parents=True)
    bad.write_bytes(b"")
    found = machine.finding(f"{bad} is not a safetensors file")
    assert found.state is State.PROBLEM
    assert "fetches the official file" in found.advice


def test_a_disk_too_small_for_a_download_or_for_clips_is_told(machine: Machine) -> None:
    machine.has_disk(10**9)
    assert "only 1.0 GB are free" in machine.finding("720x720_5s lacks").text
    assert machine.finding("Output directory").state is State.PROBLEM
    assert machine.finding("Checkpoint directory").state is State.OK


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_directory_that_cannot_be_written_is_a_problem(machine: Machine) -> None:
    machine.outputs.mkdir()
    machine.outputs.chmod(0o500)
    assert machine.finding("Output directory").state is State.PROBLEM


@pytest.mark.parametrize(
    ("gpus", "memory", "state", "sentence"),
    [
        ([("NVIDIA H200", 139.8, 139.0, (9, 0))], 64, State.OK, "720x720_5s: should fit one GPU"),
        ([RTX_3090] * 2, 64, State.OK, "should fit the 2 GPUs together, sharded in host memory"),
        ([RTX_3090] * 2, 32, State.OK, "should fit one GPU with int8 weights, or streamed from host memory"),
        ([RTX_3090] * 4, 64, State.OK, "should fit the 4 GPUs together, sharded"),
        ([RTX_3090] * 5, 64, State.OK, "should fit the 4 GPUs together, sharded"),
        ([RTX_3090], 64, State.OK, "should fit one GPU with int8 weights, or streamed from host memory"),
        ([RTX_3090], 32, State.OK, "should fit one GPU with int8 weights, or streamed from host memory"),
        ([RTX_3090], 16, State.NOTE, "of host memory for what has to wait there"),
        ([("RTX 4060", 12.0, 11.0, (8, 9))], 64, State.OK, "should fit one GPU, streamed from host memory"),
        ([("RTX 3090", 23.7, 4.0, (8, 6))], 64, State.OK, "should fit one GPU with int8 weights"),  # once it is free
        ([("RTX 3050", 6.0, 5.5, (8, 6))], 64, State.OK, "should fit one GPU, streamed from host memory"),
        ([("GTX 1650", 4.0, 3.7, (7, 5))], 64, State.NOTE, "needs a GPU of at least 5.2 GiB"),
    ],
)
def test_what_fits_follows_from_the_gpus_and_the_memory(
    machine: Machine, gpus: list[tuple[str, float, float, tuple[int, int]]], memory: int, state: State, sentence: str
) -> None:
    machine.has_torch(*gpus)
    machine.has_memory(memory)
    machine.has_variant("720x720_5s")
    found = [finding for finding in machine.report().findings if finding.text.startswith("720x720_5s: ")]
    assert [finding.state for finding in found] == [state]
    assert sentence in found[0].text


def test_several_gpus_are_told_what_they_can_do_together(machine: Machine) -> None:
    machine.has_variant("720x720_5s")
    machine.has_torch(*[RTX_3090] * 4)
    sooner = machine.finding("720x720_5s, a clip sooner: guidance parallel x sequence parallel")
    assert sooner.state is State.OK
    assert "Predicted:" in sooner.text
    assert machine.finding("720x720_5s, the queue sooner: one clip a GPU").state is State.OK
    machine.has_torch(RTX_3090)
    assert not [finding for finding in machine.report().findings if "a clip sooner" in finding.text]


def test_a_broken_bundle_hides_nothing_else(machine: Machine) -> None:
    machine.has_variant("720x720_5s")
    (machine.ckpts / "bundle.json").write_text("{")
    assert machine.finding("does not describe a model bundle").state is State.PROBLEM
    assert machine.finding("720x720_5s is complete").state is State.OK


def test_a_bundle_that_is_not_whole_is_to_be_written_again(machine: Machine) -> None:
    machine.has_bundle()
    found = machine.finding("tiny is not complete")
    assert found.state is State.PROBLEM
    assert "model.safetensors is missing" in found.text
    assert found.advice.startswith("write the bundle in ")
    assert "once its files are complete" in machine.finding("tiny: on a GPU or on the CPU").text
