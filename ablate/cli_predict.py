"""`ablate predict` and `ablate export`: what a study's networks say of new images."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import click

from ablate.cli_completion import complete_study
from ablate.errors import AblateError

_STUDY = click.argument("study", type=click.Path(), shell_complete=complete_study)
_VARIANT = click.option("--variant", help="Whose networks. [default: the best, or the only one]")
_BEST = click.option("--best", is_flag=True, help="Those of the best variant; the default.")


@click.command()
@_STUDY
@click.option(
    "--images", type=click.Path(), help="A folder of images, or a CSV with the recipe's image column."
)
@_VARIANT
@_BEST
@click.option("--root", type=click.Path(), help="The folder of a CSV's images. [default: the recipe's]")
@click.option("--tta", is_flag=True, help="Test-time augmentation, where the variant has none.")
@click.option(
    "--sample", type=click.Path(), help="A sample submission, whose columns, ids and order are kept."
)
@click.option(
    "--values",
    type=click.Choice(["label", "probability"]),
    help="What the sample's one column asks for. [default: by its name and values]",
)
@click.option("--out-of-fold", is_flag=True, help="What the study predicted out of fold; needs no images.")
@click.option("--embeddings", is_flag=True, help="What one network's last layer sees of each image.")
@click.option("--neighbours", type=click.IntRange(1), help="The so many nearest images, by embeddings.")
@click.option("--gallery", type=click.Path(), help="Where neighbours are looked for. [default: --images]")
@click.option("--gallery-root", type=click.Path(), help="As --root, for the gallery.")
@click.option("--seed", type=int, help="Whose embeddings. [default: the first seed]")
@click.option("--fold", type=int, help="Whose embeddings. [default: the first fold]")
@click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be used, and name them.")
@click.option(
    "--out", type=click.Path(), help="The .csv, .parquet or .npz to write. [default: predictions.csv …]"
)
@click.option("--force", is_flag=True, help="Replace an --out that is something else.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, mps, xla or auto.")
@click.option("--threads", type=click.IntRange(1), help="Torch threads. [default: all cores]")
@click.option("--workers", type=click.IntRange(0), help="Loader threads; they change no result.")
def predict(study: str, **options: Any) -> None:
    """Predict new images with the mean of a variant's networks, over seeds and folds.

    Example: ablate predict runs/digits --images photos/ --out predictions.csv

    A submission: ablate predict runs/digits --images test/ --sample sample_submission.csv

    The study's folder is enough, copied anywhere, offline.
    """
    warnings.simplefilter("ignore")  # libraries' words to programmers
    from ablate.prediction.commands import run_predict

    click.echo(run_predict(Path(study), **_one_variant(options)))


@click.command()
@_STUDY
@_VARIANT
@_BEST
@click.option("--out", required=True, type=click.Path(), help="The folder to make.")
@click.option("--onnx", is_flag=True, help="ONNX files too; needs ablate[onnx].")
def export(study: str, **options: Any) -> None:
    """Write one variant's networks into a folder of their own, which `ablate predict` takes like a study.

    Example: ablate export runs/digits --out exported --onnx
    """
    warnings.simplefilter("ignore")
    from ablate.prediction.commands import run_export

    for path in run_export(Path(study), **_one_variant(options)):
        click.echo(path)


def _one_variant(options: dict[str, Any]) -> dict[str, Any]:
    """The options without --best, which says what is the default."""
    if options.pop("best") and options["variant"] is not None:
        raise AblateError("--best and --variant exclude each other; give one of them.")
    return options
