"""ALBEF, as Adebiyi et al. (2025) took it to skin lesions: align image and text, then fuse them.

The metadata is a sentence. A first stage aligns the two encoders: an image-text contrastive loss
against a queue of earlier pairs, whose keys and soft targets come from momentum copies, and a
matching loss on hard negatives, which trains the fusion encoder too. A second stage trains the
classifier on the fusion encoder's ``[CLS]``, with everything below it. Text tokens are the fusion
encoder's queries, image tokens its context.

Source: Li et al., *Align before fuse*, NeurIPS 2021, with its public code (salesforce/ALBEF).
Adebiyi et al., medRxiv 2024.05.30.24308213: read were its first page and a cleaned code sample of
one author, which states itself that it is no ALBEF.

Simplifications:

- No pretraining on image-text pairs of the web, on which the source rests: the first third of the
  epochs aligns the training lesions' own. Masked language modelling is left out.
- The image encoder is the run's backbone under one block of attention to both images' tokens, the
  text encoder one block over a closed vocabulary (:mod:`.fields`), the fusion encoder one layer;
  the source has ViT-B and BERT.
- The momentum copy covers everything above the backbone, and follows faster (0.98 for 0.995): the
  stage has hundreds of steps, not hundreds of thousands.
- While aligning, the classifier learns on detached features; those epochs are never kept.
- Equal sentences, common in a closed vocabulary, count as each other's positives.
"""

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from jiadf.models.baselines.base import IMAGES, Baseline, Block, ImageTokens, classifier
from jiadf.models.baselines.fields import MetadataText
from jiadf.models.configuration import NetworkConfig
from jiadf.models.network import NetworkOutput

ALIGN_SHARE = 1 / 3  # of the epochs
QUEUE = 512  # pairs
MOMENTUM = 0.98
SOFT = 0.4  # weight of the momentum copies' soft targets
TEMPERATURE = 0.07
EMBEDDING = 64


class ImageSide(nn.Module):
    """Image tokens of both images under one block of attention, and their unit embedding."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.tokens = nn.ModuleDict({name: ImageTokens(config) for name in IMAGES})
        self.cls = nn.Parameter(0.02 * torch.randn(config.attention_width))
        self.block = Block(config)
        self.project = nn.Linear(config.attention_width, EMBEDDING)

    def forward(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Map each image's (B, n, F) to tokens (B, N, width) and an embedding (B, E)."""
        parts = [self.tokens[name](value) for name, value in features.items()]
        first = self.cls.expand(len(parts[0]), 1, -1)
        tokens = self.block(torch.cat([first, *parts], dim=1))
        return tokens, functional.normalize(self.project(tokens[:, 0]), dim=-1)


class TextEncoder(nn.Module):
    """A small transformer over word numbers, (B, L) -> (B, L, width); position 0 is ``[CLS]``."""

    def __init__(self, vocabulary: int, length: int, config: NetworkConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, config.attention_width)
        self.places = nn.Parameter(0.02 * torch.randn(length, config.attention_width))
        self.blocks = nn.Sequential(Block(config))

    def forward(self, numbers: Tensor) -> Tensor:
        """Encode sentences."""
        return self.blocks(self.words(numbers) + self.places)


