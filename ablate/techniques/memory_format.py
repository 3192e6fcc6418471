"""memory_format: how images and kernels are laid out in memory."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from ablate.techniques.base import Context, Technique


class MemoryFormat(Technique):
    """Lay the network's kernels and its batches out with channels first, or with channels last.

    Without this technique, channels come last on the CPU and on CUDA, which is faster for most networks; XLA
    chooses by itself. The values are the same but for the last bits of sums.
    """

    name: ClassVar[str] = "memory_format"
    paper: ClassVar[str] = "PyTorch's tutorial “Channels Last Memory Format”"
    order: ClassVar[int] = 95

    layout: Literal["contiguous", "channels_last"] = Field(
        "contiguous", description="contiguous: channels first, which is torch's own default."
    )

    def batch_transforms(self, context: Context) -> list[Any]:
        from ablate.data.layout import Layout

        return [Layout(self._format())]

    def model(self, model: Any, context: Context) -> Any:
        return model.to(memory_format=self._format())

    def _format(self) -> Any:
        import torch

        return torch.channels_last if self.layout == "channels_last" else torch.contiguous_format
