"""What the doctor finds on machines that are made up, and on this one."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result
from machines import Machine
from rich.console import Console

from ablate.cli import main
from ablate.devices.doctor import Diagnosis, Finding, diagnose, hardware, packages
from ablate.devices.doctor.probe import Answer, probe
from ablate.devices.doctor.show import print_diagnosis

Answers = dict[str, Answer]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Answers:
    """What devices answer, instead of being tried; also gives ablate folders of its own."""
    said: Answers = {}
    monkeypatch.setattr(hardware, "probe", lambda device, waiting: said.get(device, Answer()))
    monkeypatch.setattr(packages, "requires", lambda package: [])
    for name in ("CACHE", "STORE", "OUT"):
        monkeypatch.setenv(f"ABLATE_{name}", str(tmp_path / "own" / name))
    return said


@pytest.fixture
def fitted(machine: Machine, answers: Answers) -> Machine:
    """A machine that has all packages that there must be."""
    machine.versions |= {"ablate": "0.1.0", "fastai": "2.8.12", "timm": "1.0.31"}
    return machine


def found_at(name: str) -> Finding:
    [finding] = [one for one in diagnose(lambda text: nullcontext()).findings if one.name == name]
    return finding


def ablate_doctor(*words: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *words])


def test_a_machine_without_an_accelerator_has_no_problem(fitted: Machine):
    done = ablate_doctor("--json")
    assert done.exit_code == 0
    told = json.loads(done.output)
    assert (told["auto"], told["problems"]) == ("cpu", 0)
    levels = {finding["name"]: finding["level"] for finding in told["findings"]}
    assert [levels.pop(name) for name in ("cuda", "mps", "xla")] == ["note"] * 3
    assert set(levels.values()) == {"ok"}
    assert {"cpu", "python", "torch", "ABLATE_CACHE", "ABLATE_STORE", "ABLATE_OUT"} <= set(levels)
    assert all(not finding["mend"] for finding in told["findings"])


def test_a_gpu_that_works(fitted: Machine, answers: Answers):
    fitted.nvidia()
    answers["cuda"] = Answer(["H100", "H100"])
    finding = found_at("cuda")
    assert finding.level == "ok"
    assert finding.text == "NVIDIA's driver 580.65.06; works (2 × H100)"


def test_a_gpu_with_a_torch_for_the_cpu(fitted: Machine):
    fitted.nvidia()
    fitted.torch(None)
    fitted.versions |= {"torch": "2.15.0+cpu", "torchvision": "0.29.2+cpu"}
    finding = found_at("cuda")
    assert finding.level == "problem"
    assert "torch 2.15.0+cpu was built without CUDA" in finding.text
    assert finding.mend == "run `pip install --force-reinstall torch==2.15.0 torchvision==0.29.2`"


def test_a_card_without_its_driver(fitted: Machine):
    fitted.pci("0x10de", "0x2330", "0x040300")  # its sound
    assert found_at("cuda").text == "no NVIDIA card was found"
    fitted.pci("0x10de", "0x2330", "0x030200")
    finding = found_at("cuda")
    assert (finding.level, finding.text) == ("note", "there is an NVIDIA card, and its driver is not loaded")
    assert "nvidia-smi" in finding.mend


def test_gpus_that_are_hidden(fitted: Machine, monkeypatch: pytest.MonkeyPatch):
    fitted.nvidia()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    finding = found_at("cuda")
    assert finding.level == "note"
    assert "CUDA_VISIBLE_DEVICES hides its GPUs" in finding.text


def test_a_mac(fitted: Machine, answers: Answers):
    fitted.system = ("Darwin", "arm64")
    assert found_at("mps").level == "ok"
    answers["mps"] = Answer(error="RuntimeError: The MPS backend is not built")
    assert found_at("mps").level == "problem"


def test_a_tpu_that_works(fitted: Machine, answers: Answers):
    fitted.tpu(chips=4)
    answers["xla"] = Answer(["TPU"] * 4)
    finding = found_at("xla")
    assert (finding.level, finding.text) == ("ok", "4 × TPU v5e; works (4 × TPU)")
    assert diagnose(lambda text: nullcontext()).auto == "xla"


def test_a_tpu_in_a_container(fitted: Machine, answers: Answers, monkeypatch: pytest.MonkeyPatch):
    fitted.tpu(chips=0)
    fitted.file("dev/accel0")
    assert found_at("xla").level == "note"
    monkeypatch.setenv("PJRT_DEVICE", "TPU")
    answers["xla"] = Answer(["TPU"])
    assert found_at("xla").text == f"1 × {fitted.root}/dev/accel0; works (1 × TPU)"


def test_xlas_cpu_backend(fitted: Machine, answers: Answers, monkeypatch: pytest.MonkeyPatch):
    fitted.tpu(chips=0)
    monkeypatch.setenv("PJRT_DEVICE", "CPU")
    answers["xla"] = Answer(["CPU"])
    assert found_at("xla").text == "XLA's CPU backend, as PJRT_DEVICE=CPU asks; works (1 × CPU)"
    fitted.tpu(chips=1)
    assert "and not 1 × TPU v5e" in found_at("xla").text


def test_torch_xla_without_a_tpu_is_worth_a_note(fitted: Machine, monkeypatch: pytest.MonkeyPatch):
    fitted.tpu(chips=0)
    finding = found_at("xla")
    assert finding.level == "note"
    assert "no TPU was found" in finding.text
    assert "PJRT_DEVICE=CPU" in finding.mend
    monkeypatch.setenv("PJRT_DEVICE", "TPU")
    finding = found_at("xla")
    assert finding.level == "problem"
    assert "PJRT_DEVICE=TPU asks for a TPU, and there is none" in finding.text


@pytest.mark.parametrize(
    ("changed", "text", "mend"),
    [
        ({"torch": "2.15.0"}, "torch_xla 2.9.0 does not fit torch 2.15.0", "'ablate[xla]'"),
        ({"torch_xla": None}, "2 × TPU v5e: torch_xla is not installed", "'ablate[xla]'"),
        ({"libtpu": None}, "libtpu, which drives it, is not installed", "'torch_xla[tpu]==2.9.0'"),
    ],
)
def test_a_tpu_that_cannot_be_used(fitted: Machine, changed: dict[str, str | None], text: str, mend: str):
    fitted.tpu(chips=2)
    for package, version in changed.items():
        fitted.versions.pop(package)
        fitted.versions |= {package: version} if version else {}
    finding = found_at("xla")
    assert finding.level == "problem"
    assert text in finding.text
    assert mend in finding.mend


@pytest.mark.parametrize(
    ("device", "error", "text", "mend"),
    [
        (
            "xla",
            "RuntimeError: ABORTED: The TPU is already in use by process with pid 2239507.",
            "process 2239507 holds the TPU",
            "ps -fp 2239507",
        ),
        ("xla", "open(/dev/vfio/0): Device or resource busy", "another process holds the TPU", "lsof"),
        (
            "xla",
            "INTERNAL: remove /tmp/libtpu_lockfile",
            "left its lock behind",
            "sudo rm /tmp/libtpu_lockfile",
        ),
        (
            "xla",
            "UNKNOWN: TPU initialization failed: open(/dev/accel0): Operation not permitted",
            "this user may not open the TPU",
            "docker run --privileged",
        ),
        (
            "xla",
            "Invalid --2a886c8_slice_builder_worker_addresses specified. Expected 4 worker addresses, got 1.",
            "TPU_PROCESS_ADDRESSES",
            "unset TPU_PROCESS_ADDRESSES",
        ),
        ("xla", "did not answer within 120 seconds", "did not answer within 120 seconds", "lsof"),
        (
            "cuda",
            "RuntimeError: The NVIDIA driver on your system is too old (found version 11040).",
            "too old for this build",
            "upgrade the driver",
        ),
        (
            "cuda",
            "AcceleratorError: CUDA error: no kernel image is available for execution on the device",
            "has no code for this GPU",
            "another CUDA",
        ),
        ("cuda", "OutOfMemoryError: CUDA out of memory.", "another process holds the GPU", "nvidia-smi"),
        ("cuda", "RuntimeError: something new\nand more of it", "something new", "nvidia-smi"),
        (
            "cpu",
            "ImportError: libgomp.so.1: cannot open",
            "ImportError: libgomp.so.1",
            "--force-reinstall torch==",
        ),
    ],
)
def test_a_device_that_does_not_work(
    fitted: Machine, answers: Answers, device: str, error: str, text: str, mend: str
):
    fitted.nvidia()
    if device == "xla":
        fitted.tpu()
    answers[device] = Answer(error=error)
    finding = found_at(device)
    assert finding.level == "problem"
    assert text in finding.text
    assert "and more" not in finding.text
    assert mend in finding.mend
    assert ablate_doctor().exit_code == 1


def test_packages_that_do_not_fit(fitted: Machine, monkeypatch: pytest.MonkeyPatch):
    needs = {"torchvision": ["torch==2.9.0", 'gdown>=4.7; extra == "gdown"', "numpy"], "timm": ["torch"]}
    monkeypatch.setattr(packages, "requires", lambda package: needs.get(package))
    fitted.versions["numpy"] = "2.4.0"
    assert found_at("timm").level == "ok"
    finding = found_at("torchvision")
    assert finding.level == "problem"
    assert finding.text == "0.29.2; needs torch==2.9.0; has torch 2.15.0"
    assert finding.mend == "run `pip install 'torch==2.9.0'`"
    fitted.versions |= {"torch": "2.9.0+cu128"}
    assert found_at("torchvision").level == "ok"
    fitted.versions |= {"torch": "2.10.0", "torch_xla": "2.9.0"}
    assert "'ablate[xla]'" in found_at("torchvision").mend
    del fitted.versions["numpy"]
    assert found_at("torchvision").text.endswith("; needs torch==2.9.0, numpy; has torch 2.10.0, no numpy")


def test_packages_that_are_missing(fitted: Machine):
    del fitted.versions["timm"]
    finding = found_at("timm")
    assert (finding.level, finding.text, finding.mend) == (
        "problem",
        "is not installed",
        "run `pip install timm`",
    )
    names = [one.name for one in diagnose(lambda text: nullcontext()).findings]
    assert "wandb" not in names  # may be missing
    assert "torch_xla" not in names


def test_the_doctor_comes_where_packages_are_missing():
    code = (
        "import sys\n"
        "for name in ('torch', 'fastai', 'numpy', 'pydantic', 'pandas'): sys.modules[name] = None\n"
        "from ablate.devices.doctor import hardware\n"
        "from ablate.devices.doctor.probe import Answer\n"
        "hardware.probe = lambda device, waiting: Answer()\n"
        "from ablate.cli import main\n"
        "main(['doctor'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == ""
    assert "ablate cannot be imported" in done.stdout
    assert "install ablate again" in done.stdout


def test_folders(fitted: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "own").mkdir()
    (tmp_path / "file").write_text("")
    assert found_at("ABLATE_CACHE").level == "ok"
    assert "GiB free" in found_at("ABLATE_CACHE").text
    assert list((tmp_path / "own").iterdir()) == []
    monkeypatch.setenv("ABLATE_STORE", str(tmp_path / "file" / "below"))
    monkeypatch.setenv("ABLATE_OUT", "/proc/ablate")
    for name in ("ABLATE_STORE", "ABLATE_OUT"):
        finding = found_at(name)
        assert finding.level == "problem"
        assert "cannot be written to" in finding.text
        assert f"set {name} to a folder" in finding.mend


def test_a_store_at_a_url(fitted: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ABLATE_STORE", f"file://{tmp_path}/bucket/stages")
    assert found_at("ABLATE_STORE").level == "ok"
    assert not [path for path in (tmp_path / "bucket").rglob("*") if path.is_file()]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ABLATE_STORE", f"file://{tmp_path}/file/stages")
    finding = found_at("ABLATE_STORE")
    assert finding.level == "problem"
    assert finding.text.startswith(f"file://{tmp_path}/file/stages: cannot be ")
    assert finding.mend.startswith("set ABLATE_STORE to")


def test_a_disk_that_is_nearly_full(fitted: Machine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=2**29))
    finding = found_at("ABLATE_OUT")
    assert finding.level == "note"
    assert finding.text.endswith(": 0.5 GiB free")
    assert finding.mend.startswith("set ABLATE_OUT to a folder")


def test_what_is_printed():
    findings = [
        Finding("device", "cpu", "ok", "2 cores; works"),
        Finding("device", "xla", "problem", "no [tpu] :x:", "run `pip install 'torch_xla[tpu]'`"),
        Finding("package", "torch", "note", "2.15.0"),
    ]
    console = Console(markup=False, emoji=False, highlight=False, width=60, record=True, file=io.StringIO())
    print_diagnosis(Diagnosis("cpu", findings), console)
    lines = [" ".join(line.split()) for line in console.export_text().splitlines() if line.strip()]
    assert lines[-5:] == [
        "xla problem no [tpu] :x:",
        "torch note 2.15.0",
        "xla: run `pip install 'torch_xla[tpu]'`.",
        "--device auto takes cpu.",
        "1 problem.",
    ]


@pytest.fixture
def fake_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has probes run a shell script instead of Python."""

    def write(script: str) -> None:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return write


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("kill -SEGV $$", "its process was ended by SIGSEGV"),
        ("exit 3", "its process ended with exit code 3 and said nothing"),
        ("echo no JSON", "its process ended with exit code 0 and said nothing"),
        ('echo noise; echo \'{"error": "RuntimeError: no"}\'', "RuntimeError: no"),
    ],
)
def test_a_probe_that_fails(fake_python: Callable[[str], None], script: str, error: str):
    fake_python(script)
    assert probe("cuda", lambda text: nullcontext()) == Answer(error=error)


