"""Copies of models with all their state, on the way of their configs."""

from __future__ import annotations

import inspect
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


def copy_model(model: Any) -> Any:
    """A model of the same layers, names, flags, weights and compilation, which shares no variable with the first.

    Whether XLA compiles it is left to the caller, in its `compile_arguments`.

    Raises
    ------
    ValueError
        If the configs of its parts don't say enough to make them again.
    """
    try:
        copy = _structure(model, {})
        if model.built and not copy.built:
            with weights_scope(copy):  # in which a call builds, too
                copy.build_from_config(model.get_build_config())
            copy.built = True  # Keras builds its layers, but does not say so
        _copy_state(model, copy)
    except UnsupportedKeras:
        raise
    except Exception as error:  # constructors and configs are their authors'
        raise ValueError(
            f"model {model.name!r} ({type(model).__name__}) cannot be copied: change it itself with inplace=True, or "
            f"let what it is made of implement get_config(). The reason: {error}"
        ) from error
    return copy


def _structure(layer: Any, made: dict[int, Any]) -> Any:
    """The layer or model again, with weights of its own; one that is shared is made once."""
    if id(layer) not in made:
        if type(layer) is keras.Sequential:
            copy = _sequential(layer, made)
        elif is_made_from_tensors(layer):
            copy = _functional(layer, made)
        else:
            copy = _from_config(layer)
            if isinstance(layer, keras.Layer):
                _name_parts(layer, copy)
        made[id(layer)] = copy
    return made[id(layer)]


def _sequential(model: Any, made: dict[int, Any]) -> Any:
    layers = [_structure(layer, made) for layer in sequential_layers(model)]
    return keras.Sequential(layers, trainable=model.trainable, name=model.name)


def _functional(model: Any, made: dict[int, Any]) -> Any:
    def again(tensor: Any) -> Any:
        return _structure(operation_of(tensor), made).output

    # clone_model would name the inputs anew, and compile a compiled model, from a config that lacks functions.
    graph = keras.Model(model.input, model.output, name=model.name)
    copy = keras.models.clone_model(
        graph,
        input_tensors=keras.tree.map_structure(again, model.input),
        clone_function=lambda layer: _structure(layer, made),
    )
    return copy if type(model) is type(copy) else type(model)(copy.input, copy.output, name=model.name)


def _from_config(thing: Any) -> Any:
    """The layer, metric or optimizer again. Its own functions need not be registered: they are at hand."""
    functions = {value.__name__: value for value in vars(thing).values() if inspect.isfunction(value)}
    with keras.saving.custom_object_scope(functions):
        if type(thing) is keras.layers.Lambda:
            copy = keras.layers.Lambda.from_config(thing.get_config(), safe_mode=False)
            copy.function = thing.function  # the config's has lost its globals
            return copy
        return type(thing).from_config(thing.get_config())


def _name_parts(layer: Any, copy: Any) -> None:
    """As those that a constructor makes get new names, and are of Keras's classes whatever has become of them since."""
    for old, new in zip(flatten_layers(layer), flatten_layers(copy), strict=False):
        if type(new) is not type(old) and stock_class(type(new)) is stock_class(type(old)):
            change_class(new, type(old))
        if type(new) is type(old) and new.name != old.name:
            new.name = old.name


def _copy_state(model: Any, copy: Any) -> None:
    layers = [flatten_layers(m) for m in (model, copy)]
    if [type(layer) for layer in layers[0]] != [type(layer) for layer in layers[1]]:
        raise ValueError("its config makes other layers")
    shapes = [[(v.shape, v.dtype) for v in m.weights] for m in (model, copy)]
    if shapes[0] != shapes[1]:
        raise ValueError("its config makes other weights")
    for old, new in zip(*layers, strict=True):  # models come before their layers, to which they hand the flag down
        if new.trainable != old.trainable:
            new.trainable = old.trainable
    variables = {}
    for old, new in zip(model.weights, copy.weights, strict=True):
        new.assign(old.value)
        if new.trainable != old.trainable:
            new.trainable = old.trainable
        variables[id(old)] = new
    seeds = [_seeds(m) for m in (model, copy)]
    if len(seeds[0]) == len(seeds[1]):  # not if somebody has switched a Dropout off by its rate
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
        # Not get_compile_config(), which needs every loss function registered. Losses and functions have no state.
        arguments = dict(compile_arguments(model))
        arguments["optimizer"] = _from_config(model.optimizer)
        for kind in ("metrics", "weighted_metrics"):
            arguments[kind] = keras.tree.map_structure(
                lambda metric: _from_config(metric) if isinstance(metric, keras.Metric) else metric, arguments[kind]
            )
        copy.compile(**{**arguments, "jit_compile": False})  # which the caller decides by the layers it chooses
        compile_arguments(copy)["jit_compile"] = arguments["jit_compile"]
    elif type(model).compile_from_config is not keras.Model.compile_from_config:
        copy.compile_from_config(model.get_compile_config())
    else:
        raise ValueError("it has a compile() of its own, but no compile_from_config()")
    if getattr(model, "optimizer", None) is not None:
        _copy_optimizer(model.optimizer, copy.optimizer, variables)


def _copy_optimizer(optimizer: Any, copy: Any, variables: dict[int, Any]) -> None:
    if optimizer.built:
        trained = trained_variables(getattr(optimizer, "inner_optimizer", optimizer))
        if not copy.built:
            copy.build([variables[id(variable)] for variable in trained])
        for old, new in zip(optimizer.variables, copy.variables, strict=True):
            new.assign(old.value)
