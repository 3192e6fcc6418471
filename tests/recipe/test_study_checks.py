"""ablate.recipe.study_checks: factors and variants that cannot be compared, or are not what they seem."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ablate.recipe.recipe import Recipe
from ablate.recipe.study_checks import field_levels

Write = Callable[..., Path]
Told = Callable[..., str]
MEASURED = (
    "would change what is measured (data, split, labels, metric), so the variants could not be "
    "compared; make it a "
    "study of its own."
)


@pytest.mark.parametrize(
    ("study", "sentence"),
    [
        ("metric: acuracy", "metric 'acuracy' is no metric; did you mean accuracy?"),
        ("metrics: [f1, acuracy]", "metrics.1 'acuracy' is no metric; did you mean accuracy?"),
        ("metrics: [f1, f1]", "metrics names f1 twice."),
        ("seeds: [1, 2, 1]", "seeds names 1 twice."),
        ("baseline: [mixup, mixup]", "baseline names mixup twice."),
        ("baseline: [nomalize]", "baseline.0 'nomalize' is no technique; did you mean normalize?"),
        ("folds: [0]", "folds needs data.split.folds, the number of folds to split into."),
        ("vary: [mixp]", "vary.0 'mixp' is no technique; did you mean mixup?"),
        ("vary: [mixup, mixup]", "vary.1 varies mixup a second time."),
        (
            "vary: [model.arch]",
            "vary.0 names the recipe field model.arch; write its levels too, as in {model.arch: "
            "[reference, other]}.",
        ),
        (
            "vary: [{modl.arch: [a, b]}]",
            "vary.0.modl.arch is neither a technique nor a recipe field; did you mean model?",
        ),
        ("vary: [{data.split.random: [0.1, 0.2]}]", f"vary.0.data.split.random {MEASURED}"),
        ("vary: [{study.seeds: [1, 2]}]", f"vary.0.study.seeds {MEASURED}"),
        ("vary: [{data: [{}, {root: a}]}]", f"vary.0.data {MEASURED}"),
        (
            "vary: [{deterministic: [false, true]}]",
            "vary.0.deterministic holds for a whole study; set it in the recipe.",
        ),
        (
            "vary: [{model.arch: [a]}]",
            "vary.0.model.arch needs two levels or more; the first is the reference.",
        ),
        ("vary: [{size: [32, 32]}]", "vary.0.size.1 is 32, as another level is; levels must differ."),
        (
            "vary: [{mixup: [off]}]",
            "vary.0.mixup needs two levels or more, such as [off, {…}]; the first is the reference.",
        ),
        (
            "vary: [{mixup: [off, on, on]}]",
            "vary.0.mixup.2 is 'on', as another level is; levels must differ.",
        ),
        (
            "vary: [{mixup: [off, no]}]",
            "vary.0.mixup.1 is 'no', which is no level of a technique; write off, on or options.",
        ),
        (
            "vary: [{mixup: [off, true]}]",
            "vary.0.mixup.1 is true, which is no level of a technique; write off, on or options.",
        ),
        ("vary: [{mixup: [off, {alpa: 1}]}]", "vary.0.mixup.1.alpa is no setting; did you mean alpha?"),
        (
            "vary: [{mixup: [on, off]}]",
            "vary.0.mixup starts with 'on', but study.baseline has mixup off; the first level "
            "is the reference, so the two must agree.",
        ),
        (
            "{baseline: [mixup], vary: [{mixup: [off, on]}]}",
            "vary.0.mixup starts with 'off', but study.baseline has mixup on; the first level "
            "is the reference, so the two must agree.",
        ),
        ("design: cumulative", "design cumulative needs factors; name them in study.vary."),
        ("design: fractional", "design fractional needs factors; name them in study.vary."),
        (
            "{design: factorial, vary: [mixup], fraction: {variants: 8}}",
            "fraction belongs to design: fractional alone; drop one of the two.",
        ),
        (
            "{design: [[mixup]], fraction: {resolution: 3}}",
            "fraction belongs to design: fractional alone; drop one of the two.",
        ),
        (
            "{design: fractional, vary: [mixup, {size: [32, 48, 64]}]}",
            "vary.1.size gives size 3 levels, but in a fractional design each factor has two; keep two of "
            "them, or take design: factorial.",
        ),
        (
            "{design: fractional, vary: [mixup, cutmix, tta, augment], fraction: {variants: 7}}",
            "fraction.variants 7 is too few variants to tell the effects of 4 factors apart; the least is "
            "8, at resolution III.",
        ),
        (
            "{design: fractional, vary: [mixup], fraction: {variants: 4, resolution: 3}}",
            "fraction cannot work: give resolution or variants, not both.",
        ),
        (
            "{design: fractional, vary: [mixup], fraction: {resolution: 2}}",
            "fraction.resolution is 2, but must be at least 3.",
        ),
        (
            "{design: fractional, vary: [mixup], fraction: {resolution: IV}}",
            "fraction.resolution is 'IV', but must be a whole number.",
        ),
        ("design: []", "design is an empty list; name variants, such as [[mixup], [mixup, cutmix]]."),
        (
            "{design: [[mixup]], vary: [tta]}",
            "vary has no meaning beside an explicit design; drop one of the two.",
        ),
        ("design: [[mixp]]", "design.0 'mixp' is no technique; did you mean mixup?"),
        ("design: [[]]", "design.0 changes nothing; the baseline is there by itself, so drop it."),
        (
            "design: [[tta], [tta]]",
            "design.1 is a second variant named baseline+tta; give it another name, or drop it.",
        ),
        (
            "design: [{name: baseline, on: [tta]}]",
            "design.0 is a second variant named baseline; give it another name, or drop it.",
        ),
        ("design: [{off: [tta]}]", "design.0 turns tta off, but the baseline does not have it on."),
        ("{baseline: [tta], design: [[tta]]}", "design.0 turns tta on, but the baseline has it on already."),
        ("design: [{on: [tta], off: [tta]}]", "design.0 has tta both on and off."),
        ("design: [{set: {data.root: a}}]", f"design.0 sets data.root, which {MEASURED}"),
        (
            "design: [{set: {modl: a}}]",
            "design.0 sets modl, which is neither a technique nor a recipe field; did you mean model?",
        ),
    ],
)
def test_one_sentence(told: Told, study: str, sentence: str) -> None:
    study = study if study.startswith("{") else f"{{{study}}}"
    assert told(f"study: {study}\n") == f"r.yaml:6: study.{sentence}"


@pytest.mark.parametrize(
    ("study", "sentence"),
    [
        ("vary: [{phases.hed.lr: [1, 2]}]", "phases has no 'hed'; it has head, tune."),
        (
            "vary: [{phases.head.lr: [1e-3, fast]}]",
            "phases.head.lr is 'fast', but must be a number, a list or find.",
        ),
        ("vary: [{model.arc: [a, b]}]", "model.arc is no setting; did you mean arch?"),
        ("vary: [{size.x: [1, 2]}]", "size is a single value, so there is no size.x."),
        ("vary: [{techniques.mixp.alpha: [1, 2]}]", "techniques.mixp is no technique; did you mean mixup?"),
        ("vary: [{techniques.mixup.alpha: [1, -2]}]", "techniques.mixup.alpha is -2, but must be above 0."),
        ("design: [{set: {model.arc: a}}]", "model.arc is no setting; did you mean arch?"),
    ],
)
def test_levels_of_fields_are_tried_where_they_are_written(told: Told, study: str, sentence: str) -> None:
    assert told(f"study: {{{study}}}\n") == f"r.yaml:6: {sentence}"


def test_folds(told: Told) -> None:
    split = "data: {split: {folds: 3}}\n"
    assert (
        told(split + "study: {folds: [0, 3]}\n") == "r.yaml:7: study.folds.1 3 is no fold; there are 0 to 2."
    )
    assert told(split + "study: {folds: [1, 1]}\n") == "r.yaml:7: study.folds names 1 twice."


def test_a_factorial_that_would_never_end(told: Told) -> None:
    vary = ", ".join(f"{{phases.head.lr: {list(range(1, 102))}}}" if i else "mixup" for i in range(2))
    fields = f"{{weight_decay: {[i / 100 for i in range(100)]}}}"
    said = told(f"study: {{design: factorial, vary: [{vary}, {fields}]}}\n")
    assert said == (
        "r.yaml:6: study.design factorial makes 20200 variants of these 3 factors, above the limit of 10000; "
        "vary fewer, or take fractional or one_at_a_time."
    )


def test_a_fraction_that_is_too_large(told: Told) -> None:
    fields = ", ".join(f"{{techniques.mixup.alpha{i}: [1, 2]}}" for i in range(40))
    said = told(f"study: {{design: fractional, fraction: {{resolution: 12}}, vary: [{fields}]}}\n")
    assert said.splitlines()[0] == (
        "r.yaml:6: study.fraction.resolution 40 factors take more than 8192 variants at resolution XII; vary "
        "fewer, or take a lower resolution."
    )


def test_what_is_allowed(write: Write) -> None:
    fields = "{size: [32, 48]}, {phases.head.lr: [1e-3, find]}"
    vary = f"[augment, mixup, {{cutmix: [off, on, {{alpha: 0.5}}]}}, {fields}]"
    recipe = Recipe.load(write(f"study: {{baseline: [augment], vary: {vary}}}\n"))
    assert [(name, value) for _, name, value in field_levels(recipe.study)] == [
        ("size", 32),
        ("size", 48),
        ("phases.head.lr", 0.001),
        ("phases.head.lr", "find"),
    ]
    design = "[[mixup], {off: [augment]}, {name: both, on: [mixup, tta], set: {model.arch: resnet34}}]"
    recipe = Recipe.load(write(f"study: {{baseline: [augment], design: {design}}}\n"))
    assert list(field_levels(recipe.study)) == [
        (("study", "design", 2, "set", "model.arch"), "model.arch", "resnet34")
    ]