def test_a_probe_keeps_what_was_logged(fake_python: Callable[[str], None]):
    fake_python("echo The TPU is already in use >&2; kill -ABRT $$")
    assert "already in use" in probe("xla", lambda text: nullcontext()).log


def test_a_probe_that_does_not_answer_is_given_up(fake_python: Callable[[str], None], monkeypatch):
    fake_python("exec sleep 60")
    monkeypatch.setattr("ablate.devices.doctor.probe.PATIENCE", 0.1)
    told: list[str] = []

    @contextmanager
    def waiting(text: str) -> Iterator[None]:
        told.append(text)
        yield

    assert probe("xla", waiting, limit=0.4).error == "did not answer within 0.4 seconds"
    assert told == ["trying xla"]


def test_the_doctor_on_this_machine(tmp_path: Path):
    own = {f"ABLATE_{name}": str(tmp_path / name) for name in ("CACHE", "STORE", "OUT")}
    words = [sys.executable, "-m", "ablate.cli", "doctor", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | own)
    told = json.loads(done.stdout)
    assert done.returncode == (1 if told["problems"] else 0), done.stderr
    findings = {finding["name"]: finding for finding in told["findings"]}
    assert findings["cpu"]["level"] == "ok"
    assert findings["cpu"]["text"].endswith(" cores; works")
    assert told["auto"] in ("cpu", "cuda", "mps", "xla")
    assert list(tmp_path.iterdir()) == []
