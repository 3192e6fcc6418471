"""ablate.recipe.load: YAML 1.2, extends, environment variables, overrides, and the place of every value."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablate.errors import RecipeError
from ablate.recipe.load import Document, parse_overrides, read_document, set_value

Write = Callable[..., Path]
Told = Callable[..., str]


def test_yaml_is_1_2(write: Write) -> None:
    values = read_document(
        write("a: 1e-3\nb: [on, off, no, yes, y]\nc: true\nd: 010\ne: 1_000\nf: 1:30\n")
    ).values
    assert values["a"] == 0.001
    assert values["b"] == ["on", "off", "no", "yes", "y"]
    assert values["c"] is True
    assert (values["d"], values["f"]) == (10, "1:30")


def test_values_are_plain(write: Write) -> None:
    values = read_document(write("date: 2024-01-02\nbase: &b {x: 1}\ncopy: {<<: *b, y: 2}\n")).values
    assert values["date"] == "2024-01-02"
    assert values["copy"] == {"x": 1, "y": 2}
    kinds = {type(value) for value in [*values.values(), *values["phases"], *values["phases"][0].values()]}
    assert kinds <= {dict, list, str, int, bool}


def test_places(write: Write) -> None:
    document = read_document(write("techniques:\n  mixup:\n    alpha: 1\n    phases:\n      - tune\n"))
    lines = {
        ("name",): 1,
        ("phases",): 3,
        ("phases", 1, "epochs"): 5,
        ("techniques", "mixup", "alpha"): 8,
        ("techniques", "mixup", "phases", 0): 10,
        ("techniques", "mixup", "nowhere", "at", "all"): 7,
        ("nowhere",): 1,
    }
    assert {location: document.place(location).line for location in lines} == lines


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "name: a\nphases: [\n",
            "r.yaml:3: this is not valid YAML: expected the node content, but found the end of the file.",
        ),
        (
            "name: a\n\tsize: 3\n",
            "r.yaml:2: this is not valid YAML: a line starts with a tab; indent with spaces.",
        ),
        ("name: a\nname: b\n", 'r.yaml:2: this is not valid YAML: found duplicate key "name" with value "b"'),
        ("a: 1\n---\nb: 2\n", "r.yaml:2: this is not valid YAML: found another document."),
        ("a: *b\n", "r.yaml:1: this is not valid YAML: found undefined alias 'b'."),
        ('size: !!int "x"\n', "r.yaml: this is not valid YAML: a value does not fit its !!tag."),
        ("", "r.yaml: is empty; `ablate init` writes a recipe to start from."),
        ("# nothing\n", "r.yaml: is empty; `ablate init` writes a recipe to start from."),
        ("- a\n", "r.yaml:1: a recipe is a mapping (name: …, phases: …), but this is a list."),
        (
            "hello\n",
            "r.yaml:1: a recipe is a mapping (name: …, phases: …), but this is the single value 'hello'.",
        ),
    ],
)
def test_what_is_no_recipe(told: Told, text: str, sentence: str) -> None:
    said = told(whole=text)
    assert said.startswith(sentence)
    assert "\n" not in said


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "photo.yaml"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00")
    with pytest.raises(RecipeError, match=r"photo.yaml: this is not valid YAML: it is not text in UTF-8\.$"):
        read_document(path)


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is a directory; name a recipe file"):
        read_document(tmp_path)


def test_a_missing_recipe_names_those_that_are_there(write: Write, tmp_path: Path) -> None:
    write(name="there.yaml")
    with pytest.raises(RecipeError, match=r"nix.yaml: no such recipe. There are: \S*there.yaml\."):
        read_document(tmp_path / "nix.yaml")
    with pytest.raises(RecipeError, match=r"no such recipe. `ablate init` writes one"):
        read_document(tmp_path / "no" / "nix.yaml")


def test_nothing_is_run_by_a_tag(write: Write, tmp_path: Path) -> None:
    document = read_document(write(f"x: !!python/object/apply:os.mkdir [{tmp_path}/made]\n"))
    assert document.values["x"] == [f"{tmp_path}/made"]
    assert not (tmp_path / "made").exists()


class TestExtends:
    def test_mappings_merge_and_lists_are_replaced(self, write: Write) -> None:
        write("model: {arch: a, pretrained: true}\nstudy: {vary: [mixup, tta]}\n", name="base.yaml")
        path = write(whole="extends: base.yaml\nname: b\nmodel:\n  arch: b\nstudy: {vary: [cutmix]}\n")
        document = read_document(path)
        assert "extends" not in document.values
        assert document.values["name"] == "b"
        assert document.values["model"] == {"arch": "b", "pretrained": True}
        assert document.values["study"] == {"vary": ["cutmix"]}
        assert len(document.values["phases"]) == 2

    def test_places_are_those_of_the_file_that_says_it(self, write: Write) -> None:
        write("study: {vary: [mixup, {model.arch: [a, b]}]}\n", name="base.yaml")
        path = write(whole="extends: base.yaml\nsize: 3\nstudy:\n  vary:\n    - tta\n    - {tta: [off]}\n")
        document = read_document(path)
        where = {location: Path(document.place(location).file).name for location in [("size",), ("name",)]}
        assert where == {("size",): "r.yaml", ("name",): "base.yaml"}
        # nothing of the base's list is left, where the list was replaced
        assert str(document.place(("study", "vary", 1, "model.arch"))) == f"{path}:6"

    def test_a_chain_relative_to_each_file(self, write: Write, tmp_path: Path) -> None:
        (tmp_path / "sub").mkdir()
        write("batch_size: 8\n", name="sub/first.yaml")
        write(whole="extends: first.yaml\nbatch_size: 16\n", name="sub/second.yaml")
        document = read_document(write(whole="extends: sub/second.yaml\nsize: 16\n"))
        assert (document.values["size"], document.values["batch_size"]) == (16, 16)

    def test_loops(self, write: Write, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match=r"r.yaml:1: extends r.yaml, itself; remove this line"):
            read_document(write(whole="extends: r.yaml\n"))
        write(whole="name: b\nextends: r.yaml\n", name="b.yaml")
        with pytest.raises(RecipeError, match=r"b.yaml:2: extends r.yaml, which leads back here; remove"):
            read_document(write(whole="extends: b.yaml\n"))

    @pytest.mark.parametrize("given", ["[a.yaml]", "", "3"])
    def test_wrong_types(self, told: Told, given: str) -> None:
        assert told(f"extends: {given}\n") == "r.yaml:6: extends needs the path of one other recipe."

    def test_missing(self, told: Told, tmp_path: Path) -> None:
        assert told("extends: nix.yaml\n") == "r.yaml:6: extends nix.yaml, but there is no file nix.yaml."

    def test_environment(
        self, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Told
    ) -> None:
        write("batch_size: 8\n", name="base.yaml")
        assert "r.yaml:1: the environment variable BASES is not set" in told(
            whole="extends: ${BASES}/base.yaml\n"
        )
        monkeypatch.setenv("BASES", str(tmp_path))
        assert read_document(write(whole="extends: ${BASES}/base.yaml\n")).values["batch_size"] == 8


class TestEnvironment:
    def test_unset(self, told: Told) -> None:
        assert told("data:\n  root: ${NIX_DATA}/photos\n") == (
            "r.yaml:7: the environment variable NIX_DATA is not set; set it, as in `export NIX_DATA=…`, "
            "or give it a default here: ${NIX_DATA:-…}."
        )

    @pytest.mark.parametrize(
        ("text", "variable", "value"),
        [
            ("${X:-5}", None, 5),
            ("${X:-5}", "7", 7),
            ("${X:-5}", "", 5),
            ("${X}", "1e-3", 0.001),
            ("${X}", "[1e-6, 1e-4]", [1e-6, 1e-4]),
            ("${X}", "off", "off"),
            ("${X}", "[1", "[1"),
            ("${X}", "a: b", "a: b"),
            ("${X:-}", None, ""),
            ("v${X}", "7", "v7"),
            ("${X}-${X}", "7", "7-7"),
            ("$X", "7", "$X"),
        ],
    )
    def test_values(
        self, write: Write, monkeypatch: pytest.MonkeyPatch, text: str, variable: str | None, value: Any
    ) -> None:
        monkeypatch.delenv("X", raising=False)
        if variable is not None:
            monkeypatch.setenv("X", variable)
        assert read_document(write(f"x: '{text}'\n")).values["x"] == value

    def test_paths_stay_text_and_are_absolute(
        self, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("X", "2024")
        data = read_document(
            write("data: {root: '${X}', table: '${X}'}\nmodel: {weights: w/a.safetensors}\n")
        ).values
        assert data["data"] == {"root": f"{os.getcwd()}/2024", "table": "2024"}
        assert data["model"]["weights"] == f"{os.getcwd()}/w/a.safetensors"

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("{root: 's3://b/x', shards: a.tar}", {"root": "s3://b/x", "shards": "a.tar"}),
            ("{root: x, shards: [a.tar]}", {"root": "{here}/x", "shards": ["a.tar"]}),
            ("{shards: 'x/a-{0..1}.tar'}", {"shards": "{here}/x/a-{0..1}.tar"}),
            (
                "{shards: [a.tar, 'gs://b/a.tar', /c.tar]}",
                {"shards": ["{here}/a.tar", "gs://b/a.tar", "/c.tar"]},
            ),
            ("{shards: '${X}'}", {"shards": "{here}/2024"}),
        ],
    )
    def test_shards_are_under_the_root_or_absolute_and_urls_stay(
        self,
        given: str,
        expected: dict[str, object],
        write: Write,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("X", "2024")
        data = read_document(write(f"data: {given}\n")).values["data"]
        assert str(data) == str(expected).replace("{here}", os.getcwd())


class TestOverrides:
    def test_parse(self) -> None:
        given = ["a.b=1e-3", "c=[1, x]", "d=", "e=a=b", "f={g: off}", " h = 3"]
        assert parse_overrides(given) == {
            "a.b": 0.001,
            "c": [1, "x"],
            "d": "",
            "e": "a=b",
            "f": {"g": "off"},
            "h": 3,
        }

    @pytest.mark.parametrize("given", ["a", "=3", " =3"])
    def test_no_assignment(self, given: str) -> None:
        with pytest.raises(
            RecipeError, match=r"write it as NAME=VALUE, for example --set model.arch=resnet34"
        ):
            parse_overrides([given])

    @pytest.mark.parametrize("given", ["a=[", "a=*x", 'a=!!int "x"', "a={b"])
    def test_no_yaml(self, given: str) -> None:
        with pytest.raises(RecipeError, match=r"^--set a=.* is not a YAML value"):
            parse_overrides([given])

    @pytest.mark.parametrize(
        ("name", "location"),
        [
            ("phases.head.lr", ("phases", 0, "lr")),
            ("phases.1.lr", ("phases", 1, "lr")),
            ("model.arch", ("model", "arch")),
            ("empty.new", ("empty", "new")),
            ("deep.er.and.deeper", ("deep", "er", "and", "deeper")),
            ("phases", ("phases",)),
        ],
    )
    def test_set(self, name: str, location: tuple[Any, ...]) -> None:
        document = Document({"phases": [{"name": "head"}, {"name": "tune"}], "empty": None})
        set_value(document, name, 9)
        node: Any = document.values
        for part in location:
            node = node[part]
        assert node == 9
        assert str(document.place(location)) == f"--set {name}=9"

    @pytest.mark.parametrize(
        ("name", "sentence"),
        [
            ("phases.hed.lr", "phases has no 'hed'; it has head, tune."),
            ("phases.9.lr", "phases has no '9'; it has head, tune."),
            ("phases.².lr", "phases has no '²'; it has head, tune."),
            ("list.3", "list has no '3'; it has 0 to 1."),
            ("none.0", "none has no '0'; it has no items."),
            ("name.x", "name is a single value, so there is no name.x."),
            ("a..b", "'a..b' is no name; write it like model.arch or phases.head.lr."),
            (".", "'.' is no name; write it like model.arch or phases.head.lr."),
        ],
    )
    def test_names_that_lead_nowhere(self, name: str, sentence: str) -> None:
        document = Document(
            {"phases": [{"name": "head"}, {"name": "tune"}], "name": "x", "list": [1, 2], "none": []}
        )
        with pytest.raises(RecipeError) as caught:
            set_value(document, name, 9)
        assert str(caught.value) == f"--set {name}=9: {sentence}"

    def test_a_replaced_mapping_leaves_no_places(self, write: Write) -> None:
        document = read_document(write("model:\n  arch: a\n"), {"model": {"arch": "b"}})
        assert str(document.place(("model", "arch"))) == "--set model={'arch': 'b'}"
