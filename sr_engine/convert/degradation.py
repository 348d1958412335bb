"""The real-world degradation: the parameters have the names of Real-ESRGAN in every framework."""

from sr_engine.config.yaml12 import Value
from sr_engine.convert.rules import Is, No, Off, Same, Table, To, apply_table
from sr_engine.convert.translation import Translation
from sr_engine.convert.values import Convert, NoEqualError, number, numbers

PLACE = "datasets.train.degradation"
_SHARE = number(0.0, 1.0 + 1e-9)
_KERNELS = ("iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso")


def _kernels(value: Value) -> list[str]:
    if isinstance(value, list) and value and all(item in _KERNELS for item in value):
        return value
    raise NoEqualError(f"kinds of kernels are {', '.join(_KERNELS)}")


# Of each round: in the second the names end in 2.
_ROUND: dict[str, Convert] = {
    "kernel_list": _kernels,
    "kernel_prob": numbers(most=1.0),
    "sinc_prob": _SHARE,
    "blur_sigma": numbers(2),
    "betag_range": numbers(2),
    "betap_range": numbers(2),
    "resize_prob": numbers(3, 1.0),
    "resize_range": numbers(2),
    "gaussian_noise_prob": _SHARE,
    "noise_range": numbers(2),
    "poisson_scale_range": numbers(2),
    "gray_noise_prob": _SHARE,
    "jpeg_range": numbers(2),
}
_IN_DATASET = ("kernel_list", "kernel_prob", "sinc_prob", "blur_sigma", "betag_range", "betap_range")
_SIZES = Is((21,), "kernels have 7 to 21 pixels", "not read there: kernels have 7 to 21 pixels, as here")
_MODES = "area, bilinear and bicubic at random here"
# What traiNNer-redux takes for a key that a file leaves out.
_TRAINNER_DEFAULTS: dict[str, Value] = {
    "sinc_prob": 0.0,
    "blur_sigma": [0.2, 2.0],
    "resize_range": [0.4, 1.5],
    "gaussian_noise_prob": 0.0,
    "noise_range": [0.0, 0.0],
    "poisson_scale_range": [0.0, 0.0],
    "gray_noise_prob": 0.0,
    "jpeg_range": [75.0, 95.0],
    "sinc_prob2": 0.0,
    "blur_sigma2": [0.2, 1.0],
    "second_blur_prob": 0.0,
    "resize_range2": [0.6, 1.2],
    "gaussian_noise_prob2": 0.0,
    "noise_range2": [0.0, 0.0],
    "poisson_scale_range2": [0.0, 0.0],
    "gray_noise_prob2": 0.0,
    "jpeg_range2": [75.0, 95.0],
    "final_sinc_prob": 0.0,
}
UNUSED = No("without on-the-fly degradation it is not read")


def real_world(t: Translation, section: str | None = None) -> None:
    """Translate the degradation of a training set whose low-resolution pictures are made on the fly.

    Args:
        section: where all parameters stand; None is Real-ESRGAN's split between the top level and the data set.
    """
    t.out["datasets"]["train"]["degradation"] = {"type": "real_world"}
    for name, place in _places(section).items():
        apply_table(t, {place: To(f"{PLACE}.{name}", _convert(name))})
    for name in ("blur_kernel_size", "blur_kernel_size2"):
        apply_table(t, {f"{section or 'datasets.train'}.{name}": _SIZES})


def trainner_extras(t: Translation) -> None:
    """The parameters that only traiNNer-redux has, and its defaults."""
    train = "datasets.train."
    table: Table = {
        "blur_prob": Is((1, 1.0), "the first blur is always applied", "the first blur is always applied here"),
        "blur_prob2": To(f"{PLACE}.second_blur_prob", _SHARE),
        "jpeg_prob": Is((1, 1.0), "JPEG is always applied", "JPEG is always applied here"),
        "jpeg_prob2": Is((1, 1.0), "JPEG is always applied", "JPEG is always applied here"),
        "lq_usm": Off("there is no sharpening of low-resolution pictures"),
        "lq_usm_radius_range": No("there is no sharpening of low-resolution pictures"),
        "thicklines_prob": Off("there is no such degradation"),
        "dataroot_lq_prob": Off("a data set is made on the fly or ready-made, not both"),
        **{f"resize_mode_{what}{n}": No(_MODES) for what in ("list", "prob") for n in ("", "2", "3")},
        **{f"{train}kernel_range{n}": Is(([7, 21],), "kernels have 7 to 21 pixels", _RANGE) for n in ("", "2")},
        f"{train}final_kernel_range": Is(([7, 21],), "kernels have 7 to 21 pixels", _RANGE),
    }
    apply_table(t, {f"{train}blur_kernel_size{n}": Same("not read there: kernel_range is") for n in ("", "2")})
    real_world(t)
    apply_table(t, table)
    for name, value in _TRAINNER_DEFAULTS.items():
        t.put(f"{PLACE}.{name}", value, "the default of traiNNer-redux")


_RANGE = "kernels have 7 to 21 pixels here (blur_kernel_size and blur_kernel_size2 set the largest)"


def _places(section: str | None) -> dict[str, str]:
    """Name here -> path in the option file."""
    places = {}
    for base in _ROUND:
        for name in (base, base + "2"):
            where = section or ("datasets.train" if base in _IN_DATASET else "")
            places[name] = f"{where}.{name}" if where else name
    places["second_blur_prob"] = f"{section}.second_blur_prob" if section else "second_blur_prob"
    places["final_sinc_prob"] = f"{section or 'datasets.train'}.final_sinc_prob"
    return places


def _convert(name: str) -> Convert:
    return _ROUND.get(name.removesuffix("2"), _SHARE)
