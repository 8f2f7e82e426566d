"""Applications: programs that join a data pipeline, a template and a report."""

import os


def _import_backend_quietly() -> None:
    """Import TensorFlow and the backend without their start-up messages, which ignore the log level."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    stderr = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        import keras
        import tensorflow

        tensorflow.config.list_physical_devices()  # the first call prints warnings
        tensorflow.get_logger().setLevel("ERROR")  # no warnings about retracing, which several models cause
    finally:
        os.dup2(stderr, 2)
        os.close(null)
        os.close(stderr)
    # Results don't depend on this machine's keras.json, except for the backend.
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")


_import_backend_quietly()
