from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from ablate import devices
from ablate.errors import AblateError
from ablate.techniques import torch_compile
from ablate.techniques.torch_compile import TorchCompile, missing_compiler
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2))


def test_weights_keep_their_names(make_parts: Callable):
    parts = make_parts(TorchCompile())
    plain, compiled = (build_learner(p, dataloaders(p)).model for p in (make_parts(), parts))
    assert list(compiled.state_dict()) == list(plain.state_dict())
    for name, value in plain.state_dict().items():
        assert torch.equal(compiled.state_dict()[name], value)


@pytest.mark.parametrize("mode", ["default", "max-autotune-no-cudagraphs"])
def test_the_network_is_compiled_when_it_is_called(make_parts: Callable, mode: Any, monkeypatch: Any):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda call, **options: asked.append(options) or call)
    model, x = small(), torch.rand(5, 4)
    assert TorchCompile(mode=mode).model(model, make_parts().context) is model
    (options,) = (one["options"] for one in asked)
    assert options.pop("fallback_random")
    assert options == torch._inductor.list_mode_options(mode)
    torch.testing.assert_close(model(x), small()(x))


def test_the_device_compiles_it(make_parts: Callable, monkeypatch: pytest.MonkeyPatch):
    asked: list[Any] = []
    adapter = SimpleNamespace(compile=lambda model, options: asked.append((model, options)))
    monkeypatch.setattr(devices, "load", lambda name: asked.append(name) or adapter)
    context, model = make_parts(device="mps").context, small()
    assert TorchCompile().model(model, context) is model
    assert asked[0] == "mps"
    assert asked[1][0] is model
    assert asked[1][1]["fallback_random"]


@pytest.mark.slow
def test_a_small_network_gives_the_same_compiled(make_parts: Callable):
    model, x = small(), torch.rand(5, 4)
    expected = model(x)
    compiled = TorchCompile().model(model, make_parts().context)
    counted = torch._dynamo.utils.counters
    counted.clear()
    torch.testing.assert_close(compiled(x), expected)
    assert counted["stats"]["unique_graphs"] == 1


def test_no_compiler(make_parts: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("CXX", "no-such-c++")
    parts = make_parts(TorchCompile())
    with pytest.raises(
        AblateError, match=r"torch_compile: the C\+\+ compiler no-such-c\+\+ is not on this mach"
    ):
        build_learner(parts, dataloaders(parts))
    compiler = tmp_path / "c++"
    compiler.touch(mode=0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setattr(torch_compile.sysconfig, "get_path", lambda _: str(tmp_path))
    assert missing_compiler() == f"Python's header files ({tmp_path / 'Python.h'})"
    (tmp_path / "Python.h").touch()
    assert missing_compiler() is None


@pytest.mark.slow
def test_a_whole_training_is_that_of_the_network(make_parts: Callable):
    losses = []
    for on in ((), (TorchCompile(),)):
        parts = make_parts(*on)
        learn = build_learner(parts, dataloaders(parts))
        with learn.no_bar(), learn.no_logging():
            learn.fit(1, 1e-3)
        losses.append([float(loss) for loss in learn.recorder.losses])
    assert losses[1][:2] == pytest.approx(losses[0][:2], rel=1e-4)  # the same dropout; then roundings grow
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
