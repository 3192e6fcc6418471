"""State as files: what comes back is what went in, type by type and bit by bit."""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastai.torch_core import TensorBase, TensorImage
from fastcore.foundation import L
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablate import sealed
from ablate.errors import Damaged
from ablate.training.state import load_state, plain, save_state

DTYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int8,
    torch.uint8,
    torch.bool,
)
SHAPES = ((), (0,), (3,), (2, 0), (2, 1, 2))
NUMPY = (np.float64, np.float32, np.float16, np.int64, np.int32, np.uint8, np.bool_)


def make_tensor(dtype: torch.dtype, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Arbitrary bits; of floats too, not-a-number and infinities included."""
    if dtype is torch.bool:
        return torch.randint(2, shape, generator=torch.Generator().manual_seed(seed)).bool()
    size = torch.empty((), dtype=dtype).element_size()
    count = int(np.prod(shape, dtype=int))
    data = np.random.default_rng(seed).bytes(max(count, 1) * size)
    return torch.frombuffer(bytearray(data), dtype=dtype)[:count].reshape(shape).clone()


tensors = st.builds(make_tensor, st.sampled_from(DTYPES), st.sampled_from(SHAPES), st.integers(0, 2**32 - 1))
numpy_scalars = st.builds(lambda kind, value: kind(value), st.sampled_from(NUMPY), st.integers(0, 100)) | (
    st.floats().map(np.float64) | st.floats(width=32).map(np.float32)
)
plain_values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
keys = st.text(alphabet="ab.0'", max_size=3) | st.integers(-2, 2) | st.booleans() | st.none()
keys |= st.tuples(st.sampled_from("ab"), st.integers(0, 2))
states = st.recursive(
    plain_values | numpy_scalars | tensors,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Equality that tells types, signs of zero and kinds of not-a-number apart."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        bits = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other)]
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(*bits)
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            same(a, b) and same(one[a], other[b]) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, float | np.floating):
        return repr(one) == repr(other)
    return bool(one == other)


@pytest.fixture
def round_trip(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], Any]:
    def through_files(state: Any) -> Any:
        folder = tmp_path_factory.mktemp("state")
        save_state(state, folder, "callbacks")
        sealed.seal(folder)
        return load_state(folder, "callbacks")

    return through_files


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(state=states)
def test_any_nest_of_values_comes_back(round_trip, state: Any):
    assert same(round_trip(state), state)


@given(state=states)
def test_the_same_state_is_the_same_bytes_even_after_a_round_trip(tmp_path_factory, state: Any):
    """Whether a run was interrupted cannot be seen from its files."""
    first, second = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
    save_state(state, first, "optimizer")
    sealed.seal(first)
    save_state(load_state(first, "optimizer"), second, "optimizer")
    for name in ("optimizer.json", "optimizer.safetensors"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_kind_of_tensor_comes_back(round_trip, dtype: torch.dtype, shape: tuple[int, ...]):
    tensor = make_tensor(dtype, shape, 1)
    assert same(round_trip({"a": [tensor]}), {"a": [tensor]})


def test_paths_that_look_alike_keep_their_tensors_apart(round_trip):
    state = {"a": {"b": torch.tensor(1)}, "a.b": torch.tensor(2), 1: torch.tensor(3), "1": torch.tensor(4)}
    state |= {"c": [torch.tensor(5)], "c.0": torch.tensor(6), "c.0'": torch.tensor(7)}
    assert same(round_trip(state), state)


def test_tensors_that_share_memory_come_back_apart(round_trip):
    whole = torch.arange(6.0)
    state = {"whole": whole, "again": whole, "part": whole[2:4], "turned": whole.view(2, 3).T}
    back = round_trip(state)
    assert same(back, state)
    back["whole"].zero_()
    assert same(back["part"], whole[2:4])


def test_fastais_own_types_become_plain(round_trip):
    image = TensorImage(torch.arange(4.0))
    back = round_trip({"hypers": L({"lr": np.float64(0.1), "image": image}), "nested": L(L(image), (1,))})
    expected = {"lr": np.float64(0.1), "image": torch.arange(4.0)}
    assert same(back, {"hypers": [expected], "nested": [[torch.arange(4.0)], (1,)]})
    assert type(plain(TensorBase(torch.ones(2)))) is torch.Tensor


def test_gradients_are_left_behind(round_trip):
    weight = torch.nn.Parameter(torch.ones(2))
    assert same(round_trip([weight, weight * 2]), [torch.ones(2), 2 * torch.ones(2)])


def test_dicts_of_any_make_come_back_as_dicts_in_order(round_trip):
    assert list(round_trip(OrderedDict(b=1, a=2))) == ["b", "a"]


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        frozenset("a"),
        b"bytes",
        deque([1]),
        np.arange(3),
        np.array(1.0),
        1 + 2j,
        np.complex64(1),
        np.longdouble(1),
        np.datetime64("2020-01-01"),
        range(3),
        iter([1]),
        torch.float32,
        Path("a"),
        test_dicts_of_any_make_come_back_as_dicts_in_order,
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("nest", [lambda v: v, lambda v: [0, {"deep": (v,)}]], ids=["bare", "nested"])
def test_what_would_not_come_back_is_refused(tmp_path: Path, value: Any, nest: Callable[[Any], Any]):
    with pytest.raises(TypeError, match="cannot be kept; give tensors, numbers or text") as caught:
        save_state(nest(value), tmp_path, "callbacks")
    assert type(value).__name__ in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "key",
    [torch.tensor(1), object(), b"key", ("a", torch.tensor(1)), ("a", b"b")],
    ids=["tensor", "object", "bytes", "tensor in a tuple", "bytes in a tuple"],
)
def test_keys_that_would_not_come_back_are_refused(tmp_path: Path, key: Any):
    with pytest.raises(TypeError, match="cannot be kept"):
        save_state({"a": {key: 1}}, tmp_path, "callbacks")


def test_the_refusal_says_where(tmp_path: Path):
    with pytest.raises(TypeError, match=r"^callbacks\.own\.0\.best: a set cannot be kept"):
        save_state({"own": [{"best": {1}}]}, tmp_path, "callbacks")


def test_files_are_json_and_safetensors(tmp_path: Path):
    save_state({"step": 3, "average": torch.ones(2)}, tmp_path, "optimizer")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["optimizer.json", "optimizer.safetensors"]
    assert json.loads((tmp_path / "optimizer.json").read_text()) == {
        "dict": [["step", 3], ["average", {"tensor": "optimizer.average"}]]
    }


@pytest.mark.parametrize("name", ["optimizer.json", "optimizer.safetensors"])
def test_state_that_has_changed_since_is_not_read(tmp_path: Path, name: str):
    save_state({"average": torch.ones(2)}, tmp_path, "optimizer")
    with pytest.raises(Damaged):
        load_state(tmp_path, "optimizer")  # not sealed
    sealed.seal(tmp_path)
    data = bytearray((tmp_path / name).read_bytes())
    data[-1] ^= 1
    (tmp_path / name).write_bytes(bytes(data))
    with pytest.raises(Damaged):
        load_state(tmp_path, "optimizer")
