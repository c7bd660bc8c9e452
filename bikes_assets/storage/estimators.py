"""The closed list of types for the files of scikit-learn estimators, derived by rule from the installed scikit-learn.

The content of a file never adds to it. The list holds

- scikit-learn's public estimators, and the classes of scikit-learn that their modules define or import, and so on from
  those: trees, losses, kernels, distances. Left out are the packages in `_LEFT_OUT`, whose classes fetch, call or only
  report.
- functions of numbers alone: the ufuncs of NumPy and SciPy, scikit-learn's metrics and scores of features, and what an
  estimator has as a default. No other function: one that fits or reads files could be used by a forged file.
- the few names in `_BESIDE`, which no rule finds.
- what the caller names: estimators of other packages.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, cached_property
from typing import Any, TypeAlias, overload

from bikes_assets.core.errors import ModelError

Named: TypeAlias = "str | Callable[..., Any]"
"""A class or function, or its dotted name as people import it: `sklearn.linear_model.Ridge`."""

_LEFT_OUT = (
    "sklearn.callback.",
    "sklearn.datasets.",
    "sklearn.exceptions.",
    "sklearn.externals.",
    "sklearn.metrics._pairwise_distances_reduction.",
    "sklearn.tree._criterion.",
    "sklearn.tree._splitter.",
    "sklearn.utils.",
)
_BESIDE = (
    "functools.partial",
    "numpy.dtype",
    "scipy._lib.array_api_compat.numpy._aliases.asarray",  # a part of each BSpline
    "scipy.interpolate._bsplines.BSpline",
    "sklearn.cluster._kmeans._kmeans_single_elkan",
    "sklearn.cluster._kmeans._kmeans_single_lloyd",
    "sklearn.utils._bunch.Bunch",
    "sklearn.utils._metadata_requests.MetadataRequest",
    "sklearn.utils._metadata_requests.MethodMetadataRequest",
    "sklearn.utils.validation.check_array",
    *(
        f"scipy.sparse._{form}.{form}_{kind}"
        for form in ("bsr", "coo", "csc", "csr", "dia")
        for kind in ("array", "matrix")
    ),
)
_FUNCTIONS = ("sklearn.feature_selection", "sklearn.metrics", "sklearn.metrics.pairwise")
_UFUNCS = ("numpy", "scipy.special")


class EstimatorTypes(Sequence[str]):
    """The closed list for any estimator of scikit-learn and for named ones of other packages; derived at first use.

    Args:
        others: estimators of other packages, and functions that estimators were given; scikit-learn's need no naming.
    """

    def __init__(self, *others: Named) -> None:
        self.others = others

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(sorted({*_of_scikit_learn(), *map(_dotted, self.others)}))

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self._names)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return self._names[index]

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.others))})"


@cache
def _of_scikit_learn() -> frozenset[str]:
    from sklearn.utils.discovery import all_estimators

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecated modules and attributes
        estimators = [estimator for _, estimator in all_estimators()]
        classes = _reached(estimators)
        functions = {*_defaults(estimators), *_public(_FUNCTIONS, _is_of_numbers)}
        ufuncs = set(_ufuncs())
    return frozenset({*map(_name, classes), *map(_name, functions), *ufuncs, *_BESIDE})


def _reached(estimators: Iterable[type]) -> set[type]:
    """Return estimators and, transitively, all classes of scikit-learn that their modules define or import."""
    waiting, found = [*estimators], set[type]()
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        found.add(one)
        homes = {base.__module__ for base in one.__mro__ if base.__module__.startswith("sklearn.")}
        waiting += [value for home in homes for value in list(vars(sys.modules[home]).values()) if _is_part(value)]
    return found


def _is_part(value: object) -> bool:
    return (
        isinstance(value, type)
        and value.__module__.startswith("sklearn.")
        and not f"{value.__module__}.".startswith(_LEFT_OUT)
        and not issubclass(value, BaseException)
    )


def _defaults(estimators: Iterable[type]) -> Iterator[Any]:
    for estimator in estimators:
        for parameter in inspect.signature(estimator).parameters.values():
            if inspect.isroutine(parameter.default):
                yield parameter.default


def _public(modules: Iterable[str], is_wanted: Callable[[Any], bool]) -> Iterator[Any]:
    for name in modules:
        module = importlib.import_module(name)
        yield from (
            value for item, value in list(vars(module).items()) if not item.startswith("_") and is_wanted(value)
        )


def _is_of_numbers(value: Any) -> bool:
    packages = ("sklearn.feature_selection.", "sklearn.metrics.")
    return (
        inspect.isfunction(value)
        and value.__module__.startswith(packages)
        and value.__module__ != "sklearn.metrics._scorer"  # those make what calls a model
    )


def _ufuncs() -> Iterator[str]:
    """Yield each ufunc under the names that skops can use: where it is public, and the first module that has it."""
    import numpy as np
    from skops.io._utils import get_module

    for module in _UFUNCS:
        for ufunc in _public([module], lambda value: isinstance(value, np.ufunc)):
            yield from (f"{module}.{ufunc.__name__}", f"{get_module(ufunc)}.{ufunc.__name__}")


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _dotted(named: Named) -> str:
    """Return the name that a file gives to a class or function, which is that of the module that defines it.

    Raises:
        ModelError: there is none of that name.
    """
    value = named if callable(named) else _imported(named)
    if value.__module__ == "__main__":
        raise ModelError(
            f"{value.__qualname__}: found a class or function of the script itself, expected one of a module, as whoever "
            "reads the model can import it; move it to a file beside the script"
        )
    return _name(value)


def _imported(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelError(
            f"found no {name!r} ({error}), expected a class by its dotted name, such as 'lightgbm.LGBMRegressor'"
        ) from None
