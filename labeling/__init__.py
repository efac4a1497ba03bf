"""Label photographs with the help of one's own network; `label.ipynb` drives it."""

from importlib.util import find_spec

if missing := [name for name in ("anywidget", "skimage") if find_spec(name) is None]:
    raise ImportError(
        f"labelling needs {' and '.join(missing)}: `pip install anywidget scikit-image`, and "
        "restart the kernel"
    )
