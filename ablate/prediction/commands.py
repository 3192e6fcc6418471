"""From the options of `ablate predict` and `ablate export` to files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.errors import AblateError
from ablate.prediction.networks import MANIFEST, Ensemble, Network, find_ensemble
from ablate.prediction.out_of_fold import out_of_fold
from ablate.prediction.output import check_output, write_table
from ablate.prediction.submission import Sample
from ablate.progress import counting
from ablate.study.planning import available_cores
from ablate.study.study import Study

if TYPE_CHECKING:
    from ablate.prediction.asked import Asking

_WITHOUT_IMAGES = ("variant", "out", "force", "out_of_fold", "device")
_OF_NETWORK = ("seed", "fold")
_OF_GALLERY = ("gallery", "gallery_root")
_OF_MEAN = ("tta", "sample", "values")


def run_predict(study: Path, **options: Any) -> Path:
    """Do what `ablate predict` is asked to, and give the file that was written.

    Raises:
        AblateError: Options do not go together, or something that they name cannot be used.
    """
    _check_options(options)
    if options["out_of_fold"]:
        return _out_of_fold(study, options)
    from ablate.prediction.asked import Asking

    with counting() as report:
        threads = options["threads"] or available_cores()
        where = {"device": options["device"], "threads": threads, "workers": options["workers"]}
        asking = Asking(**where, skip_bad=options["skip_bad"], report=report, note=note)
        ensemble = find_ensemble(study, options["variant"])
        if options["neighbours"]:
            return _neighbours(ensemble, asking, options)
        return (_embeddings if options["embeddings"] else _predictions)(ensemble, asking, options)


def _predictions(ensemble: Ensemble, asking: Asking, options: dict[str, Any]) -> Path:
    from ablate.prediction.asked import predict_images

    sample = Sample.read(options["sample"]) if options["sample"] else None
    columns = sample.columns if sample else ["id", "label"]
    out = _out(options, "submission.csv" if sample else "predictions.csv", columns)
    ensemble = ensemble.with_tta() if options["tta"] else ensemble
    note(ensemble.note)
    table = predict_images(
        ensemble, options["images"], asking, root=options["root"], sample=sample, values=options["values"]
    )
    write_table(table, out)
    return out


def _embeddings(ensemble: Ensemble, asking: Asking, options: dict[str, Any]) -> Path:
    from ablate.prediction.asked import embed_images
    from ablate.prediction.embeddings import write_embeddings

    npz = Path(options["out"] or "").suffix == ".npz"
    out = _out(options, "embeddings.parquet", ["item", "embeddings" if npz else "e_0"], arrays=True)
    network = _network(ensemble, options)
    write_embeddings(*embed_images(ensemble, network, options["images"], asking, options["root"]), out)
    return out


def _neighbours(ensemble: Ensemble, asking: Asking, options: dict[str, Any]) -> Path:
    from ablate.prediction.asked import nearest_images

    out = _out(options, "neighbours.csv", ["item", "rank", "neighbour", "similarity"])
    table = nearest_images(
        ensemble,
        _network(ensemble, options),
        options["images"],
        asking,
        options["neighbours"],
        root=options["root"],
        gallery=options["gallery"],
        gallery_root=options["gallery_root"],
    )
    write_table(table, out)
    return out


def _out_of_fold(study: Path, options: dict[str, Any]) -> Path:
    if (study / MANIFEST).is_file():
        raise AblateError(f"--out-of-fold: {study} is an export, without a study's tables; name the study.")
    out = _out(options, "out_of_fold.csv", ["item", "fold", "target", "label"])
    table, about = out_of_fold(Study.open(study), options["variant"])
    note(about)
    write_table(table, out)
    return out


def _network(ensemble: Ensemble, options: dict[str, Any]) -> Network:
    network = ensemble.one(options["seed"], options["fold"])
    note(f"{ensemble.variant}: the network of {network.name}")
    return network


def _out(options: dict[str, Any], default: str, columns: list[str], *, arrays: bool = False) -> Path:
    path = Path(options["out"] or default)
    check_output(
        path, columns, [options[name] for name in ("images", "sample", "gallery")], options["force"], arrays
    )
    return path


def _check_options(options: dict[str, Any]) -> None:
    """Refuse options that would do nothing beside the others."""
    retrieves = bool(options["embeddings"] or options["neighbours"])
    useless: list[tuple[bool, tuple[str, ...], str]] = [
        (
            not retrieves,
            _OF_NETWORK,
            "needs --embeddings or --neighbours; the mean is over all seeds and folds",
        ),
        (not options["neighbours"], _OF_GALLERY, "needs --neighbours"),
        (not options["gallery"], ("gallery_root",), "needs --gallery"),
        (retrieves, _OF_MEAN, "does nothing to embeddings; leave it away"),
        (not options["sample"], ("values",), "needs --sample"),
    ]
    if options["out_of_fold"]:
        others = tuple(name for name in options if name not in _WITHOUT_IMAGES)
        useless.append(
            (True, others, "does nothing beside --out-of-fold, which reads the study's predictions")
        )
    elif options["images"] is None:
        raise AblateError("--images: name a folder of images or a CSV table, or ask for --out-of-fold.")
    if options["embeddings"] and options["neighbours"]:
        raise AblateError("--embeddings and --neighbours write different files; ask for one after the other.")
    for does_nothing, names, why in useless:
        for name in names:
            if does_nothing and options[name] is not None and options[name] is not False:
                raise AblateError(f"--{name.replace('_', '-')} {why}.")


def run_export(study: Path, *, variant: str | None, out: str, onnx: bool) -> list[Path]:
    """Do what `ablate export` is asked to, and give what was written.

    Raises:
        AblateError: There is no such variant, weights are missing, or the folder cannot be made.
    """
    from ablate.prediction.export import ONNX, export

    ensemble = find_ensemble(study, variant)
    note(ensemble.note)
    if onnx and (views := ensemble.predicting):
        note(f"{ONNX} gives the plain view; {', '.join(views)} are not in it")
    return export(ensemble, Path(out), onnx=onnx)


def note(text: str) -> None:
    """A sentence for people, beside what is printed for programs."""
    print(text, file=sys.stderr, flush=True)
