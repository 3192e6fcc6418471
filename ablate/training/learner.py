"""Build a fastai Learner: a timm network with fastai's head, the phase's techniques hooked in."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import Any

import fastai.vision.all  # noqa: F401  completes Learner: fit_one_cycle, lr_find, tta, show_results …
import timm
import torch
from fastai.callback.progress import ProgressCallback
from fastai.data.core import DataLoaders
from fastai.learner import Learner, Metric
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from fastai.optimizer import Adam
from fastai.vision.learner import default_split, vision_learner
from safetensors import SafetensorError
from torch import nn

from ablate import devices
from ablate.errors import AblateError
from ablate.recipe.schema import Model
from ablate.techniques import compose
from ablate.training.callbacks import DeviceStep, KeyedTraining, MicroBatch, Precision, Results
from ablate.training.head import head_for
from ablate.training.parts import Parts
from ablate.training.recorded import Mean, MeanLoss, SmoothLoss
from ablate.training.watch import WatchCompilations


def build_learner(
    parts: Parts, dls: DataLoaders, *, initial: bool = True, folder: Path | None = None
) -> Learner:
    """A plain fastai Learner for one phase, frozen or not as the phase says.

    Args:
        parts: What it is made of.
        dls: Its loaders.
        initial: Whether to start from the initial weights; else the caller loads others, and none are
            fetched.
        folder: Where fastai may put files.

    Raises:
        AblateError: There is no such architecture, or its weights cannot be had.
    """
    context, techniques = parts.context, compose.ordered(parts.on.values())
    check_arch(parts.model.arch)
    whole_trial = replace(parts.streams, phase="")
    seed = whole_trial.integer("init")
    torch.manual_seed(seed)
    optimizer = Adam
    for technique in compose.ordered(parts.active):
        optimizer = technique.optimizer(optimizer, context)
    network = compose.network(techniques, context)
    learn = _vision_learner(
        dls,
        parts.model,
        initial,
        network,
        splitter=compose.splitter(techniques, default_split, context),
        opt_func=optimizer,
        loss_func=compose.loss(parts.active, CrossEntropyLossFlat(), context),
        metrics=_metrics(parts) if len(dls.valid) else [],
        wd=parts.phase.weight_decay,
        path=folder,
        cbs=[*_own_callbacks(parts), *compose.callbacks(parts.active, context)],
    )
    recorder = learn.recorder
    recorder.valid_metrics = len(dls.valid) > 0  # fastai would record a loss that is None
    recorder.loss, recorder.smooth_loss = MeanLoss(), SmoothLoss()
    if parts.model.head:
        torch.manual_seed(whole_trial.integer("init.head"))
        learn.model[1] = head_for(learn.model[0], parts.model.head, context.n_classes)
    if initial and parts.model.weights:
        _refuse_unloaded(learn.model[0].model, parts.model, network, seed)
    learn.model.to(memory_format=devices.load(parts.device).memory_format)
    for technique in techniques:
        if technique.overrides("model"):
            torch.manual_seed(whole_trial.integer(f"init.{technique.name}"))
            learn.model = technique.model(learn.model, context)
    learn.model.to(dls.device)
    learn.opt = None  # made for the network as it was before surgery
    (learn.freeze if parts.phase.freeze else learn.unfreeze)()
    return learn


def quiet(learn: Learner) -> Learner:
    """Take fastai's progress bars and prints off."""
    learn.remove_cbs(learn.cbs.filter(lambda callback: isinstance(callback, ProgressCallback)))
    learn.logger = _print_nothing
    return learn


def check_arch(arch: str) -> None:
    """Raise an `AblateError` with the nearest names unless timm has an architecture."""
    name = arch.split(".")[0]
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; `timm.list_models()` lists them."
        raise AblateError(f"model.arch: timm has no architecture {arch!r}{hint}")


def _vision_learner(
    dls: DataLoaders, model: Model, initial: bool, network: dict[str, Any], **kwargs: Any
) -> Learner:
    pretrained = initial and (model.pretrained or model.weights is not None)
    source: dict[str, Any] = {}
    if pretrained and model.weights:
        if not Path(model.weights).is_file():
            raise AblateError(f"model.weights: there is no file {model.weights}.")
        source = {"pretrained_cfg_overlay": {"file": model.weights}}
    try:
        return vision_learner(
            dls, model.arch, normalize=False, pretrained=pretrained, **source, **network, **kwargs
        )
    except TypeError as error:
        if not any(f"'{option}'" in str(error) for option in network):
            raise
        raise AblateError(
            f"model.arch: {model.arch} does not take {', '.join(network)}; turn off the technique that sets "
            "it, or take another architecture."
        ) from error
    except (SafetensorError, RuntimeError, ValueError, KeyError, UnicodeDecodeError) as error:
        if not pretrained:
            raise
        if model.weights:
            first = str(error).strip().splitlines()[0][:200]
            raise AblateError(
                f"model.weights: {model.weights} does not fit {model.arch} ({first})."
            ) from error
        raise AblateError(_no_weights(model.arch, error)) from error
    except Exception as error:  # the hub's client raises errors of many libraries: HTTP, sockets, its own
        if not pretrained or model.weights:
            raise
        raise AblateError(_no_weights(model.arch, error)) from error


def _refuse_unloaded(body: nn.Module, model: Model, network: dict[str, Any], seed: int) -> None:
    """Raise unless every weight matrix came from the file; timm only warns of those it did not find."""
    torch.manual_seed(seed)
    fresh = timm.create_model(model.arch, pretrained=False, num_classes=0, **network).state_dict()
    untouched = [name for name, p in body.named_parameters() if p.ndim > 1 and torch.equal(p, fresh[name])]
    if untouched:
        raise AblateError(
            f"model.weights: {model.weights} does not fit {model.arch}: it has no {untouched[0]}, nor "
            f"{len(untouched) - 1} others; give the weights of the same architecture."
        )


def _no_weights(arch: str, error: Exception) -> str:
    return (
        f"model.pretrained: the weights of {arch} are not in the cache and cannot be fetched "
        f"({type(error).__name__}); download them elsewhere and set model.weights to the safetensors file, "
        "or set model.pretrained to false."
    )


def _metrics(parts: Parts) -> list[Any]:
    metrics = [accuracy, *compose.metrics(parts.active, parts.context)]
    return [metric if isinstance(metric, Metric) else Mean(metric) for metric in metrics]


def _own_callbacks(parts: Parts) -> list[Any]:
    device = parts.device
    own: list[Any] = [KeyedTraining(parts.streams, device), DeviceStep(device), Results(device)]
    own.append(WatchCompilations(device, parts.phase.name, parts.active))
    if parts.phase.precision and parts.phase.precision != "float32":
        own.append(Precision(parts.phase.precision, parts.device))
    if (
        parts.phase.micro_batch
        and parts.phase.batch_size
        and parts.phase.micro_batch < parts.phase.batch_size
    ):
        own.append(MicroBatch(parts.phase.micro_batch))
    return own


def _print_nothing(*_: Any, **__: Any) -> None:
    pass
