"""Two import roots in one distribution: `sr_engine` beside this file and `sr_kernels` under `kernels/`.

`kernels/` itself is no package: a top-level package of that name would overwrite a public one, and a
`package_dir` mapping onto `sr_engine.kernels` breaks in regular installs.
"""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["sr_engine", "sr_engine.*"]),
        *find_packages(where="kernels", include=["sr_kernels", "sr_kernels.*"]),
    ],
    package_dir={"sr_kernels": "kernels/sr_kernels"},
    include_package_data=False,  # weights/ holds data only: the default would take it for a package that was forgotten
    package_data={"sr_engine": ["py.typed", "weights/*.safetensors", "infer/compare.html"], "sr_kernels": ["py.typed"]},
)
