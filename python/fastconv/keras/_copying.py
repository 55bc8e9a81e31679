"""Copies models, with all their state, from their configs."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import keras

from fastconv.keras._classes import change_class, stock_class
from fastconv.keras._keras_internals import (
    UnsupportedKeras,
    compile_arguments,
    flatten_layers,
    is_made_from_tensors,
    operation_of,
    sequential_layers,
    trained_variables,
    weights_scope,
)

_LONGEST_REASON = 120  # characters quoted from an error that is not fastconv's


class _CannotCopy(Exception):
    """Why a model cannot be copied, and what the user can do about it. Neither text ends with a full stop."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


def copy_model(model: Any, alternative: str = "") -> Any:
    """A model with the same layers, names, flags, weights and compilation. It shares no variable with `model`.

    The caller decides whether XLA compiles the copy, through the copy's `compile_arguments`. `alternative` tells the
    user what to do if `model` cannot be copied.

    Raises
    ------
    ValueError
        If the config of a part is not enough to create it again.
    """
    try:
        copies = _Copies()
        copy = copies.of(model)
        if model.built and not copy.built:
            _build(model, copy)
        copies.check(model, copy)
        _copy_state(model, copy)
    except UnsupportedKeras:
        raise
    except Exception as error:  # a user's constructor or config can raise anything
        cause = error if isinstance(error, _CannotCopy) else _CannotCopy(_shortened(error))
        title = _title(model)
        advice = ", or ".join(filter(None, (cause.remedy, alternative)))
        advice = f". {advice[0].upper()}{advice[1:]}" if advice else ""
        raise ValueError(f"{title} cannot be copied: {_with_pronouns(cause.reason, title)}{advice}") from error
    return copy


def _with_pronouns(reason: str, title: str) -> str:
    """The reason, with pronouns for the model. In the message, the reason follows the model's title."""
    reason = reason.removeprefix(f"{title}: ").replace(f"the config of {title}", "its config")
    return reason.replace(title, "it").removesuffix(".")


class _Copies:
    """Copies of layers and models, with weights of their own. A shared layer is copied once."""

    def __init__(self) -> None:
        self.made: dict[int, Any] = {}
        self.by_config: list[tuple[Any, Any]] = []

    def of(self, layer: Any) -> Any:
        if id(layer) not in self.made:
            if type(layer) is keras.Sequential:
                copy = self._sequential(layer)
            elif type(layer) is keras.layers.TimeDistributed:
                copy = self._time_distributed(layer)
            elif is_made_from_tensors(layer):
                copy = self._functional(layer)
            else:
                copy = _from_config(layer)
                if isinstance(layer, keras.Layer):
                    _name_parts(layer, copy)
                    self.by_config.append((layer, copy))
            self.made[id(layer)] = copy
        return self.made[id(layer)]

    def _sequential(self, model: Any) -> Any:
        layers = [self.of(layer) for layer in sequential_layers(model)]
        return keras.Sequential(layers, trainable=model.trainable, name=model.name)

    def _time_distributed(self, layer: Any) -> Any:
        return keras.layers.TimeDistributed(
            self.of(layer.layer), trainable=layer.trainable, dtype=layer.dtype_policy, name=layer.name
        )

    def _functional(self, model: Any) -> Any:
        # clone_model would rename the inputs of `model`. If `model` is compiled, clone_model would also compile the
        # copy, from a config without functions.
        graph = keras.Model(model.input, model.output, name=model.name)
        copy = keras.models.clone_model(
            graph,
            input_tensors=keras.tree.map_structure(lambda tensor: self.of(operation_of(tensor)).output, model.input),
            clone_function=self.of,
        )
        return copy if type(model) is type(copy) else type(model)(copy.input, copy.output, name=model.name)

    def check(self, model: Any, copy: Any) -> None:
        """Raise `_CannotCopy` unless `model` and `copy` have the same layers and weights."""
        if _classes(model) == _classes(copy) and _shapes(model) == _shapes(copy):
            return
        holders: dict[int, str] = {}
        for layer, _ in self.by_config:
            for part in flatten_layers(layer, include_self=False):
                other = "by the model itself" if id(part) in self.made else holders.get(id(part))
                if other:
                    held = f"{_title(part)} is held by {layer.name!r} and {other}"
                    raise _CannotCopy(f"{held}, so the copy would have it twice")
                holders[id(part)] = repr(layer.name)
        for layer, other in self.by_config:
            for kind, alike in (("layers", _classes), ("weights", _shapes)):
                if alike(layer) != alike(other):
                    raise _CannotCopy(f"the config of {_title(layer)} creates different {kind}", "correct get_config()")
        raise _CannotCopy("its config creates different layers or weights", "correct get_config()")


def _classes(layer: Any) -> list[type]:
    return [type(part) for part in flatten_layers(layer)]


def _shapes(layer: Any) -> list[tuple[Any, str]]:
    return [(variable.shape, variable.dtype) for variable in layer.weights]


def _title(layer: Any) -> str:
    kind = "model" if isinstance(layer, keras.Model) else "layer" if isinstance(layer, keras.Layer) else "object"
    return f"{kind} {layer.name!r} ({type(layer).__name__})"


