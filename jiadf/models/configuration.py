"""What a network is made of: a run's parameters, and the widths that data and backbone tell.

With metadata and images the streams are ``image`` (both images' features concatenated) and
``metadata``; with the images alone, ``clinical`` and ``dermoscopic``; a single modality has one
head, called ``joint``.
"""

from jiadf.config import Parameters

MODALITIES = {"C": "clinical", "D": "dermoscopic", "M": "metadata"}


class NetworkConfig(Parameters):
    """Everything that a network is built from, JI-ADF's or a baseline's."""

    image_features: int = 0
    """Width F of one image's features after its encoder."""
    columns: tuple[str, ...] = ()
    """Names of the encoded metadata's entries; the MONET scores, if any, are the last ones."""
    num_classes: int = 11
    """Classes K."""

    @property
    def spatial(self) -> bool:
        """Whether the image encoders see pixels and can give a feature map."""
        return self.regime == "finetune"

    @property
    def attention_width(self) -> int:
        """Width of all attention heads together, and of a baseline's tokens."""
        return self.num_heads * self.head_dim

    @property
    def monet_features(self) -> int:
        """Count the MONET scores of both images."""
        return sum("MONET" in column for column in self.columns)

    @property
    def image_streams(self) -> tuple[str, ...]:
        """Images that come in; dermoscopic first, as in f_img = [E_d(x_d); E_c(x_c)]."""
        return tuple(MODALITIES[letter] for letter in "DC" if letter in self.modalities)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Modalities that come in, as a batch names them."""
        return (*self.image_streams, *(("metadata",) if "M" in self.modalities else ()))

    @property
    def stream_widths(self) -> dict[str, int]:
        """Feature width of each stream, in the order of the branches."""
        if "M" not in self.modalities:
            return {name: self.image_features for name in sorted(self.image_streams)}
        image = len(self.image_streams) * self.image_features
        return ({"image": image} if image else {}) | {"metadata": self.metadata_width}

    @property
    def branch_names(self) -> tuple[str, ...]:
        """Names of the heads; the joint one is last."""
        streams = tuple(self.stream_widths)
        individual = self.branches == "all" and len(streams) > 1
        return (*streams, "joint") if individual else ("joint",)

    @property
    def effective_decision(self) -> str:
        """The decision in force: with a single modality that of its only head."""
        return self.decision if len(self.modalities) > 1 else "joint"
