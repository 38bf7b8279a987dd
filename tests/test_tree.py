"""Parameter trees: names, order, and what tells two trees apart."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpcnn.layers import tree

NAMES = st.text("ab1_", min_size=1, max_size=3)
TREES = st.recursive(
    st.dictionaries(NAMES, st.integers(), min_size=1),
    lambda nodes: st.dictionaries(NAMES, nodes | st.integers(), min_size=1, max_size=4),
    max_leaves=8,
)

MODEL = {
    "2": {"weight": 1, "bias": 2, "running_mean": 3, "running_var": 4},
    "10": {"body": {"0": {"weight": 5}}},
    "running_mean": {"weight": 6},  # a layer of that name is no buffer
}


def test_flatten_keeps_the_order_of_the_model():
    assert list(tree.flatten(MODEL)) == [
        "2.weight",
        "2.bias",
        "2.running_mean",
        "2.running_var",
        "10.body.0.weight",
        "running_mean.weight",
    ]


@given(TREES)
def test_unflatten_inverts_flatten(nested):
    assert tree.unflatten(tree.flatten(nested)) == nested


def test_empty_dicts_are_dropped():
    assert tree.flatten({}) == tree.flatten({"1": {}}) == tree.unflatten({}) == {}
    assert tree.map(abs, {"0": {"weight": -1}, "1": {}}) == {"0": {"weight": 1}}


def test_leaves_are_the_arrays_themselves():
    weight = np.zeros(3)
    nested = {"0": {"weight": weight}}
    assert tree.leaves(nested)[0] is weight
    assert tree.unflatten(tree.flatten(nested))["0"]["weight"] is weight


@given(TREES)
def test_leaves_come_alike_in_any_order_of_the_dicts(nested):
    def backwards(node):
        return {k: backwards(node[k]) for k in reversed(node)} if isinstance(node, dict) else node

    assert tree.leaves(backwards(nested)) == tree.leaves(nested)


def test_map_matches_by_name_and_changes_nothing():
    first, second = {"2": 1, "10": {"a": 2}}, {"10": {"a": 20}, "2": 10}
    kept = copy.deepcopy((first, second))
    assert tree.map(lambda x, y: x + y, first, second) == {"2": 11, "10": {"a": 22}}
    assert list(tree.map(lambda x, y: x, first, second)) == ["2", "10"]
    assert (first, second) == kept


def test_map_takes_any_number_of_trees():
    assert tree.map(lambda x: -x, {"a": 1}) == {"a": -1}
    assert tree.map(lambda *x: sum(x), {"a": 1}, {"a": 2}, {"a": 3}) == {"a": 6}


@given(TREES)
def test_merge_inverts_partition(nested):
    assert tree.merge(*tree.partition(nested)) == nested


def test_partition_parts_by_the_last_name():
    weights, buffers = tree.partition(MODEL)
    assert buffers == {"2": {"running_mean": 3, "running_var": 4}}
    assert tree.leaves(weights) == [5, 2, 1, 6]
    assert tree.merge(weights, buffers) == MODEL
    assert list(tree.flatten(tree.merge(weights, buffers))) == list(tree.flatten(MODEL))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: tree.flatten({"a.b": 1}), "flatten: 'a.b' is no name; use a string without a dot"),
        (lambda: tree.flatten({0: 1}), "flatten: 0 is no name; use a string without a dot"),
        (lambda: tree.flatten({"": 1}), "flatten: '' is no name; use a string without a dot"),
        (
            lambda: tree.unflatten({"a": 1, "a.b": 2}),
            "unflatten: 'a.b' lies below the name of an array",
        ),
        (
            lambda: tree.unflatten({"a.b": 2, "a": 1}),
            "unflatten: 'a' names an array and a layer",
        ),
        (
            lambda: tree.map(max, {"0": {"bias": 1}}, {"0": {"bias": 1}}, {"0": {}}),
            "map: tree 3 lacks '0.bias', which tree 1 holds",
        ),
        (
            lambda: tree.map(max, {"0": 1}, {"0": 1, "2": 1, "1": 1, "3": 1}),
            "map: tree 2 holds '1' and 2 more, which tree 1 lacks",
        ),
        (
            lambda: tree.map(max, {"0": 1}, {"0": {"weight": 1}}),
            "map: tree 2 lacks '0', which tree 1 holds",
        ),
        (
            lambda: tree.merge({"0": {"w": 1}}, {"0": {"w": 1}}),
            "merge: both trees hold '0.w'; a name may be in one alone",
        ),
    ],
)
def test_bad_trees_are_named(call, message):
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value) == message


def test_a_list_is_no_tree():
    with pytest.raises(TypeError) as caught:
        tree.partition([1])
    right = "flatten: a tree is a dict of arrays and such dicts; this is a list"
    assert str(caught.value) == right
