"""The doctor's report; small scripts stand in for torch and nvidia-smi, so the tests know the answers."""

import importlib.metadata
import json
import os
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
from model_files import T5, VARIANT, VIDEO_VAE, write_model

from ovi_studio.core import variants
from ovi_studio.core.variants import published_variants
from ovi_studio.services import doctor
from ovi_studio.services.doctor import CheckResult, CheckState, DoctorReport

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
    """A fake machine: decides what the doctor sees."""

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
        header = json.dumps({"weight": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
        for files in published_variants()[name].files.values():
            for file in files:
                path = self.ckpts / file.location
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.suffix in (".pth", ".pt"):
                    path.write_bytes(b"\x80\x02pickle")
                    os.truncate(path, file.size)  # from which its number format is told
                else:
                    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(2))

    def has_bundle(self) -> None:
        """Add an embedded bundle with a description but no files."""
        entries = {"name": "tiny", "title": "Tiny", "video_latent_frames": 31, "audio_latent_length": 157}
        entries |= {"pixel_area": 128 * 128, "default_size": [128, 128], "audio_tag": "Audio:", "slg_layer": 2}
        entries |= {"licence": "Apache-2.0", "dimensions": {}}
        (self._folder / "embedded").mkdir()
        (self._folder / "embedded" / "bundle.json").write_text(json.dumps(entries))

    def report(self) -> DoctorReport:
        return doctor.examine(self.ckpts, self.outputs)

    def result(self, text: str) -> CheckResult:
        """The first result that contains `text`."""
        report = self.report()
        return next((found for found in report.results if text in found.text), None) or pytest.fail(
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
    assert text.endswith("No problems found.")


def test_the_check_does_not_import_torch_into_this_process(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    machine.report()
    assert "torch" not in sys.modules


def test_without_a_gpu_the_embedded_model_is_named(machine: Machine) -> None:
    found = machine.result("No GPU found")
    assert found.state is CheckState.NOTE
    assert "the embedded model runs on the CPU" in found.advice
    assert machine.result("720x720_5s: needs a GPU").state is CheckState.NOTE


def test_a_gpu_that_this_torch_cannot_use_is_a_problem(machine: Machine) -> None:
    machine.has_driver("NVIDIA GeForce RTX 3090", "NVIDIA GeForce RTX 3090")
    machine.has_torch(cuda=None)
    found = machine.result(
        "NVIDIA GeForce RTX 3090, NVIDIA GeForce RTX 3090 is present, but this torch build supports no GPU"
    )
    assert found.state is CheckState.PROBLEM
    assert "install the CUDA build" in found.advice
    machine.has_torch(cuda="13.0")
    found = machine.result("is present, but torch does not see it")
    assert found.state is CheckState.PROBLEM
    assert "update the driver" in found.advice


def test_a_torch_that_cannot_be_imported_is_reported_with_the_reason(machine: Machine) -> None:
    machine.has_broken_torch()
    assert machine.result("libcudart.so.13 is missing").state is CheckState.PROBLEM


def test_missing_packages_are_problems_with_the_command_that_installs_them(machine: Machine) -> None:
    machine.has_packages(torch=None, peft=None)
    assert machine.result("torch is not installed").state is CheckState.PROBLEM
    found = machine.result("peft is not installed")
    assert (found.state, found.advice) == (CheckState.PROBLEM, "pip install -r requirements.txt")


def test_an_outdated_attention_library_is_distinguished_from_a_missing_one(machine: Machine) -> None:
    machine.has_packages(sageattention="1.0.6", flash_attn=None, flash_attn_3=None)
    assert machine.result("SageAttention 1.0.6 is too old").state is CheckState.NOTE
    assert machine.result("flash-attn 2 is not installed").state is CheckState.NOTE
    assert machine.result("flash-attn 3 is not installed").state is CheckState.NOTE


def test_a_gpu_in_use_and_an_old_gpu_are_noted(machine: Machine) -> None:
    machine.has_torch(("NVIDIA GeForce RTX 3090", 23.7, 4.0, (8, 6)), ("NVIDIA TITAN RTX", 24.0, 24.0, (7, 5)))
    assert "it is in use" in machine.result("GPU 0").advice
    assert "no bf16" in machine.result("GPU 1").advice


def test_an_empty_directory_gets_the_command_and_the_size_for_every_variant(machine: Machine) -> None:
    found = machine.result("720x720_5s is missing 9 files, about 38.7 GB")
    assert found.state is CheckState.NOTE
    assert found.advice == (
        f"fetch the missing files with `python -m ovi_studio download 720x720_5s --ckpt-dir {machine.ckpts}`"
    )
    shared = machine.result("Wan2.2_VAE.pth is missing")
    assert "(about 2.8 GB, for all of these)" in shared.text
    own = machine.result("model_960x960_10s.safetensors is missing")
    assert "(about 23.3 GB, for 960x960_10s)" in own.text
    assert machine.result("Nothing yet").state is CheckState.PROBLEM
    lines = doctor.format_report(machine.report()).splitlines()
    assert len([line for line in lines if "Wan2.2_VAE.pth" in line]) == 1


def test_a_missing_file_that_another_application_has_is_named_with_the_command_that_uses_it(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = {"720x720_5s": VARIANT}
    monkeypatch.setattr(doctor, "known_variants", lambda _: tiny)
    models = tmp_path / "ComfyUI" / "models"
    file = write_model(models / "vae" / "wan2.2_vae.safetensors", VIDEO_VAE)
    wrong = write_model(models / "text_encoders" / "t5xxl.safetensors", T5)
    results = doctor.examine(machine.ckpts, machine.outputs, [models]).results
    found = next(one for one in results if one.text == f"video VAE is on this machine: {file}")
    assert found.state is CheckState.NOTE
    assert found.advice == (
        "use it without a download: `python -m ovi_studio download 720x720_5s "
        f'--ckpt-dir {machine.ckpts} --look-in "{models}"`'
    )
    assert any(one.text.startswith(f"{wrong} is the text encoder of another model") for one in results)
    assert not machine.ckpts.exists()


def test_a_damaged_file_is_a_problem_with_its_command(machine: Machine) -> None:
    machine.has_variant("720x720_5s")
    bad = machine.ckpts / "Ovi" / "model.safetensors"
    bad.write_bytes(bad.read_bytes()[:-1])
    found = machine.result(f"{bad} has ")
    assert found.state is CheckState.PROBLEM
    assert found.advice == f"`python -m ovi_studio download 720x720_5s --ckpt-dir {machine.ckpts}`"
    assert machine.result("720x720_5s is missing 1 file, about 23.3 GB").state is CheckState.PROBLEM


def test_a_damaged_file_of_a_diffusers_repository_is_named(machine: Machine) -> None:
    machine.has_variant("720x720_5s")
    (machine.ckpts / "Wan2.2-TI2V-5B" / "Wan2.2_VAE.pth").unlink()
    bad = machine.ckpts / "clone" / "vae" / "diffusion_pytorch_model.safetensors"
    bad.parent.mkdir(parents=True)
    bad.write_bytes(b"")
    found = machine.result(f"{bad} is not a safetensors file")
    assert found.state is CheckState.PROBLEM
    assert "fetch the official file" in found.advice


def test_a_disk_too_small_for_a_download_or_for_clips_is_reported(machine: Machine) -> None:
    machine.has_disk(10**9)
    assert "only 1.0 GB free" in machine.result("720x720_5s is missing").text
    assert machine.result("Output directory").state is CheckState.PROBLEM
    assert machine.result("Checkpoint directory").state is CheckState.OK


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_directory_that_is_not_writable_is_a_problem(machine: Machine) -> None:
    machine.outputs.mkdir()
    machine.outputs.chmod(0o500)
    assert machine.result("Output directory").state is CheckState.PROBLEM


@pytest.mark.parametrize(
    ("gpus", "memory", "state", "sentence"),
    [
        ([("NVIDIA H200", 139.8, 139.0, (9, 0))], 64, CheckState.OK, "720x720_5s: should fit one GPU"),
        ([RTX_3090] * 2, 64, CheckState.OK, "should fit the 2 GPUs together, sharded in host memory"),
        ([RTX_3090] * 2, 32, CheckState.OK, "should fit one GPU with int8 weights, or streamed from host memory"),
        ([RTX_3090] * 4, 64, CheckState.OK, "should fit the 4 GPUs together, sharded"),
        ([RTX_3090] * 5, 64, CheckState.OK, "should fit the 4 GPUs together, sharded"),
        ([RTX_3090], 64, CheckState.OK, "should fit one GPU with int8 weights, or streamed from host memory"),
        ([RTX_3090], 32, CheckState.OK, "should fit one GPU with int8 weights, or streamed from host memory"),
        ([RTX_3090], 16, CheckState.NOTE, "of host memory for weights that are kept there"),
        ([("RTX 4060", 12.0, 11.0, (8, 9))], 64, CheckState.OK, "should fit one GPU, streamed from host memory"),
        (
            [("RTX 3090", 23.7, 4.0, (8, 6))],
            64,
            CheckState.OK,
            "should fit one GPU with int8 weights",
        ),  # once it is free
        ([("RTX 3050", 6.0, 5.5, (8, 6))], 64, CheckState.OK, "should fit one GPU, streamed from host memory"),
        ([("GTX 1650", 4.0, 3.7, (7, 5))], 64, CheckState.NOTE, "needs a GPU of at least 5.2 GiB"),
    ],
)
def test_what_fits_follows_from_the_gpus_and_the_memory(
    machine: Machine,
    gpus: list[tuple[str, float, float, tuple[int, int]]],
    memory: int,
    state: CheckState,
    sentence: str,
) -> None:
    machine.has_torch(*gpus)
    machine.has_memory(memory)
    machine.has_variant("720x720_5s")
    found = [result for result in machine.report().results if result.text.startswith("720x720_5s: ")]
    assert [result.state for result in found] == [state]
    assert sentence in found[0].text


def test_several_gpus_get_a_plan_for_working_together(machine: Machine) -> None:
    machine.has_variant("720x720_5s")
    machine.has_torch(*[RTX_3090] * 4)
    sooner = machine.result("720x720_5s, shortest time for one clip: guidance parallel x sequence parallel")
    assert sooner.state is CheckState.OK
    assert "Predicted:" in sooner.text
    assert machine.result("720x720_5s, shortest time for the queue: one clip a GPU").state is CheckState.OK
    machine.has_torch(RTX_3090)
    assert not [result for result in machine.report().results if "shortest time for one clip" in result.text]


def test_a_broken_bundle_hides_nothing_else(machine: Machine) -> None:
    machine.has_variant("720x720_5s")
    (machine.ckpts / "bundle.json").write_text("{")
    assert machine.result("does not describe a model bundle").state is CheckState.PROBLEM
    assert machine.result("720x720_5s is complete").state is CheckState.OK


def test_an_incomplete_bundle_has_to_be_written_again(machine: Machine) -> None:
    machine.has_bundle()
    found = machine.result("tiny is not complete")
    assert found.state is CheckState.PROBLEM
    assert "model.safetensors is missing" in found.text
    assert found.advice.startswith("write the bundle in ")
    assert "once its files are complete" in machine.result("tiny: on a GPU or on the CPU").text
