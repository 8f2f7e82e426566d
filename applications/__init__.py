"""Applications: programs that join a data pipeline, a template and a report."""

import os


def _import_backend_quietly() -> None:
    """Import TensorFlow and the backend: their start-up lines ignore the log level and would bury a program's own."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import keras
        import tensorflow

        tensorflow.config.list_physical_devices()  # the first time it says what it misses
        tensorflow.get_logger().setLevel("ERROR")  # it also warns of retracing, which several models of a run cause
    finally:
        os.dup2(stderr, 2)
        os.close(nowhere)
        os.close(stderr)
    # A run's figures don't depend on what keras.json says on this machine, but for the backend.
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")


_import_backend_quietly()