class TextSide(nn.Module):
    """Text tokens of a sentence, and their unit embedding."""

    def __init__(self, vocabulary: int, length: int, config: NetworkConfig) -> None:
        super().__init__()
        self.encoder = TextEncoder(vocabulary, length, config)
        self.project = nn.Linear(config.attention_width, EMBEDDING)

    def forward(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, L) to tokens (B, L, width) and an embedding (B, E)."""
        tokens = self.encoder(numbers)
        return tokens, functional.normalize(self.project(tokens[:, 0]), dim=-1)


def contrastive_loss(query: Tensor, keys: Tensor, positives: Tensor) -> Tensor:
    """Return the cross-entropy of similarities, (B, E) to (M, E), against positives (B, M)."""
    return functional.cross_entropy(query @ keys.mT / TEMPERATURE, positives)


class ALBEF(Baseline):
    """See the module's docstring."""

    def __init__(self, config: NetworkConfig, image_encoders: Mapping[str, nn.Module]) -> None:
        super().__init__(config, image_encoders)
        self.text = MetadataText(config.columns)
        length = self.text.length
        self.image_side = ImageSide(config)
        self.text_side = TextSide(len(self.text.words), length, config)
        self.image_momentum = copy.deepcopy(self.image_side).requires_grad_(False)
        self.text_momentum = copy.deepcopy(self.text_side).requires_grad_(False)
        # One layer: attention to the text, then to the image.
        self.fusion = nn.ModuleList([Block(config), Block(config)])
        self.matching = nn.Linear(config.attention_width, 2)
        self.classifier = classifier(config.attention_width, config)
        self.register_buffer("image_queue", torch.zeros(QUEUE, EMBEDDING))
        self.register_buffer("text_queue", torch.zeros(QUEUE, EMBEDDING))
        self.register_buffer("sentence_queue", torch.full((QUEUE, length), -1))
        self.register_buffer("queued", torch.zeros((), dtype=torch.int64))  # pairs, ever
        self.aligning = False

    def begin_epoch(self, epoch: int, epochs: int) -> bool:
        """Align in the first third of the epochs, at least one of two or more; then classify."""
        self.aligning = epoch <= min(math.ceil(ALIGN_SHARE * epochs), epochs - 1)
        return not self.aligning

    def fuse(self, text: Tensor, image: Tensor) -> Tensor:
        """Return the fusion encoder's ``[CLS]``, (B, width): its only query, as only it is read."""
        to_text, to_image = self.fusion
        return to_image(to_text(text[:, :1], text), image)[:, 0]

    def forward(self, batch: Mapping[str, Tensor]) -> NetworkOutput:
        """Run the method; while aligning, ``auxiliary`` holds the two losses of that stage."""
        _, tokens = self.encode(batch)
        features = {name: self.dropout(value) for name, value in tokens.items()}
        numbers = self.text(batch["metadata"])
        image, image_embedding = self.image_side(features)
        text, text_embedding = self.text_side(numbers)
        fused = self.fuse(text, image)
        if not (self.training and self.aligning):
            return self.single_head(self.classifier(fused))
        self.update_momentum()
        with torch.no_grad():
            similar = (image_embedding @ text_embedding.mT / TEMPERATURE).float()
        auxiliary = {
            "contrastive": self.contrast(features, numbers, image_embedding, text_embedding),
            "matching": self.match(text, image, fused, numbers, similar),
        }
        return self.single_head(self.classifier(fused.detach()), auxiliary=auxiliary)

    @torch.no_grad()
    def update_momentum(self) -> None:
        """Move the momentum copies a little towards what is trained."""
        online = [*self.image_side.parameters(), *self.text_side.parameters()]
        slow = [*self.image_momentum.parameters(), *self.text_momentum.parameters()]
        for new, old in zip(online, slow, strict=True):
            old.lerp_(new, 1 - MOMENTUM)

    def contrast(
        self, features: Mapping[str, Tensor], numbers: Tensor, image: Tensor, text: Tensor
    ) -> Tensor:
        """Return the contrastive loss of both directions, and put the batch into the queue."""
        with torch.no_grad():
            _, image_key = self.image_momentum({k: v.detach() for k, v in features.items()})
            _, text_key = self.text_momentum(numbers)
            filled = int(self.queued.clamp(max=QUEUE))
            image_keys = torch.cat([image_key, self.image_queue[:filled]])
            text_keys = torch.cat([text_key, self.text_queue[:filled]])
            sentences = torch.cat([numbers, self.sentence_queue[:filled]])
            same = (numbers.unsqueeze(1) == sentences).all(dim=-1).to(image_key.dtype)  # (B, M)
            hard = same / same.sum(dim=-1, keepdim=True)
            soft_image = (image_key @ text_keys.mT / TEMPERATURE).softmax(dim=-1)
            soft_text = (text_key @ image_keys.mT / TEMPERATURE).softmax(dim=-1)
        loss = contrastive_loss(image, text_keys, SOFT * soft_image + (1 - SOFT) * hard)
        loss = loss + contrastive_loss(text, image_keys, SOFT * soft_text + (1 - SOFT) * hard)
        self.enqueue(image_key, text_key, numbers)
        return loss / 2

    @torch.no_grad()
    def enqueue(self, image_key: Tensor, text_key: Tensor, numbers: Tensor) -> None:
        """Put pairs into the queue over the oldest."""
        places = (self.queued + torch.arange(len(numbers), device=numbers.device)) % QUEUE
        self.image_queue[places], self.text_queue[places] = image_key.float(), text_key.float()
        self.sentence_queue[places] = numbers
        self.queued += len(numbers)

    def match(
        self, text: Tensor, image: Tensor, fused: Tensor, numbers: Tensor, similar: Tensor
    ) -> Tensor:
        """Return the loss of telling pairs from hard negatives: similar, but another sentence."""
        same = (numbers.unsqueeze(1) == numbers).all(dim=-1)  # (B, B)
        rows = (~same.all(dim=-1)).nonzero().squeeze(1)  # lesions with a negative in the batch
        if not len(rows):
            return fused.sum() * 0.0
        masked = similar.masked_fill(same, -torch.inf)
        text_of = torch.multinomial(masked[rows].softmax(dim=-1), 1).squeeze(1)
        image_of = torch.multinomial(masked.mT[rows].softmax(dim=-1), 1).squeeze(1)
        wrong_text = self.fuse(text[text_of], image[rows])
        wrong_image = self.fuse(text[rows], image[image_of])
        logits = self.matching(torch.cat([fused, wrong_text, wrong_image]))
        paired = torch.arange(len(logits), device=logits.device) < len(fused)
        return functional.cross_entropy(logits, paired.long())
