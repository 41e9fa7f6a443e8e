"""The defining mechanism of each method does what its source says."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from jiadf.models.baselines import albef
from jiadf.models.baselines.base import Attention, Block
from jiadf.models.baselines.fields import MetadataText, fields_of


def inputs_of(batch):
    """Arrays of all lesions, as the training loop hands them to ``fit``."""
    streams = {n: batch[n].unsqueeze(1).numpy() for n in ("clinical", "dermoscopic")}
    return SimpleNamespace(
        streams=streams, metadata=batch["metadata"].numpy(), target=batch["target"].numpy()
    )


def test_attention_against_a_slow_transcription():
    torch.manual_seed(0)
    attention = Attention(6, 2)
    tokens, context = torch.randn(2, 3, 6), torch.randn(2, 4, 6)
    mixed = attention(tokens, context)
    query = attention.query(tokens)
    key, value = attention.key_value(context).chunk(2, dim=-1)
    for b in range(2):
        rows = []
        for n in range(3):
            heads = []
            for h in range(2):
                part = slice(3 * h, 3 * h + 3)
                scores = [query[b, n, part] @ key[b, m, part] / 3**0.5 for m in range(4)]
                share = torch.stack(scores).softmax(0)
                heads.append(share @ value[b, :, part])
            rows.append(attention.out(torch.cat(heads)))
        torch.testing.assert_close(torch.stack(rows), mixed[b])


def test_a_block_reads_its_context_and_nothing_else(config):
    torch.manual_seed(0)
    block = Block(config).eval()
    tokens, context = torch.randn(1, 3, 8), torch.randn(1, 5, 8)
    before = block(tokens, context)
    changed = context.clone()
    changed[0, 4] = torch.randn(8)
    assert not torch.allclose(block(tokens, changed), before)
    moved = context[:, [4, 3, 2, 1, 0]]
    torch.testing.assert_close(block(tokens, moved), before)  # a set, not a sequence


# --- metadata as fields and as text -------------------------------------------------------------


def test_fields_group_the_columns(columns):
    fields = fields_of(columns)
    assert list(fields)[:4] == ["age", "sex", "site", "skin_tone_class"]
    assert [columns[i] for i in fields["sex"]] == ["sex=female", "sex=male"]
    assert "site_missing" in [columns[i] for i in fields["site"]]
    assert sorted(i for part in fields.values() for i in part) == list(range(len(columns)))
    assert len(fields) == 4 + 14


def test_metadata_reads_as_a_sentence(columns):
    metadata = torch.zeros(1, len(columns))
    for column, value in {"age": 1.0, "sex=male": 1.0, "site=hand": 1.0}.items():
        metadata[0, columns.index(column)] = value
    text = MetadataText(columns)

    def words():
        return [text.words[number] for number in text(metadata)[0]]

    assert words() == ["[CLS]", "high", "male", "hand", "unknown", *14 * ["average"]]
    metadata[0, columns.index("age")] = -9.0
    assert words()[1] == "lowest"
    metadata[0, columns.index("age_missing")] = 1.0
    assert words()[1] == "unknown"


# --- VEMFL --------------------------------------------------------------------------------------


def test_vemfl_embeds_words_alike_in_every_run_and_tells_sentences_apart(make, made_metadata):
    torch.manual_seed(5)
    first = make("vemfl")
    torch.manual_seed(6)
    assert torch.equal(first.words, make("vemfl").words)
    assert "words" not in first.state_dict()
    features = torch.ones(8, first.config.image_features)
    batch = {"clinical": features, "dermoscopic": features, "metadata": made_metadata(8)}
    text = first.embed(batch)[1]
    assert (torch.cdist(text, text) + torch.eye(8)).min() > 1e-3


def test_vemfl_closes_the_modality_gap(make, made_metadata):
    batch = {
        "clinical": torch.randn(60, 12) + 1.0,
        "dermoscopic": torch.randn(60, 12),
        "metadata": made_metadata(60),
        "target": torch.zeros(60, dtype=torch.int64),
    }
    network = make("vemfl").eval()
    network.fit(inputs_of(batch), torch.arange(60))
    image, text = network.embed(batch)
    gap = (image.mean(0) - text.mean(0)).norm()
    torch.testing.assert_close(network.gap.norm(), gap)
    aligned_image, aligned_text = network.align(image, text)
    assert (aligned_image.mean(0) - aligned_text.mean(0)).norm() < 0.3 * gap
    torch.testing.assert_close(aligned_image.norm(dim=-1), torch.ones(60))


def test_vemfl_trains_its_classifier_alone(make):
    names = {name.split(".")[0] for name, _ in make("vemfl").named_parameters()}
    assert names == {"classifier"}


# --- CAFFM and SkinM2Former ---------------------------------------------------------------------


def test_caffm_mixes_the_modalities(make, batch):
    """What metadata does to the decision depends on the image: more than a sum of two parts."""
    network = make("caffm").eval()
    other = {key: value.flip(0) for key, value in batch.items()}
    here, there = (
        (batch | {"metadata": other["metadata"]}),
        (other | {"metadata": batch["metadata"]}),
    )
    logits = [network(b).logits["joint"] for b in (batch, here, there, other)]
    assert (logits[0] - logits[1] - logits[2] + logits[3]).abs().max() > 1e-4


@pytest.mark.parametrize("changed", ["clinical", "dermoscopic", "metadata"])
def test_skinm2former_hears_every_modality_in_every_other(changed, make, batch):
    network = make("skinm2former").eval()
    tokens = {
        name: network.image_tokens[name](batch[name].unsqueeze(1))
        for name in ("clinical", "dermoscopic")
    }
    tokens["metadata"] = network.fields(batch["metadata"])
    before = network.levels[0](tokens)
    after = network.levels[0](tokens | {changed: tokens[changed].roll(1, dims=-1)})
    for name in tokens:
        assert not torch.allclose(before[name], after[name]), name
        assert before[name].shape == tokens[name].shape


def test_skinm2former_label_queries_attend_to_each_other(make, batch):
    network = make("skinm2former").eval()
    output = network(batch)
    with torch.no_grad():
        network.queries[3] += 2.0 * torch.randn(network.queries.shape[1])
    moved = network(batch).logits["joint"] - output.logits["joint"]
    assert moved[:, :3].abs().max() > 1e-4  # the other labels' logits move with it


# --- ALBEF --------------------------------------------------------------------------------------


def test_the_contrastive_loss_falls_on_aligned_pairs():
    torch.manual_seed(0)
    query = functional.normalize(torch.randn(6, 8), dim=-1)
    keys = functional.normalize(torch.randn(6, 8), dim=-1)
    pairs = torch.eye(6)
    losses = [
        float(
            albef.contrastive_loss(query, functional.normalize(keys.lerp(query, t), dim=-1), pairs)
        )
        for t in (0.0, 0.5, 1.0)
    ]
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] < 0.1
    slow = -np.mean(
        [
            np.log(np.exp(q @ k / 0.07) / sum(np.exp(q @ o / 0.07) for o in keys.numpy()))
            for q, k in zip(query.numpy(), keys.numpy(), strict=True)
        ]
    )
    assert losses[0] == pytest.approx(slow, rel=1e-4)


def test_albef_aligns_before_it_classifies(make, batch, loss):
    network = make("albef").train()
    network.begin_epoch(1, 9)
    total, terms = loss(network, batch)
    assert {"contrastive", "matching"} <= set(terms)
    parts = terms["contrastive"] + terms["matching"] + terms["final"]
    torch.testing.assert_close(total.detach(), parts)
    network.zero_grad(set_to_none=True)
    output = network(batch)
    output.logits["joint"].sum().backward()  # the classifier's own loss stops at its input
    assert network.fusion[0].attention.query.weight.grad is None
    assert network.classifier[1].weight.grad is not None
    network.begin_epoch(9, 9)
    network.zero_grad(set_to_none=True)
    output = network(batch)
    assert output.auxiliary is None
    output.logits["joint"].square().sum().backward()
    assert network.fusion[0].attention.query.weight.grad.any()


def test_albef_alignment_can_be_learned(make, batch):
    network = make("albef").train()
    network.begin_epoch(1, 9)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(90):
        auxiliary = network(batch).auxiliary
        optimizer.zero_grad(set_to_none=True)
        sum(auxiliary.values()).backward()
        optimizer.step()
        encoded = {n: batch[n].unsqueeze(1) for n in ("clinical", "dermoscopic")}
        _, image = network.image_side(encoded)
        _, text = network.text_side(network.text(batch["metadata"]))
        losses.append(float(albef.contrastive_loss(image, text, torch.eye(9)).detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_albef_momentum_and_queue(make, batch, monkeypatch):
    monkeypatch.setattr(albef, "QUEUE", 12)
    network = make("albef").train()
    network.begin_epoch(1, 9)
    slow = {k: v.clone() for k, v in network.image_momentum.named_parameters()}
    with torch.no_grad():
        network.image_side.project.weight += 1.0
    network(batch)
    moved = network.image_momentum.project.weight - slow["project.weight"]
    torch.testing.assert_close(moved, torch.full_like(moved, 1 - albef.MOMENTUM), rtol=1e-2, atol=0)
    assert int(network.queued) == 9
    assert network.image_queue[:9].norm(dim=-1).allclose(torch.ones(9))
    assert not network.image_queue[9:].any()
    kept = network.image_queue[5].clone()
    network(batch)  # pairs 9 to 17: places 9, 10, 11, 0 to 5
    assert int(network.queued) == 18
    assert network.image_queue[9:].any()
    numbers = network.text(batch["metadata"])
    assert torch.equal(network.sentence_queue[9:], numbers[:3])
    assert torch.equal(network.sentence_queue[:6], numbers[3:])
    assert not torch.equal(network.image_queue[5], kept)
    network.eval()(batch)
    assert int(network.queued) == 18  # prediction leaves it alone


def test_albef_twins_are_no_negatives(make, batch):
    """In a batch of equal sentences there is nothing to tell apart."""
    network = make("albef").train()
    network.begin_epoch(1, 9)
    batch["metadata"] = batch["metadata"][:1].expand(9, -1)
    auxiliary = network(batch).auxiliary
    assert float(auxiliary["matching"].detach()) == 0.0
    assert torch.isfinite(auxiliary["contrastive"])


# --- CoscatNet-UFS ------------------------------------------------------------------------------


def test_coscatnet_weight_falls_with_a_noisy_branch(make):
    """A branch that is often wrong where its features say so gets less weight there."""
    torch.manual_seed(0)
    network = make("coscatnet-ufs").train()
    network.begin_epoch(2, 2)
    size = 200
    noisy = torch.arange(size) % 2 == 0  # the image branch is wrong for these, and it shows
    target = torch.zeros(size, dtype=torch.int64)
    right, wrong = torch.tensor([5.0, 0, 0, 0]), torch.tensor([0.0, 5, 0, 0])
    logits = {
        "joint": torch.where(noisy.unsqueeze(1), wrong, right),
        "metadata": right.expand(size, 4),
    }
    hidden = {name: torch.randn(size, 10) for name in ("joint", "metadata")}
    hidden["joint"][:, 0] = noisy.float() * 4 - 2
    optimizer = torch.optim.Adam(network.error.parameters(), lr=0.05)
    for _ in range(150):
        errors = {n: network.error[n](hidden[n]).squeeze(-1) for n in hidden}
        loss = network.uncertainty_loss(errors, logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    weights = network.log_weights({n: e.detach() for n, e in errors.items()}).exp()
    joint = weights[:, network.branch_names.index("joint")]
    assert joint[noisy].mean() < 0.2 < joint[~noisy].mean()
    torch.testing.assert_close(weights.sum(-1), torch.ones(size))
    assert not weights[:, :2].any()  # the single images' decisions are not mixed


def test_coscatnet_stages_train_one_after_the_other(make, batch, loss):
    def trained(epoch):
        network = make("coscatnet-ufs").train()
        network.begin_epoch(epoch, 4)
        total, terms = loss(network, batch)
        total.backward()
        reached = {k for k, p in network.named_parameters() if p.grad is not None and p.grad.any()}
        return reached, terms

    first, terms = trained(1)
    assert "cosine" in terms
    assert not any("metadata" in name or name.startswith("error") for name in first)
    second, terms = trained(3)
    assert "uncertainty" in terms
    assert all("metadata" in name or name.startswith("error") for name in second)


def test_coscatnet_cosine_loss_draws_the_images_together(make, batch):
    network = make("coscatnet-ufs").train()
    network.begin_epoch(1, 2)
    optimizer = torch.optim.Adam(network.branches.parameters(), lr=1e-2)
    values = []
    for _ in range(30):
        term = network(batch).auxiliary["cosine"]
        optimizer.zero_grad()
        term.backward()
        optimizer.step()
        values.append(float(term.detach()))
    assert values[-1] < 0.2 * values[0]


# --- DualRefNet ---------------------------------------------------------------------------------


def test_dualrefnet_penalty_weighs_common_classes(make, batch):
    network = make("dualrefnet")
    batch["target"] = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 2])
    network.fit(inputs_of(batch), torch.arange(9))
    torch.testing.assert_close(network.frequency, torch.tensor([6, 2, 1, 0]) / 9)
    network.frequency_penalty().backward()
    gradient = network.classifier.weight.grad
    expected = 2 * network.frequency.unsqueeze(1) * network.classifier.weight
    torch.testing.assert_close(gradient, expected)
    assert not gradient[3].any()


def test_dualrefnet_multiplies_image_and_metadata(make, batch):
    network = make("dualrefnet").eval()
    with torch.no_grad():
        for parameter in network.metadata[1].parameters():
            parameter.zero_()
    logits = network(batch).logits["joint"]
    torch.testing.assert_close(logits, logits[:1].expand(9, -1))  # nothing of the image is left


def test_dualrefnet_restores_detail():
    from jiadf.models.baselines.dualrefnet import Detail

    torch.manual_seed(0)
    picture = torch.rand(3, 3, 8, 8)
    low = functional.avg_pool2d(picture, 2)
    tokens = functional.avg_pool2d(picture, 4).flatten(2).mT @ torch.randn(3, 6)  # a 2 by 2 map
    decoder = Detail(6, 8)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        restored = decoder(tokens, low)
        loss = functional.mse_loss(restored, picture)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert restored.shape == picture.shape
    assert losses[-1] < losses[0]


def test_fusing_for_cls_alone_is_fusing_all_and_reading_cls(make, batch):
    network = make("albef").eval()
    numbers = network.text(batch["metadata"])
    image, _ = network.image_side(network.encode(batch)[1])
    text, _ = network.text_side(numbers)
    to_text, to_image = network.fusion
    whole = to_image(to_text(text), image)
    torch.testing.assert_close(network.fuse(text, image), whole[:, 0])
