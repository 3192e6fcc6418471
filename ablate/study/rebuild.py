"""A trained learner from a study's files: the recipe builds it, the store has its weights. No pickle."""

from __future__ import annotations

from fastai.learner import Learner

from ablate import techniques
from ablate.errors import AblateError
from ablate.recipe.recipe import Recipe
from ablate.study import design
from ablate.study.remote_store import store_at
from ablate.study.setting import work_out
from ablate.study.study import Study
from ablate.training.best import weights_name
from ablate.training.data import dataloaders
from ablate.training.learner import build_learner
from ablate.training.notebook import setting_parts
from ablate.training.weights import load_weights


def trained_learner(study: Study, variant: str, seed: int, fold: int) -> Learner:
    """The learner of a finished trial, with the last phase's loaders; see `Study.learner`."""
    trial = study.trial(variant, seed, fold)
    store = store_at(study.plan["store"])
    if not store.has(trial.fits[-1]):
        raise AblateError(
            f"{trial.name}: its weights are not in {store.place}; `ablate run` trains it again."
        )
    recipe = Recipe.load(study.folder / "recipe.yaml")
    found = design.factors(recipe.study, list(techniques.known(recipe.technique_sources)))
    made = next(made for made in design.variants(recipe.study, found) if made.name == variant)
    setting = work_out(recipe, made)
    parts = setting_parts(setting, None, seed, fold)
    learn = build_learner(parts, dataloaders(parts), initial=False)
    trained = store.folder(trial.fits[-1])
    load_weights(learn, trained, weights_name(trained, setting.recipe.keep))
    return learn
