from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.data.looks import Looks, Seen

share = st.floats(0, 1)
triple = st.tuples(share, share, share)
side = st.integers(1, 1 << 20)
seen = st.builds(Seen, st.binary(min_size=16, max_size=16).map(bytes.hex), side, side, triple, triple)
bad = st.builds(lambda one, why: Seen(one.hash, error=why), seen, st.text(min_size=1))
lists = st.lists(st.one_of(st.none(), seen, bad), max_size=20)


@given(lists)
def test_what_is_put_in_comes_out(given: list[Seen | None]):
    looks = Looks.of(given)
    assert list(looks) == given
    assert looks == given
    assert looks[::2] == given[::2]
    assert looks.known.tolist() == [one is not None for one in given]
    assert looks.usable.tolist() == [one is not None and not one.error for one in given]
    assert list(looks.hashes()) == [one.hash if one else "0" * 32 for one in given]
    assert [bytes(content).hex() for content in looks.contents] == list(looks.hashes())
    with pytest.raises(IndexError):
        looks[len(given)]


@given(lists, st.data())
def test_some_of_them_are_what_they_were(given: list[Seen | None], choice: st.DataObject):
    positions = choice.draw(st.lists(st.integers(0, len(given) - 1), max_size=30)) if given else []
    taken = Looks.of(given).take(np.array(positions, dtype=np.int64))
    assert taken == [given[position] for position in positions]


@given(lists)
def test_sizes_are_counted(given: list[Seen | None]):
    sizes, counts = Looks.of(given).sizes()
    repeated = [size for size, count in zip(sizes, counts, strict=True) for _ in range(count)]
    assert sorted(repeated) == sorted((one.width, one.height) for one in given if one and not one.error)
    assert len(set(sizes)) == len(sizes)


def test_what_is_put_in_again_replaces_what_was_there():
    looks = Looks.of([Seen("00" * 16, error="cut off"), None])
    looks.put(0, mended := Seen("11" * 16, 3, 4))
    assert looks == [mended, None]
    assert looks.usable.tolist() == [True, False]