def _shortened(error: Exception) -> str:
    """The first line of an error, without the config that Keras puts in front."""
    lines = str(error).rpartition("Exception encountered: ")[2].strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."


def _build(model: Any, copy: Any) -> None:
    with weights_scope(copy), warnings.catch_warnings():  # as in a call that builds the model
        warnings.filterwarnings("ignore", message="Model .* had a build config, but the model cannot be built")
        copy.build_from_config(model.get_build_config())
    copy.built = True  # Keras builds the layers of the model, but does not set this
    if any(old.built and not new.built for old, new in zip(*map(flatten_layers, (model, copy)), strict=False)):
        raise _CannotCopy("Keras cannot build it from the shapes of its inputs", "implement build_from_config()")


def _from_config(thing: Any) -> Any:
    """A copy of a layer, metric or optimizer. Functions in its attributes need not be registered with Keras."""
    functions = {name: value for name, value in vars(thing).items() if inspect.isfunction(value)}
    scope = keras.saving.custom_object_scope({value.__name__: value for value in functions.values()})
    try:
        with scope, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The object being serialized includes a `lambda`")
            config = thing.get_config()
            if type(thing) is keras.layers.Lambda:
                copy = keras.layers.Lambda.from_config(config, safe_mode=False)
                copy.function = thing.function  # the function from the config has lost its globals
                return copy
            config.update({name: value for name, value in functions.items() if name in config and _is_lambda(value)})
            return type(thing).from_config(config)
    except NotImplementedError as error:
        raise _CannotCopy(f"{_title(thing)} has no get_config() of its own", "implement it") from error
    except Exception as error:  # a user's constructor or config can raise anything
        inside = _lambda_inside(thing)
        remedy = "use a function with a name" if inside else ""
        raise _CannotCopy(f"{_title(thing)}: {inside or _shortened(error)}", remedy) from error


def _is_lambda(value: Any) -> bool:
    return inspect.isfunction(value) and value.__name__ == "<lambda>"


def _lambda_inside(thing: Any) -> str | None:
    """Where an inner layer of `thing` holds a lambda. The config of `thing` contains those of its inner layers."""
    for part in flatten_layers(thing, include_self=False) if isinstance(thing, keras.Layer) else ():
        for name, value in vars(part).items():
            if _is_lambda(value):
                return f"the {name} of its layer {part.name!r} is a lambda"
    return None


def _name_parts(layer: Any, copy: Any) -> None:
    """Give the inner layers of a copy the names and classes of the original ones. A constructor may choose others."""
    for old, new in zip(flatten_layers(layer), flatten_layers(copy), strict=False):
        if type(new) is not type(old) and stock_class(type(new)) is stock_class(type(old)):
            change_class(new, type(old))
        if type(new) is type(old) and new.name != old.name:
            new.name = old.name


def _copy_state(model: Any, copy: Any) -> None:
    layers = [flatten_layers(m) for m in (model, copy)]
    for old, new in zip(*layers, strict=True):  # models come first, because they pass the flag on to their layers
        if new.trainable != old.trainable:
            new.trainable = old.trainable
    variables = {}
    for old, new in zip(model.weights, copy.weights, strict=True):
        new.assign(old.value)
        if new.trainable != old.trainable:
            new.trainable = old.trainable
        variables[id(old)] = new
    seeds = [_seeds(m) for m in (model, copy)]
    if len(seeds[0]) == len(seeds[1]):  # differs if the rate of a Dropout was set to 0 after its creation
        for old, new in zip(*seeds, strict=True):
            new.assign(old.value)
    for old, new in zip(*layers, strict=True):
        if isinstance(old, keras.Model) and old.compiled:
            _compile(old, new, variables)


def _seeds(model: Any) -> list[Any]:
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def _compile(model: Any, copy: Any, variables: dict[int, Any]) -> None:
    if type(model).compile is keras.Model.compile:
        # get_compile_config() would need every loss function registered. Losses and functions have no state.
        arguments = dict(compile_arguments(model))
        arguments["optimizer"] = _from_config(model.optimizer)
        for kind in ("metrics", "weighted_metrics"):
            arguments[kind] = keras.tree.map_structure(
                lambda metric: _from_config(metric) if isinstance(metric, keras.Metric) else metric, arguments[kind]
            )
        copy.compile(**{**arguments, "jit_compile": False})  # the caller decides about XLA later
        compile_arguments(copy)["jit_compile"] = arguments["jit_compile"]
    elif type(model).compile_from_config is not keras.Model.compile_from_config:
        copy.compile_from_config(model.get_compile_config())
    else:
        raise _CannotCopy(
            f"{_title(model)} overrides compile(), but not compile_from_config()", "implement compile_from_config()"
        )
    if getattr(model, "optimizer", None) is not None:
        _copy_optimizer(model.optimizer, copy.optimizer, variables)


def _copy_optimizer(optimizer: Any, copy: Any, variables: dict[int, Any]) -> None:
    if optimizer.built:
        trained = trained_variables(getattr(optimizer, "inner_optimizer", optimizer))
        if not copy.built:
            copy.build([variables[id(variable)] for variable in trained])
        for old, new in zip(optimizer.variables, copy.variables, strict=True):
            new.assign(old.value)
