"""blurpool: blur before every loss of resolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, model_validator

from ablate.errors import AblateError
from ablate.techniques.base import Context, Technique

if TYPE_CHECKING:
    from torch import nn

_FEWEST_CHANNELS = 16
"""Below, a convolution is the network's first one: as in Composer, which sees it as too cheap to spoil."""


def with_blur(model: nn.Module, convs: bool = True, max_pools: bool = True, blur_first: bool = True) -> int:
    """Put a blur, 1-2-1 both ways with zeros around, into a network wherever it skips pixels.

    A max-pool becomes one of stride 1 with a blur that has its stride. Weights and output sizes stay.

    Args:
        model: Changed in place.
        convs: Whether strided convolutions of 16 input channels and more are blurred.
        max_pools: Whether max-pools are.
        blur_first: Blur a convolution's input, which is cheap; else its output, as in the paper: it then has
            stride 1, and costs four times as much.

    Returns:
        How many layers were replaced.
    """
    from torch import nn

    replaced = 0
    for name, layer in model.named_children():
        if convs and isinstance(layer, nn.Conv2d) and _skips(layer) and layer.in_channels >= _FEWEST_CHANNELS:
            blurred = _blurred_conv(layer, blur_first)
        elif max_pools and isinstance(layer, nn.MaxPool2d) and _skips(layer) and not layer.ceil_mode:
            blurred = _blurred_max_pool(layer)
        else:
            replaced += with_blur(layer, convs, max_pools, blur_first)
            continue
        model.register_module(name, blurred)
        replaced += 1
    return replaced


def _skips(layer: Any) -> bool:
    return layer.stride not in (1, (1, 1))


def _blur(channels: int | None, stride: Any) -> nn.Module:
    from timm.layers import BlurPool2d

    blur = BlurPool2d(channels, stride=1, pad_mode="constant")
    blur.stride = stride  # given to its constructor, it would change the padding, and the output's size
    return blur


def _blurred_conv(conv: Any, blur_first: bool) -> nn.Module:
    from torch import nn

    if blur_first:
        return nn.Sequential(_blur(conv.in_channels, 1), conv)
    blur = _blur(conv.out_channels, conv.stride)
    conv.stride = (1, 1)
    return nn.Sequential(conv, blur)


def _blurred_max_pool(pool: Any) -> nn.Module:
    from torch import nn

    dense = nn.MaxPool2d(pool.kernel_size, 1, pool.padding, pool.dilation)
    return nn.Sequential(dense, _blur(None, pool.stride))


class BlurPool(Technique):
    """Blur what strided convolutions and max-pools take in or give out, so that a shift changes less."""

    name: ClassVar[str] = "blurpool"
    paper: ClassVar[str] = "Zhang 2019, Making Convolutional Networks Shift-Invariant Again, arXiv 1904.11486"

    replace_convs: bool = Field(True, description="Strided convolutions, but for the network's first.")
    replace_maxpools: bool = Field(True, description="Max-pools.")
    blur_first: bool = Field(True, description="Blur before a convolution, not after it: cheaper.")

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not (self.replace_convs or self.replace_maxpools):
            raise ValueError("replace_convs and replace_maxpools are both off; leave blurpool out")
        return self

    def model(self, model: Any, context: Context) -> Any:
        if not with_blur(model, self.replace_convs, self.replace_maxpools, self.blur_first):
            raise AblateError(
                "blurpool: this model.arch has no layers to blur, strided convolutions or max-pools, beyond "
                "its first; take another architecture, or leave the technique out."
            )
        return model
