"""A small network, a folder of small pictures, and configurations that train the one on the other in a second."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from rich.console import Console
from torch import Tensor, nn

import sr_engine.train  # noqa: F401  registers what configurations name
from sr_engine.config import registry
from sr_engine.config.load import parse_config
from sr_engine.config.schema import Config
from sr_engine.models.files import save_model
from sr_engine.models.generator import Generator
from sr_engine.models.spec import ModelSpec

MakeConfig = Callable[..., Config]


class Plain(nn.Module):
    """Two convolutions over nearest-neighbour enlargement, with a dropout that draws from torch's generator."""

    def __init__(self, *, scale: int, width: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.scale = scale
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Conv2d(width, 3 * scale**2, 3, padding=1)
        arguments = {"scale": scale, "width": width, "dropout": dropout}
        self.spec = ModelSpec("test_plain", arguments, scale, receptive_field=2)

    @property
    def last_layer(self) -> Tensor:
        return self.last.weight

    def forward(self, x: Tensor) -> Tensor:
        base = F.interpolate(x.float(), scale_factor=self.scale, mode="nearest")
        return base + F.pixel_shuffle(self.last(self.dropout(F.relu(self.first(x)))), self.scale).float()


if "test_plain" not in registry.names("network_g"):
    registry.register("network_g", "test_plain")(Plain)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Convolutions this small lose more time in waking a second thread than it saves, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five smooth random pictures of 72x80 pixels."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for index in range(5):
        noise = Image.fromarray(rng.integers(0, 256, (9, 10, 3), np.uint8))
        noise.resize((80, 72), Image.Resampling.BICUBIC).save(folder / f"picture{index}.png")
    return folder


BASE = """
name: tiny
scale: 2
network_g: {{type: test_plain}}
datasets:
  train: {{type: folder, path: "{pictures}"}}
  val: {{type: folder, path: "{pictures}"}}
losses:
  pixel: {{type: charbonnier}}
training: {{total_iter: 12, batch_size: 4, patch_size: 12, validate_every: 100, checkpoint_every: 100, precision: fp32}}
validation: {{save_images: 1}}
logging: {{print_every: 4, tensorboard: false}}
"""

GAN = (
    "network_d={type: patchgan, width: 4}",
    "losses.gan={loss_weight: {start_iter: 4, final_weight: 0.1, ramp: linear}}",
    "losses.feature_matching={loss_weight: {start_iter: 2, final_weight: 1.0, ramp: cosine, ramp_iters: 4}}",
)


@pytest.fixture
def make_config(pictures: Path) -> MakeConfig:
    """`make_config("training.total_iter=6", ...)`: the small configuration with overrides."""

    def make(*overrides: str, gan: bool = False) -> Config:
        return parse_config(BASE.format(pictures=pictures), overrides=[*(GAN if gan else ()), *overrides])

    return make


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a nano network of scale 2 that is far from its classical upsampler, and not symmetric."""
    torch.manual_seed(7)
    net = Generator(scale=2, preset="nano", width=16, stages=2)
    nn.init.normal_(net.tail.weight, std=0.05)
    path = tmp_path_factory.mktemp("models") / "wise.safetensors"
    save_model(path, net, licence="CC0-1.0")
    return path


@pytest.fixture
def quiet() -> Console:
    """A console that shows nothing, so that only files are looked at."""
    return Console(quiet=True)
