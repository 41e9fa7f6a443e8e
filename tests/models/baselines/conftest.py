"""Small designs, made features, and a loss for the baselines' tests."""

import pytest
import torch

from jiadf.data.metadata import MetadataEncoder
from jiadf.models.baselines import BASELINES
from jiadf.models.configuration import NetworkConfig
from jiadf.models.losses import JointIndividualLoss, branch_lambdas

FEATURES, CLASSES = 12, 4
COLUMNS = tuple(MetadataEncoder(True, {}, {}).columns)


def draw_metadata(size: int, seed: int = 0) -> torch.Tensor:
    """Metadata vectors as the encoder makes them: one category a field, standardised numbers."""
    generator = torch.Generator().manual_seed(seed)
    metadata = torch.randn(size, len(COLUMNS), generator=generator)
    groups: dict[str, list[int]] = {}
    for place, column in enumerate(COLUMNS):
        if column.endswith("_missing"):
            metadata[:, place] = 0.0
        elif "=" in column:
            groups.setdefault(column.split("=")[0], []).append(place)
    for places in groups.values():
        metadata[:, places] = 0.0
        chosen = torch.randint(len(places), (size,), generator=generator)
        metadata[torch.arange(size), torch.tensor(places)[chosen]] = 1.0
    return metadata


@pytest.fixture(scope="session")
def columns() -> tuple[str, ...]:
    """Names of the encoded metadata's entries."""
    return COLUMNS


@pytest.fixture(scope="session")
def made_metadata():
    """Function that draws metadata of so many lesions."""
    return draw_metadata


@pytest.fixture(scope="session")
def config() -> NetworkConfig:
    return NetworkConfig(
        image_features=FEATURES,
        columns=COLUMNS,
        num_classes=CLASSES,
        metadata_width=10,
        num_heads=2,
        head_dim=4,
        joint_width=14,
        dropout=0.0,
    )


@pytest.fixture
def make(config):
    """Make a method's network over features, seeded."""

    def build(name: str):
        torch.manual_seed(0)
        encoders = {image: torch.nn.Identity() for image in ("clinical", "dermoscopic")}
        return BASELINES[name](config, encoders)

    return build


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    size = 9
    images = {name: torch.randn(size, FEATURES) for name in ("clinical", "dermoscopic")}
    return images | {"metadata": draw_metadata(size), "target": torch.arange(size) % CLASSES}


@pytest.fixture
def loss():
    """Compute the loss and its terms, as the training loop does."""

    def compute(network, batch):
        criterion = JointIndividualLoss(branch_lambdas(network.branch_names), num_classes=CLASSES)
        return criterion(network(batch), batch["target"])

    return compute
