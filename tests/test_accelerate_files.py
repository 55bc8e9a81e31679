"""Files of accelerated and restored models load where they should, with the same outputs and weights."""

from __future__ import annotations

from pathlib import Path

import fastconv.keras as fk
import keras_models
import numpy as np
import pytest
from keras_models import assert_same
from processes import run_python
from stock_models import data, functional, sequential

fresh = keras_models.fresh  # before each test


@pytest.mark.slow
def test_a_restored_model_loads_without_fastconv(tmp_path: Path) -> None:
    """One process accelerates and trains, one restores, and one has no fastconv: all give the same outputs."""
    model = sequential()
    model.compile("adam", "mse", metrics=["mae"])
    x, y = data(model)
    fast = fk.accelerate(model)
    fast.fit(x, y, verbose=0)
    fast.save(tmp_path / "fast.keras")
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", fast.predict(x, verbose=0))
    run_python(
        """
        import sys
        import fastconv.keras
        import keras, numpy as np
        where = sys.argv[1]
        model = keras.models.load_model(where + "/fast.keras")
        assert type(model.layers[0]) is fastconv.keras.Conv2D
        x, y = (np.load(f"{where}/{name}.npy") for name in "xy")
        assert np.array_equal(model.predict(x, verbose=0), y)
        stock = fastconv.keras.restore(model)
        assert int(stock.optimizer.iterations.numpy()) == 1
        stock.save(where + "/stock.keras")
        """,
        str(tmp_path),
    )
    run_python(
        """
        import sys
        sys.modules["fastconv"] = None  # importing fastconv fails from here on
        import keras, numpy as np
        try:
            import fastconv
        except ImportError:
            pass
        else:
            raise AssertionError("fastconv is here")
        where = sys.argv[1]
        model = keras.models.load_model(where + "/stock.keras")
        x, y = (np.load(f"{where}/{name}.npy") for name in "xy")
        assert np.allclose(model.predict(x, verbose=0), y, rtol=1e-5, atol=1e-5)
        assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)
        assert int(model.optimizer.iterations.numpy()) == 1
        model.fit(x, y, verbose=0)
        try:
            keras.models.load_model(where + "/fast.keras")
        except Exception as error:
            assert "Conv2D" in str(error), error
        else:
            raise AssertionError("a file that needs fastconv was loaded without fastconv")
        """,
        str(tmp_path),
    )


def test_weight_files_are_interchangeable(tmp_path: Path) -> None:
    model = functional()
    fast = fk.accelerate(model)
    for source, target in ((model, fast), (fast, model)):
        source.set_weights([w + 1 for w in source.get_weights()])
        source.save_weights(tmp_path / "model.weights.h5")
        target.load_weights(tmp_path / "model.weights.h5")
        assert_same(source.get_weights(), target.get_weights())
