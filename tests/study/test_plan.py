"""ablate.study.plan: which trials share which stages, and what can change a key."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.recipe.recipe import Recipe
from ablate.study import plan as plan_module
from ablate.study.graph import FoldData, Plan
from ablate.study.plan import make_plan, stage_key, versions

FOLD = FoldData(0, "train-hash", "valid-hash")
PHASES = [
    {"name": "one", "epochs": 3, "lr": 1e-3, "freeze": True},
    {"name": "two", "epochs": 2, "lr": 1e-3},
    {"name": "three", "epochs": 1, "lr": 1e-4},
]


def recipe(**changes: Any) -> Recipe:
    study = {"baseline": ["normalize"], "seeds": 1} | changes.pop("study", {})
    return Recipe.from_dict({"name": "tiny", "size": 32, "phases": PHASES, "study": study} | changes)


def planned(
    folds: list[FoldData] | None = None,
    weights: str | None = None,
    threads: int = 1,
    device: str = "cpu",
    share: bool = True,
    **changes: Any,
) -> Plan:
    return make_plan(
        recipe(**changes),
        folds or [FOLD],
        weights_hash=weights,
        threads=threads,
        device=device,
        share=share,
    )


def fits(plan: Plan, variant: str = "baseline", seed: int = 0) -> tuple[str, ...]:
    return next(trial.fits for trial in plan.trials if (trial.variant, trial.seed) == (variant, seed))


def predict(plan: Plan, variant: str = "baseline") -> str:
    return next(trial.predict for trial in plan.trials if trial.variant == variant)


def shared(plan: Plan, variant: str) -> list[bool]:
    """For each phase of a variant, whether the baseline trains it too."""
    return [one == other for one, other in zip(fits(plan, variant), fits(plan), strict=True)]


class TestWhatCannotChangeAResult:
    @given(
        name=st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True),
        smallest=st.floats(1e-4, 0.5),
        metric=st.sampled_from(["accuracy", "balanced_accuracy", "log_loss"]),
        retries=st.integers(0, 10),
        seeds=st.permutations([0, 1, 5]),
        baseline=st.permutations(["normalize", "augment", "label_smoothing"]),
        techniques=st.permutations(["mixup", "augment", "tta"]),
        vary=st.permutations(["mixup", "tta", "reseed"]),
    )
    def test_is_in_no_key(
        self,
        name: str,
        smallest: float,
        metric: str,
        retries: int,
        seeds: list[int],
        baseline: list[str],
        techniques: list[str],
        vary: list[str],
    ) -> None:
        options: dict[str, Any] = {"mixup": {"alpha": 0.3}, "augment": {"max_zoom": 1.2}, "tta": {"n": 2}}
        study = {"baseline": ["normalize", "augment", "label_smoothing"], "vary": ["mixup", "tta", "reseed"]}
        before = planned(techniques=options, study=study | {"seeds": [0, 1, 5]})
        after = planned(
            name=name,
            techniques={key: options[key] for key in techniques},
            study={
                "baseline": baseline,
                "vary": vary,
                "seeds": seeds,
                "smallest_effect": smallest,
                "metric": metric,
                "retries": retries,
            },
        )
        assert set(after.stages) == set(before.stages)
        assert (after.requested_epochs, after.unique_epochs) == (
            before.requested_epochs,
            before.unique_epochs,
        )

    def test_options_of_techniques_that_are_off(self) -> None:
        assert set(planned(techniques={"mixup": {"alpha": 3}}).stages) == set(planned().stages)

    def test_defaults_that_are_written_down(self) -> None:
        written = planned(presize=32, batch_size=64, techniques={"normalize": {"stats": "imagenet"}})
        assert set(written.stages) == set(planned().stages)

    def test_threads_where_they_change_no_sum(self) -> None:
        one, two = planned(device="cuda", threads=1), planned(device="cuda", threads=2)
        assert set(one.stages) == set(two.stages)

    def test_paths(self) -> None:
        def at(path: str) -> set[str]:
            return set(
                planned(
                    weights="hash", model={"weights": f"/{path}/a.safetensors"}, data={"root": path}
                ).stages
            )

        assert at("here") == at("there")

    def test_all_phases_are_as_good_as_none_named(self) -> None:
        study = {"vary": ["mixup", "label_smoothing"]}
        every = {"phases": ["one", "two", "three"]}
        limited = planned(techniques={"mixup": every, "label_smoothing": every}, study=study)
        assert set(limited.stages) == set(planned(study=study).stages)


class TestWhatCanChangeAResult:
    @pytest.mark.parametrize(
        ("changes", "changed"),
        [
            ({"study": {"seeds": [1]}}, [True, True, True]),
            ({"threads": 2}, [True, True, True]),
            ({"device": "cuda"}, [True, True, True]),
            ({"weights": "other"}, [True, True, True]),
            ({"folds": [FoldData(0, "other", "valid-hash")]}, [True, True, True]),
            ({"folds": [FoldData(0, "train-hash", "other")]}, [True, True, True]),
            ({"model": {"arch": "resnet34"}}, [True, True, True]),
            ({"model": {"pretrained": False}}, [True, True, True]),
            ({"deterministic": True}, [True, True, True]),
            ({"size": 48}, [True, True, True]),
            ({"presize": 40}, [True, True, True]),
            ({"batch_size": 32}, [True, True, True]),
            ({"weight_decay": 0.1}, [True, True, True]),
            ({"precision": "bfloat16"}, [True, True, True]),
            ({"micro_batch": 8}, [True, True, True]),
            ({"techniques": {"normalize": {"stats": "train"}}}, [True, True, True]),
            ({"study": {"baseline": []}}, [True, True, True]),
            ({"phases": [PHASES[0], PHASES[1] | {"lr": 2e-3}, PHASES[2]]}, [False, True, True]),
            ({"phases": [PHASES[0], PHASES[1] | {"epochs": 3}, PHASES[2]]}, [False, True, True]),
            ({"phases": [PHASES[0], PHASES[1], PHASES[2] | {"batch_size": 8}]}, [False, False, True]),
            ({"phases": [PHASES[0], PHASES[1], PHASES[2] | {"name": "last"}]}, [False, False, True]),
        ],
    )
    def test_is_in_the_keys_of_its_phase_and_all_later_ones(
        self, changes: dict[str, Any], changed: list[bool]
    ) -> None:
        before, after = planned(), planned(**changes)
        seed = after.trials[0].seed
        assert [a != b for a, b in zip(fits(after, seed=seed), fits(before), strict=True)] == changed
        assert predict(after) != predict(before)

    def test_the_technique_s_version(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from ablate.techniques.normalize import Normalize

        before = planned()
        monkeypatch.setattr(Normalize, "version", 2)
        assert not set(planned().stages) & set(before.stages)

    def test_the_versions_of_packages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = planned()
        monkeypatch.setattr(plan_module, "versions", lambda: versions() | {"fastai": "99"})
        assert not set(planned().stages) & set(before.stages)
        assert set(versions()) >= {"torch", "fastai", "timm"}

    def test_the_version_of_a_kind_of_stage(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = planned()
        monkeypatch.setitem(plan_module.STAGE_VERSIONS, "predict", 99)
        after = planned()
        assert fits(after) == fits(before)
        assert predict(after) != predict(before)

    def test_the_order_of_phases(self) -> None:
        assert not set(planned(phases=PHASES[::-1]).stages) & set(planned().stages)

    @given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=5))
    def test_key_does_not_depend_on_the_order_of_settings(self, settings: dict[str, Any]) -> None:
        assert stage_key(settings) == stage_key(dict(reversed(settings.items())))
        assert stage_key(settings) != stage_key(settings | {"one more": 1})

    def test_every_key_is_that_of_the_stage_s_settings(self) -> None:
        plan = planned(
            phases=FINDING, folds=[FoldData(0, "a", "b", "c")], study={"vary": ["mixup"], "seeds": 2}
        )
        assert all(stage_key(stage.settings) == key for key, stage in plan.stages.items())


class TestSharing:
    @pytest.mark.parametrize(
        ("technique", "options", "same"),
        [
            ("mixup", {"phases": ["three"]}, [True, True, False]),
            ("mixup", {"phases": ["two"]}, [True, False, False]),
            ("mixup", {}, [False, False, False]),
            ("label_smoothing", {"phases": ["three"]}, [True, True, False]),
            ("progressive_resizing", {"one": 16}, [False, False, False]),
            ("progressive_resizing", {"two": 16}, [True, False, False]),
            ("progressive_resizing", {}, [True, True, True]),
            ("tta", {}, [True, True, True]),
            ("reseed", {}, [False, False, False]),
        ],
    )
    def test_with_the_baseline(self, technique: str, options: dict[str, Any], same: list[bool]) -> None:
        plan = planned(techniques={technique: options}, study={"vary": [technique]})
        assert shared(plan, f"baseline+{technique}") == same

    def test_what_only_predicts_adds_no_training(self) -> None:
        plan = planned(study={"vary": ["tta", {"techniques.tta.n": [4, 8]}]})
        kinds = [stage.kind for stage in plan.stages.values()]
        assert kinds.count("fit") == 3
        assert predict(plan, "baseline+tta") != predict(plan)
        assert predict(plan, "baseline+techniques.tta.n=8") == predict(plan)  # tta is off there

    def test_a_predicting_technique_that_is_on_in_the_baseline(self) -> None:
        plan = planned(study={"baseline": ["tta"], "vary": [{"techniques.tta.n": [4, 8]}]})
        assert shared(plan, "baseline+techniques.tta.n=8") == [True, True, True]
        assert predict(plan, "baseline+techniques.tta.n=8") != predict(plan)

    def test_the_epoch_that_is_kept_costs_no_training(self) -> None:
        plan = planned(study={"vary": [{"keep": ["last", "best"]}]})
        best = "baseline+keep=best"
        assert fits(plan, best) == fits(plan)
        assert predict(plan, best) != predict(plan)
        assert plan.stages[predict(plan, best)].settings["keep"] == "best"
        assert set(planned(keep="best").stages) == {*fits(plan), predict(plan, best)}
        assert not any("keep" in plan.stages[key].settings for key in fits(plan))

    def test_reseed_with_another_salt_is_another_control(self) -> None:
        plan = planned(study={"vary": [{"reseed": ["off", {"salt": "a"}, {"salt": "b"}]}]})
        assert len(plan.stages) == 3 * (3 + 1)

    def test_trials_of_other_seeds_and_folds_share_nothing(self) -> None:
        folds = [FoldData(0, "a", "b"), FoldData(1, "b", "a")]
        plan = planned(folds=folds, study={"seeds": 3})
        assert len(plan.stages) == 2 * 3 * 4
        assert [(trial.seed, trial.fold) for trial in plan.trials] == [
            (s, f) for s in range(3) for f in range(2)
        ]

    def test_a_test_split_is_predicted_beside(self) -> None:
        plan = planned(folds=[FoldData(0, "a", "b", "c")], study={"vary": ["tta"]})
        assert all(trial.test in plan.stages for trial in plan.trials)
        assert len({trial.test for trial in plan.trials} | {trial.predict for trial in plan.trials}) == 4

    def test_by_hand(self) -> None:
        """Phases of 3, 2 and 1 epochs, two seeds; mixup is in the last, smaller images in the second."""
        options: dict[str, Any] = {"mixup": {"phases": ["three"]}, "progressive_resizing": {"two": 16}}
        plan = planned(
            techniques=options, study={"vary": ["mixup", "progressive_resizing", "tta"], "seeds": 2}
        )
        assert len(plan.trials) == 4 * 2
        assert plan.requested_epochs == 2 * 4 * (3 + 2 + 1)
        assert plan.unique_epochs == 2 * (6 + 1 + (2 + 1) + 0)
        assert plan.merge_rate == pytest.approx(48 / 20)
        assert len(plan.stages) == 2 * ((3 + 1 + 2) + 4)

    def test_equal_variants_of_two_factors_are_one(self) -> None:
        plan = planned(
            study={
                "vary": [{"techniques.normalize.stats": ["imagenet", "train"]}, "augment"],
                "design": "factorial",
            }
        )
        assert len(plan.trials) == 4
        assert len({trial.fits for trial in plan.trials}) == 4


class TestNotSharing:
    FOLDS: ClassVar = [FoldData(0, "a", "b", "c"), FoldData(1, "b", "a", "c")]
    STUDY: ClassVar = {"vary": ["mixup", "tta", "reseed"], "seeds": 2}
    OPTIONS: ClassVar = {"mixup": {"phases": ["three"]}}

    def plan(self, share: bool, **changes: Any) -> Plan:
        return planned(self.FOLDS, share=share, techniques=self.OPTIONS, study=self.STUDY, **changes)

    def test_every_trial_trains_all_that_it_asks_for(self) -> None:
        plan = self.plan(share=False)
        assert plan.unique_epochs == plan.requested_epochs == 4 * 2 * 2 * (3 + 2 + 1)
        assert plan.merge_rate == 1
        assert set(plan.needed(key for t in plan.trials for key in (t.predict, str(t.test)))) == set(
            plan.stages
        )

    @pytest.mark.parametrize("phases", [PHASES, [PHASES[0] | {"lr": "find"}, *PHASES[1:]]])
    def test_no_stage_is_in_two_trials(self, phases: list[dict[str, Any]]) -> None:
        plan = self.plan(share=False, phases=phases)
        stages = [set(plan.needed([trial.predict, str(trial.test)])) for trial in plan.trials]
        assert sum(map(len, stages)) == len(set.union(*stages))
        searches = sum(stage.kind == "lr_find" for stage in plan.stages.values())
        assert searches == (len(plan.trials) if phases[0]["lr"] == "find" else 0)

    def test_changes_nothing_but_the_keys(self) -> None:
        def trained(plan: Plan) -> list[list[dict[str, Any]]]:
            found = []
            for trial in plan.trials:
                keys = [*trial.fits, trial.predict, str(trial.test)]
                assert all(stage_key(plan.stages[key].settings) == key for key in keys)
                own = {"parent", "lr_from", "trial"}
                found.append([without(plan.stages[key].settings, own) for key in keys])
            return found

        shared, alone = self.plan(share=True), self.plan(share=False)
        assert trained(alone) == trained(shared)
        assert alone.contrasts == shared.contrasts
        assert [(t.name, t.levels) for t in alone.trials] == [(t.name, t.levels) for t in shared.trials]
        assert not set(alone.stages) & set(shared.stages)


def without(settings: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


FINDING = [PHASES[0] | {"lr": "find"}, PHASES[1], PHASES[2] | {"lr": "find"}]


class TestLearningRates:
    def test_one_search_per_phase_and_seed_for_all_variants(self) -> None:
        plan = planned(phases=FINDING, study={"vary": ["mixup", "label_smoothing"], "seeds": 2})
        searches = {key: stage for key, stage in plan.stages.items() if stage.kind == "lr_find"}
        assert len(searches) == 2 * 2
        for trial in plan.trials:
            for number, key in enumerate(trial.fits):
                found = [parent for parent in plan.stages[key].parents if parent in searches]
                assert len(found) == (1 if number in (0, 2) else 0)
                assert all(searches[parent].seed == trial.seed for parent in found)
                assert all(plan.stages[key].settings["lr_from"] == parent for parent in found)

    def test_the_search_is_on_the_reference(self) -> None:
        plan = planned(phases=FINDING, study={"vary": ["mixup"]})
        search = plan.stages[fits(plan, "baseline+mixup")[2]].settings["lr_from"]
        assert plan.stages[search].parents == (fits(plan)[1],)
        names = [technique["name"] for technique in plan.stages[search].settings["techniques"]]
        assert names == ["normalize"]

    def test_a_phase_that_only_a_variant_has(self) -> None:
        further = {"further": {"name": "late", "epochs": 2, "lr": "find"}}
        plan = planned(techniques={"mixup": further}, study={"vary": ["mixup"]})
        late = fits(plan, "baseline+mixup")[3]
        search = plan.stages[plan.stages[late].settings["lr_from"]]
        assert search.settings["phase"]["name"] == "three"

    def test_the_reference_is_trained_in_designs_without_it(self) -> None:
        plan = planned(phases=FINDING, study={"vary": ["mixup", "cutmix"], "design": "leave_one_out"})
        wanted = set(plan.needed(trial.predict for trial in plan.trials))
        assert wanted == set(plan.stages)
        assert "baseline" not in {trial.variant for trial in plan.trials}


class TestOptimizerState:
    def test_carries_over_unless_freezing_changes(self) -> None:
        plan = planned()
        kept = [plan.stages[key].settings["keeps_optimizer"] for key in fits(plan)]
        assert kept == [False, False, True]


class TestContrasts:
    def test_unequal_epochs_are_flagged(self) -> None:
        further = {"further": {"name": "late", "epochs": 50}}
        vary = ["mixup", "cutmix", {"phases.one.epochs": [3, 4]}]
        plan = planned(techniques={"mixup": further}, study={"vary": vary})
        assert {contrast.factor: contrast.unequal_epochs for contrast in plan.contrasts} == {
            "mixup": True,
            "cutmix": False,
            "phases.one.epochs": True,
        }

    def test_an_interaction_of_added_epochs_is_not(self) -> None:
        further = {"further": {"name": "late", "epochs": 50}}
        plan = planned(
            techniques={"mixup": further}, study={"vary": ["mixup", "cutmix"], "design": "factorial"}
        )
        assert [contrast.unequal_epochs for contrast in plan.contrasts] == [True, False, False]


class TestNeeded:
    @given(st.data())
    def test_parents_come_first_and_nothing_else_comes_along(self, data: st.DataObject) -> None:
        plan = planned(
            phases=FINDING,
            techniques={"mixup": {"phases": ["three"]}},
            study={"vary": ["mixup", "tta", "reseed"], "seeds": 2},
        )
        some = data.draw(st.lists(st.sampled_from(sorted(plan.stages)), max_size=6))
        order = plan.needed(some)
        assert len(set(order)) == len(order)
        for i, key in enumerate(order):
            assert set(plan.stages[key].parents) <= set(order[:i])
        last = set(some) | {parent for key in order for parent in plan.stages[key].parents}
        assert set(order) == last


def test_names_for_people() -> None:
    plan = planned(folds=[FoldData(1, "a", "b")], study={"vary": ["mixup"]})
    assert [trial.name for trial in plan.trials] == [
        "baseline, seed 0, fold 1",
        "baseline+mixup, seed 0, fold 1",
    ]
    assert plan.stages[fits(plan)[0]].label == "baseline · one · seed 0 · fold 1"


def test_unknown_images() -> None:
    assert planned().data_known
    unknown = planned(folds=[FoldData(0, None, None), FoldData(1, None, None)])
    assert not unknown.data_known
    assert unknown.merge_rate == 1  # they are other images in each fold, whichever they are


def test_levels_of_trials() -> None:
    plan = planned(study={"vary": ["mixup", {"size": [32, 48]}]})
    assert plan.factors == ["mixup", "size"]
    assert plan.trials[2].levels == {"mixup": "off", "size": "48"}


def many(count: int) -> dict[str, Any]:
    rates = [1e-3 * (1 + i / count) for i in range(count)]  # none is the baseline's own
    return {"study": {"vary": [{"phases.three.lr": rates}], "seeds": 1}}


@pytest.mark.parametrize("design", ["levels", "explicit"])
def test_a_thousand_variants_are_quick_and_linear(design: str) -> None:
    def seconds(count: int) -> float:
        changes = many(count)
        if design == "explicit":
            rates = changes["study"].pop("vary")[0]["phases.three.lr"]
            changes["study"]["design"] = [{"set": {"phases.three.lr": rate}} for rate in rates]
        times = []
        for _ in range(2):
            start = time.process_time()
            plan = planned(**changes)
            times.append(time.process_time() - start)
        # one more variant is one more last phase and one more prediction
        assert len(plan.stages) == 2 + 2 * len(plan.trials)
        return min(times)

    short, long = seconds(250), seconds(1000)
    assert long < 5
    assert long < 10 * short  # four times for what is linear, sixteen times for what is not


def test_variants_with_weights_of_their_own_share_nothing(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    weights = [str(tmp_path / "a"), str(tmp_path / "b")]
    varied = Recipe.from_dict(
        {
            "name": "w",
            "model": {"weights": weights[0]},
            "phases": [{"name": "one", "epochs": 1}],
            "study": {"vary": [{"model.weights": weights}], "seeds": 1},
        }
    )
    plan = make_plan(varied, [FoldData(0, "t", "v")], weights_hash="hash of a")
    assert len({trial.fits for trial in plan.trials}) == 2
