"""What makes a class an estimator to scikit-learn: options by name, tags, and its kind of error.

Nothing of scikit-learn is imported: what is its own is taken from where it has been loaded.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from inspect import signature
from typing import Any, Self

from ..ops._layout import NAMES

Options = dict[str, Any]


class Estimator:
    """A class whose `__init__` keeps its options, as they come, under their own names.

    The fields of an option that is a dataclass are options too: `optimizer__lr` is the `lr` of
    `optimizer`.

    >>> from xpcnn import Classifier, models, optim
    >>> net = Classifier(models.classic, optimizer=optim.Adam(0.01))
    >>> net.set_params(optimizer__lr=0.1, seed=3).get_params()["optimizer"].lr
    0.1
    >>> Classifier(models.classic, seed=3)
    Classifier(model=classic, seed=3)

    Source: scikit-learn's BaseEstimator.
    """

    layout: str

    def get_params(self, deep: bool = True) -> Options:
        """The options by name; with `deep`, those within them too."""
        own = {name: getattr(self, name) for name in signature(type(self)).parameters}
        return _with_inner(own) if deep else own

    def set_params(self, **params: Any) -> Self:
        """Set options by name: self. What lies within an option is set in a copy of it.

        Raises ValueError for a name that is none, and what a dataclass raises for a value that it
        does not take; nothing is set then.
        """
        own = self.get_params(deep=False)
        for name, value in _changed("set_params", type(self).__name__, own, params).items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        """With the options that are not as they are by default."""
        told = [
            f"{name}={_shown(getattr(self, name))}"
            for name, option in signature(type(self)).parameters.items()
            if _shown(getattr(self, name)) != _shown(option.default)
        ]
        return f"{type(self).__name__}({', '.join(told)})"

    def __sklearn_tags__(self) -> Any:
        """A classifier of rows, signals, images or volumes, as `layout` says."""
        utils = sys.modules["sklearn.utils"]  # who else would ask?
        return utils.Tags(
            estimator_type="classifier",
            target_tags=utils.TargetTags(required=True),
            classifier_tags=utils.ClassifierTags(),
            input_tags=utils.InputTags(
                two_d_array=self.layout in NAMES[0], three_d_array=self.layout in NAMES[1]
            ),
        )


def not_fitted(message: str) -> ValueError:
    """scikit-learn's NotFittedError, a ValueError, where that is loaded: no one else can name it.

    >>> isinstance(not_fitted("predict: call fit first"), ValueError)
    True
    """
    exceptions = sys.modules.get("sklearn.exceptions")
    return getattr(exceptions, "NotFittedError", ValueError)(message)


def _with_inner(options: Options) -> Options:
    """Options and, as `outer__inner`, the fields of those that are dataclasses."""
    found: Options = {}
    for name, value in options.items():
        inner = _with_inner(_fields(value))
        found |= {name: value, **{f"{name}__{field}": setting for field, setting in inner.items()}}
    return found


def _changed(call: str, owner: str, options: Options, params: Mapping[str, Any]) -> Options:
    """The options of `owner` with `params`: whole ones first, for others may lie within those."""
    new, inner = dict(options), defaultdict[str, Options](dict)
    for name, value in params.items():
        outer, within, field = name.partition("__")
        if outer not in options:
            known = f"give one of {', '.join(options)}" if options else "it has none"
            raise ValueError(f"{call}: {owner} has no option {outer!r}; {known}")
        if within:
            inner[outer][field] = value
        else:
            new[name] = value
    for name, settings in inner.items():
        owner = f"{name}={_shown(new[name])}"
        new[name] = replace(new[name], **_changed(call, owner, _fields(new[name]), settings))
    return new


def _fields(value: Any) -> Options:
    """The options of a dataclass's instance; of anything else none."""
    if not is_dataclass(value) or isinstance(value, type):
        return {}
    return {field.name: getattr(value, field.name) for field in fields(value) if field.init}


def _shown(value: Any) -> str:
    """A function or class by its name, anything else as it prints."""
    return getattr(value, "__qualname__", None) or repr(value)
