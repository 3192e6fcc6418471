"""Building learners: weights, freezing, and techniques that hook in."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import pytest
import timm
import torch
from fastai.data.transforms import Normalize
from fastai.optimizer import RMSProp
from safetensors.torch import save_file
from timm.layers import DropPath
from torch import nn

from ablate.errors import AblateError
from ablate.techniques import Technique
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner, check_arch
from ablate.training.parts import Parts


def state_of(made: Parts) -> dict[str, torch.Tensor]:
    return build_learner(made, dataloaders(made)).model.state_dict()


def test_initial_weights_follow_the_seed_and_nothing_else(parts):
    one, same, other = state_of(parts(seed=1)), state_of(parts(seed=1, batch_size=3)), state_of(parts(seed=2))
    torch.manual_seed(123)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_initial_weights_do_not_depend_on_the_phase(parts):
    head, body = state_of(parts("head")), state_of(parts("body"))
    assert all(torch.equal(head[name], body[name]) for name in head)


def test_local_weights_reach_the_body(parts, tmp_path: Path):
    network = timm.create_model("test_efficientnet", pretrained=False)
    file = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), file)
    loaded = state_of(parts(model__weights=str(file), model__pretrained=True))
    body = {k.removeprefix("0.model."): v for k, v in loaded.items() if k.startswith("0.model.")}
    assert len(body) > 20
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in body.items())


def test_pretrained_weights_bring_no_normalization_along(parts, tmp_path: Path):
    file = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_efficientnet", pretrained=False).state_dict(), file)
    made = parts(model__weights=str(file), model__pretrained=True, study__baseline=[])
    learn = build_learner(made, dataloaders(made))
    assert not [t for loader in learn.dls.loaders for t in loader.after_batch.fs if isinstance(t, Normalize)]


@pytest.mark.parametrize("content", [b"", b"no safetensors at all"])
def test_a_damaged_weights_file_is_named(parts, tmp_path: Path, content: bytes):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(content)
    with pytest.raises(
        AblateError, match=r"model\.weights: .*weights\.safetensors does not fit test_efficientnet"
    ):
        state_of(parts(model__weights=str(file), model__pretrained=True))


def test_weights_of_another_network_are_refused(parts, tmp_path: Path):
    file = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_vit", pretrained=False).state_dict(), file)
    with pytest.raises(AblateError, match="does not fit test_efficientnet"):
        state_of(parts(model__weights=str(file), model__pretrained=True))


def test_without_network_and_cache_the_error_names_the_weights_way(parts, monkeypatch, tmp_path: Path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(AblateError, match=r"cannot be fetched.*set model\.weights to the safetensors file"):
        state_of(parts(model__pretrained=True))


def test_an_unknown_architecture_gets_a_suggestion():
    with pytest.raises(AblateError, match=r"no architecture 'resnet5'; did you mean .*resnet50"):
        check_arch("resnet5")
    check_arch("resnet50.a1_in1k")


def test_freezing_leaves_the_head_and_batch_norms(parts):
    made = parts("head")
    learn = build_learner(made, dataloaders(made))
    norms = {id(p) for m in learn.model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    free = [p for p in learn.model[0].parameters() if p.requires_grad]
    assert free
    assert all(id(p) in norms for p in free)
    assert all(p.requires_grad for p in learn.model[1].parameters())


class Doubled(Technique):
    """Doubles the logits, and trains with RMSProp."""

    name = "doubled"

    def model(self, model, context):
        class Twice(nn.Module):
            def forward(self, x):
                return 2 * x

        model[1].append(Twice())
        return model

    def optimizer(self, optimizer, context):
        return RMSProp


def test_techniques_change_the_network_and_the_optimizer(parts):
    import dataclasses

    plain = parts()
    changed = dataclasses.replace(plain, on={**plain.on, "doubled": Doubled()})
    learns = [build_learner(made, dataloaders(made)) for made in (plain, changed)]
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        once, twice = (learn.model.eval()(x) for learn in learns)
    assert torch.allclose(twice, 2 * once)
    learns[1].create_opt()
    assert "sqr_avg" not in learns[1].opt.state_dict()["hypers"][0]
    assert "mom" in learns[1].opt.hypers[0]
    assert learns[0].opt is not None


class Finer(Technique):
    """Three groups of parameters in the place of two, drop-path, and a layer of its own as the last."""

    name: ClassVar[str] = "finer"

    def network(self, context: Any) -> dict[str, Any]:
        return {"drop_path_rate": 0.25}

    def splitter(self, splitter: Any, context: Any) -> Any:
        def split(model: nn.Module) -> list[list[nn.Parameter]]:
            body, head = splitter(model)
            return [body[:2], body[2:], head]

        return split

    def model(self, model: Any, context: Any) -> Any:
        model[1][-1] = nn.Linear(model[1][-1].in_features, context.n_classes)
        return model


def test_a_technique_makes_the_network_and_groups_its_parameters(parts):
    made = parts("body")
    made = dataclasses.replace(made, on=dict(made.on) | {"finer": Finer()})
    learn = build_learner(made, dataloaders(made))
    rates = [module.drop_prob for module in learn.model.modules() if isinstance(module, DropPath)]
    assert max(rates) == pytest.approx(0.25, abs=0.1)
    assert [len(group) > 0 for group in learn.opt.param_lists] == [True] * 3
    trained = {id(p) for group in learn.opt.param_lists for p in group}
    assert trained == {id(p) for p in learn.model.parameters()}  # the new layer too, the old one no more


def test_an_option_that_an_architecture_lacks_is_named(parts):
    class Odd(Technique):
        name: ClassVar[str] = "odd"

        def network(self, context: Any) -> dict[str, Any]:
            return {"no_such_option": 1}

    made = parts("body")
    made = dataclasses.replace(made, on={"odd": Odd()})
    with pytest.raises(AblateError, match=r"model\.arch: test_efficientnet does not take no_such_option"):
        build_learner(made, dataloaders(made))
