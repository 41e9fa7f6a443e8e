"""VEMFL of Restrepo et al. (2024): frozen embeddings, their gap closed, a light classifier.

Every modality is a frozen vector of unit length in one space; the metadata is a sentence. The means
of images and text differ (the modality gap). Both are shifted towards each other by a share of the
gap and put back on the sphere, then concatenated and classified by a small MLP: early fusion.
Nothing but that MLP is trained, hence the `frozen` regime only.

Source: Restrepo et al., medRxiv 2024.06.03.24308401 (arXiv:2406.02601). Read: the abstract and two
summaries; the public repository dsrestrepo/Embedding-Alignment, which belongs to a follow-up.

Simplifications:

- Embeddings are the run's image backbone's, not those of a foundation model.
- The sentence's embedding is a fixed random vector a word, which knows nothing of meaning.
- The shorter embedding is padded with zeros to the longer one's width. The gap is that of the
  training lesions, and is closed in full (the source tries several shares).
- The source's late fusion is not built.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from jiadf.data.batches import Inputs
from jiadf.models.baselines.base import IMAGES, Baseline
from jiadf.models.baselines.fields import MetadataText
from jiadf.models.configuration import NetworkConfig
from jiadf.models.network import NetworkOutput


class VEMFL(Baseline):
    """See the module's docstring."""

    def __init__(self, config: NetworkConfig, image_encoders: Mapping[str, nn.Module]) -> None:
        super().__init__(config, image_encoders)
        self.space = 2 * config.image_features
        self.text = MetadataText(config.columns)
        text_width = min(self.space, 2 * config.joint_width)
        generator = torch.Generator().manual_seed(0)
        shape = (self.text.length, len(self.text.words), text_width)  # a vector a position and word
        words = torch.randn(shape, generator=generator)
        self.register_buffer("words", words, persistent=False)
        self.register_buffer("gap", torch.zeros(self.space))
        self.classifier = nn.Sequential(
            nn.Linear(2 * self.space, config.joint_width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.joint_width, config.num_classes),
        )

    def embed(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the unit embeddings of images and text before alignment, (B, space) each."""
        pooled, _ = self.encode(batch)
        image = torch.cat(list(pooled.values()), dim=-1)
        numbers = self.text(batch["metadata"])  # (B, L)
        places = torch.arange(numbers.shape[1], device=numbers.device)
        text = self.words[places, numbers].mean(dim=1)
        text = functional.pad(text, (0, self.space - text.shape[-1]))
        return functional.normalize(image, dim=-1), functional.normalize(text, dim=-1)

    @torch.no_grad()
    def fit(self, inputs: Inputs, train_rows: Tensor) -> None:
        """Measure the modality gap: mean of the images less mean of the text, training lesions."""
        rows = train_rows.numpy()
        batch = {name: torch.from_numpy(inputs.streams[name][rows, 0]) for name in IMAGES}
        image, text = self.embed(batch | {"metadata": torch.from_numpy(inputs.metadata[rows])})
        self.gap.copy_(image.mean(dim=0) - text.mean(dim=0))

    def align(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Close the gap: shift both halfway, and back to unit length."""
        aligned = (image - self.gap / 2, text + self.gap / 2)
        return tuple(functional.normalize(embedding, dim=-1) for embedding in aligned)

    def forward(self, batch: Mapping[str, Tensor]) -> NetworkOutput:
        """Run the method."""
        joined = torch.cat(self.align(*self.embed(batch)), dim=-1)
        # Entries of a unit vector are small; sqrt of the width puts them at the scale of one.
        return self.single_head(self.classifier(self.dropout(joined * self.space**0.5)))
