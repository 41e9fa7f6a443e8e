"""The whole network: streams, variants as configuration, gradients and invariances."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jiadf.models.configuration import NetworkConfig
from jiadf.models.losses import JointIndividualLoss, branch_lambdas
from jiadf.models.network import JIADF
from jiadf.training.grid import load_grid

FEATURES, METADATA, CLASSES = 6, 5, 4
SUBSETS = ("C", "D", "M", "CD", "CM", "DM", "CDM")
LAMBDAS = ("lambda_joint", "lambda_image", "lambda_metadata")
DESIGNS = load_grid("params/grids/paper.yaml").systems
FIGURE_3 = ("late-concat", "jf-concat", "jf-mmfa", "ji-mmfa", "ji-adf-noaux", "ji-adf")


def config_of(**overrides) -> NetworkConfig:
    defaults = {
        "image_features": FEATURES,
        "columns": tuple(f"column{i}" for i in range(METADATA)),
        "num_classes": CLASSES,
        "metadata_width": 8,
        "joint_width": 10,
        "num_heads": 2,
        "head_dim": 3,
    }
    return NetworkConfig(**(defaults | overrides))


def network(**overrides) -> JIADF:
    torch.manual_seed(0)
    return JIADF(config_of(**overrides)).eval()


def batch_of(size=6, scale=1.0) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    widths = {"clinical": FEATURES, "dermoscopic": FEATURES, "metadata": METADATA}
    return {name: torch.randn(size, width) * scale for name, width in widths.items()}


def blocks(model: JIADF) -> set[str]:
    """First-level parts that hold parameters, heads one by one."""
    names = [name.split(".") for name, _ in model.named_parameters()]
    return {".".join(name[:2]) if name[0] == "heads" else name[0] for name in names}


@pytest.mark.parametrize(
    ("modalities", "branches"),
    [
        ("C", ("joint",)),
        ("D", ("joint",)),
        ("M", ("joint",)),
        ("CD", ("clinical", "dermoscopic", "joint")),
        ("CM", ("image", "metadata", "joint")),
        ("DM", ("image", "metadata", "joint")),
        ("CDM", ("image", "metadata", "joint")),
    ],
)
@pytest.mark.parametrize("variant", FIGURE_3)
def test_every_subset_in_every_variant_gives_a_posterior(modalities, branches, variant):
    settings_ = {k: v for k, v in DESIGNS[variant].items() if k not in LAMBDAS}
    model = network(modalities=modalities, **settings_)
    output = model(batch_of())
    fused = len(modalities) > 1
    if settings_.get("branches") == "joint":
        branches = ("joint",)
    assert tuple(output.logits) == model.config.branch_names == branches
    assert output.log_posterior.shape == (6, CLASSES)
    torch.testing.assert_close(output.log_posterior.exp().sum(-1), torch.ones(6))
    if fused and settings_.get("decision", "adf") != "joint":
        assert output.weights.shape == (6, 3)
        torch.testing.assert_close(output.weights.sum(-1), torch.ones(6))
        torch.testing.assert_close(output.log_weights.exp(), output.weights)
    else:
        assert output.weights is None
        torch.testing.assert_close(output.log_posterior, output.logits["joint"].log_softmax(-1))
    attends = fused and settings_.get("fusion", "mmfa") == "mmfa"
    assert (output.attention is not None) == attends
    if attends:
        assert output.attention.shape == (6, 2, 2, 2)


@pytest.mark.parametrize("modalities", SUBSETS)
def test_the_output_depends_on_the_chosen_modalities_and_no_others(modalities):
    model = network(modalities=modalities)
    reference = model(batch_of()).log_posterior
    for letter, name in {"C": "clinical", "D": "dermoscopic", "M": "metadata"}.items():
        changed = batch_of()
        changed[name] = changed[name] + 1.0
        same = torch.equal(model(changed).log_posterior, reference)
        assert same == (letter not in modalities), name
    kept = {"C": "clinical", "D": "dermoscopic", "M": "metadata"}
    only = {kept[letter]: batch_of()[kept[letter]] for letter in modalities}
    assert torch.equal(model(only).log_posterior, reference)


def test_forward_equals_its_equations_written_out():
    model, batch = network(), batch_of()
    image = torch.cat([batch["dermoscopic"], batch["clinical"]], dim=-1)  # (1)
    metadata = model.metadata_encoder(batch["metadata"])
    joint = model.fusion([image, metadata])  # (2)
    features = {"image": image, "metadata": metadata, "joint": joint}
    logits = {name: model.heads[name](features[name]) for name in features}  # (3)
    evidence = torch.cat(list(logits.values()), dim=-1)
    weights = model.adf.gate(evidence).softmax(-1)  # (5)
    posterior = sum(
        weights[:, [b]] * value.softmax(-1) for b, value in enumerate(logits.values())
    )  # (6)
    output = model(batch)
    torch.testing.assert_close(output.weights, weights)
    torch.testing.assert_close(output.log_posterior.exp(), posterior)


def shapes(model: JIADF) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


@pytest.mark.parametrize(("fusion", "joint"), [("mmfa", 10), ("concat", 2 * FEATURES + 8)])
def test_a_gate_on_features_differs_in_its_first_layer_alone(fusion, joint):
    paper, model = network(fusion=fusion), network(fusion=fusion, gate_input="features")
    width = 2 * FEATURES + 8 + joint  # image, metadata, joint
    changed = {name: s for name, s in shapes(model).items() if s != shapes(paper).get(name)}
    assert set(shapes(model)) == set(shapes(paper))
    assert changed == {"adf.gate.0.weight": (32, width)}
    kept = {k: v for k, v in paper.state_dict().items() if k not in changed}
    model.load_state_dict(kept, strict=False)
    batch = batch_of()
    output, reference = model(batch), paper(batch)
    image = torch.cat([batch["dermoscopic"], batch["clinical"]], dim=-1)
    streams = [image, model.metadata_encoder(batch["metadata"])]
    f_joint = model.fusion(streams) if fusion == "mmfa" else torch.cat(streams, dim=-1)
    weights = model.adf.gate(torch.cat([*streams, f_joint], dim=-1)).softmax(-1)
    torch.testing.assert_close(output.weights, weights)
    for name, value in output.logits.items():
        assert torch.equal(value, reference.logits[name])
    posterior = sum(weights[:, [b]] * z.softmax(-1) for b, z in enumerate(output.logits.values()))
    torch.testing.assert_close(output.log_posterior.exp(), posterior)


def test_the_gate_reads_the_features_that_the_heads_see():
    model = network(gate_input="features", dropout=0.5).train()
    seen = {}
    for name, module in {**dict(model.heads.items()), "gate": model.adf.gate}.items():
        module.register_forward_pre_hook(lambda _, x, name=name: seen.update({name: x[0]}))
    model(batch_of())
    assert torch.equal(seen.pop("gate"), torch.cat(list(seen.values()), dim=-1))
    assert (seen["image"] == 0).any()  # dropped out


def test_the_fixed_average_is_the_mean_of_the_branch_posteriors():
    output = network(decision="average")(batch_of())
    mean = torch.stack([value.softmax(-1) for value in output.logits.values()]).mean(0)
    torch.testing.assert_close(output.log_posterior.exp(), mean)
    torch.testing.assert_close(output.weights, torch.full((6, 3), 1 / 3))


FULL = {"metadata_encoder", "fusion", "adf", "heads.image", "heads.metadata", "heads.joint"}


@pytest.mark.parametrize(
    ("variant", "parts", "final_is_joint", "auxiliary"),
    [
        ("late-concat", {"metadata_encoder", "heads.joint"}, True, set()),
        ("jf-concat", FULL - {"fusion", "adf"}, True, {"image", "metadata"}),
        ("jf-mmfa", {"metadata_encoder", "fusion", "heads.joint"}, True, set()),
        ("ji-mmfa", FULL - {"adf"}, False, {"image", "metadata", "joint"}),
        ("ji-adf-noaux", FULL, False, set()),
        ("ji-adf", FULL, False, {"image", "metadata", "joint"}),
    ],
)
def test_each_variant_differs_in_exactly_what_its_row_says(
    variant, parts, final_is_joint, auxiliary
):
    """Parts with parameters, who decides, and which auxiliary terms move the objective."""
    parameters = {"lambda_joint": 0.5, "lambda_image": 0.25, "lambda_metadata": 0.25}
    parameters |= {"fusion": "mmfa", "branches": "all", "decision": "adf"}
    parameters |= DESIGNS[variant]
    lambdas = {name: parameters.pop(name) for name in LAMBDAS}
    model = network(**parameters)
    assert blocks(model) == parts
    shared = {k: v.shape for k, v in network().state_dict().items() if not k.startswith("heads.j")}
    for name, value in model.state_dict().items():
        if not name.startswith("heads.j"):  # the joint head's input is what the fusion gives
            assert value.shape == shared[name]

    output = model(batch_of())
    same = torch.allclose(output.log_posterior, output.logits["joint"].log_softmax(-1))
    assert same == final_is_joint
    weights = branch_lambdas(model.config.branch_names, **lambdas)
    target = torch.arange(6) % CLASSES
    total, terms = JointIndividualLoss(weights, num_classes=CLASSES)(output, target)
    expected = terms["final"] + sum(weights[name] * terms[name] for name in auxiliary)
    torch.testing.assert_close(total, expected)
    assert all(weights[name] > 0 for name in auxiliary)


WHOLE = {"image": 2 * FEATURES, "metadata": 8, "joint": 10}


@pytest.mark.parametrize(
    ("modalities", "encoded", "heads"),
    [
        ("C", False, {"joint": FEATURES}),
        ("D", False, {"joint": FEATURES}),
        ("M", True, {"joint": 8}),
        ("CD", False, {"clinical": FEATURES, "dermoscopic": FEATURES, "joint": 10}),
        ("CM", True, WHOLE | {"image": FEATURES}),
        ("DM", True, WHOLE | {"image": FEATURES}),
        ("CDM", True, WHOLE),
    ],
)
def test_each_subset_differs_in_exactly_what_its_row_of_table_2_says(modalities, encoded, heads):
    """Encoders, heads and their inputs, gate, and the terms of the objective."""
    model = network(modalities=modalities)
    fused = len(modalities) > 1
    parts = {f"heads.{name}" for name in heads} | ({"fusion", "adf"} if fused else set())
    assert blocks(model) == parts | ({"metadata_encoder"} if encoded else set())
    names = {"C": "clinical", "D": "dermoscopic"}
    assert set(model.image_encoders) == {names[letter] for letter in modalities if letter != "M"}
    assert {name: head.in_features for name, head in model.heads.items()} == heads

    whole = shapes(network())
    differing = {n.split(".")[0] for n, s in shapes(model).items() if whole.get(n) != s}
    # Only what reads the streams' features changes its width; the gate reads three heads as ever.
    assert differing <= {"fusion", "heads"}
    assert fused or "adf.gate.0.weight" not in shapes(model)

    output = model(batch_of())
    weights = branch_lambdas(model.config.branch_names)
    target = torch.arange(6) % CLASSES
    total, terms = JointIndividualLoss(weights, num_classes=CLASSES)(output, target)
    assert set(terms) == {"final", *heads}
    auxiliary = heads if fused else ()
    torch.testing.assert_close(
        total, terms["final"] + sum(weights[name] * terms[name] for name in auxiliary)
    )
    assert sum(weights[name] for name in auxiliary) == (1.0 if fused else 0.0)
    own_nll = torch.nn.functional.nll_loss(output.log_posterior, target)
    torch.testing.assert_close(terms["final"], own_nll)


@pytest.mark.parametrize(
    ("paths", "absent"),
    [
        ("skip", ("fusion.qkv.", "fusion.attention_out.")),
        ("attention", ("fusion.skip_out.",)),
        ("both", ()),
    ],
)
def test_each_path_differs_in_exactly_what_its_row_of_table_3_says(paths, absent):
    """Parameters of the other path are gone; heads, gate and objective are those of ji-adf."""
    whole, model = network(), network(fusion_paths=paths)
    expected = {n: s for n, s in shapes(whole).items() if not n.startswith(absent)}
    assert shapes(model) == expected
    assert len(expected) < len(shapes(whole)) or paths == "both"
    model.load_state_dict({k: v for k, v in whole.state_dict().items() if k in expected})
    output, reference = model(batch_of()), whole(batch_of())
    assert (output.attention is None) == (paths == "skip")
    for name in ("image", "metadata"):
        assert torch.equal(output.logits[name], reference.logits[name])
    if paths == "both":
        return
    assert not torch.allclose(output.logits["joint"], reference.logits["joint"])
    _, terms = JointIndividualLoss(branch_lambdas(model.config.branch_names), num_classes=CLASSES)(
        output, torch.arange(6) % CLASSES
    )
    assert set(terms) == {"final", "image", "metadata", "joint"}


@pytest.mark.parametrize("modalities", ["CD", "DM", "CDM"])
@pytest.mark.parametrize(
    "design",
    [{}, {"decision": "average"}, {"gate_input": "features"}],
    ids=str,
)
def test_the_final_loss_alone_reaches_every_parameter_and_encoder(modalities, design):
    config = config_of(modalities=modalities, **design)
    encoders = {name: torch.nn.Linear(FEATURES, FEATURES) for name in config.image_streams}
    torch.manual_seed(0)
    model = JIADF(config, encoders)
    output = model(batch_of())
    lambdas = dict.fromkeys(config.branch_names, 0.0)
    total, _ = JointIndividualLoss(lambdas, num_classes=CLASSES)(output, torch.arange(6) % CLASSES)
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(6)), modalities=st.sampled_from(SUBSETS))
def test_permuting_samples_permutes_outputs(order, modalities):
    model, batch = network(modalities=modalities), batch_of()
    moved = model({name: value[order] for name, value in batch.items()})
    torch.testing.assert_close(moved.log_posterior, model(batch).log_posterior[order])


@pytest.mark.parametrize("scale", [0.0, 1e2, 1e4])
@pytest.mark.parametrize("decision", ["adf", "average", "joint"])
def test_extreme_features_stay_finite_both_ways(scale, decision):
    model = network(decision=decision)
    output = model(batch_of(scale=scale))
    lambdas = branch_lambdas(model.config.branch_names)
    total, _ = JointIndividualLoss(lambdas, num_classes=CLASSES)(output, torch.arange(6) % CLASSES)
    total.backward()
    assert torch.isfinite(total)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_bfloat16_autocast_keeps_the_posterior_in_float32():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network()(batch_of())
    assert output.logits["joint"].dtype == torch.bfloat16
    assert output.log_posterior.dtype == output.weights.dtype == torch.float32
    torch.testing.assert_close(output.log_posterior.exp().sum(-1), torch.ones(6))


def test_dropout_acts_while_training_only():
    model, batch = network(dropout=0.5), batch_of()
    assert torch.equal(model(batch).log_posterior, model(batch).log_posterior)
    model.train()
    assert not torch.equal(model(batch).log_posterior, model(batch).log_posterior)


def test_a_shared_encoder_is_one_module():
    config = config_of()
    shared = torch.nn.Linear(FEATURES, FEATURES)
    two = JIADF(config, {"clinical": torch.nn.Linear(6, 6), "dermoscopic": torch.nn.Linear(6, 6)})
    one = JIADF(config, {"clinical": shared, "dermoscopic": shared})
    assert one.image_encoders["clinical"] is one.image_encoders["dermoscopic"]
    count = [sum(p.numel() for p in model.parameters()) for model in (one, two)]
    assert count[1] - count[0] == 6 * 6 + 6


def test_images_come_in_through_encoders():
    class Pool(torch.nn.Module):
        num_features = 3

        def forward(self, images):
            return images.mean(dim=(2, 3))

    model = JIADF(config_of(image_features=3), {"clinical": Pool(), "dermoscopic": Pool()})
    batch = {name: torch.randn(2, 3, 8, 8) for name in ("clinical", "dermoscopic")}
    output = model(batch | {"metadata": torch.randn(2, METADATA)})
    assert output.log_posterior.shape == (2, CLASSES)


def test_several_seeds_can_run_as_one_stacked_network():
    models = [JIADF(config_of()).eval() for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(models)
    batch, target = batch_of(), torch.arange(6) % CLASSES
    criterion = JointIndividualLoss(
        branch_lambdas(models[0].config.branch_names), "balanced", target, CLASSES
    )

    def loss(parameters, buffers):
        output = torch.func.functional_call(models[0], (parameters, buffers), (batch,))
        return criterion(output, target)[0]

    stacked = torch.func.vmap(torch.func.grad(loss))(parameters, buffers)
    for seed, model in enumerate(models):
        criterion(model(batch), target)[0].backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(stacked[name][seed], parameter.grad)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"branches": "joint"}, "set decision to 'joint'"),
        ({"fusion": "concat", "fusion_paths": "skip"}, "belongs to fusion 'mmfa'"),
        ({"gate_input": "features", "decision": "average"}, "leave gate_input at 'logits'"),
        ({"gate_holdout": 0.2}, "set gate_detach to 'decision'"),
        ({"gate_entropy": 0.1, "decision": "average"}, "leave gate_entropy at 0.0"),
        ({"gate_calibration": True, "decision": "joint"}, "leave gate_calibration at False"),
    ],
)
def test_impossible_designs_are_refused_with_a_remedy(overrides, message):
    with pytest.raises(ValueError, match=message):
        network(**overrides)


NAMES = ("clinical", "dermoscopic", "metadata")


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_modality_is_zeros_whatever_the_batch_holds(name):
    model, batch = network(), batch_of()
    rows = torch.tensor([True, False, True, False, False, True])
    zeroed = batch | {name: batch[name].masked_fill(rows[:, None], 0.0)}
    output = model(batch | {f"{name}_missing": rows})
    torch.testing.assert_close(output.log_posterior, model(zeroed).log_posterior)
    torch.testing.assert_close(output.log_posterior[~rows], model(batch).log_posterior[~rows])
    assert (output.log_posterior - model(batch).log_posterior)[rows].abs().min() > 0


def test_a_missing_image_is_its_training_mean_behind_a_scaling():
    from jiadf.training.features import Standardise

    scales = {name: Standardise(FEATURES).fit(batch_of()[name] + 3) for name in NAMES[:2]}
    model = JIADF(config_of(), scales).eval()
    batch, everybody = batch_of(), torch.ones(6, dtype=torch.bool)
    mean = scales["clinical"].mean.expand(6, -1)
    said = model(batch | {"clinical_missing": everybody}).log_posterior
    torch.testing.assert_close(said, model(batch | {"clinical": mean}).log_posterior)


def test_modality_dropout_leaves_out_each_with_its_probability_and_never_all():
    model, size = network(modality_dropout=0.5).train(), 20_000
    torch.manual_seed(0)
    drop = torch.stack(list(model._missing(batch_of(size)).values()), dim=1)
    assert not drop.all(dim=1).any()
    # Seven of eight equally likely outcomes stand, the eighth drops nothing: 3/8 a modality.
    torch.testing.assert_close(drop.float().mean(0), torch.full((3,), 3 / 8), atol=0.02, rtol=0)
    told = batch_of(size) | {f"{n}_missing": torch.ones(size).bool() for n in NAMES[:2]}
    lacking = torch.stack(list(model._missing(told).values()), dim=1)
    assert lacking[:, :2].all()
    assert not lacking[:, 2].any()


def test_modality_dropout_trains_on_what_is_missing_at_test_time():
    model, batch = network(modality_dropout=0.5, dropout=0.0).train(), batch_of(64)
    torch.manual_seed(1)
    missing = {f"{name}_missing": rows for name, rows in model._missing(batch).items()}
    torch.manual_seed(1)
    trained = model(batch).log_posterior
    torch.testing.assert_close(trained, model.eval()(batch | missing).log_posterior)
    assert torch.equal(model(batch).log_posterior, model(batch).log_posterior)  # none in evaluation


@pytest.mark.parametrize("modalities", ["C", "M"])
def test_a_single_modality_is_never_dropped(modalities):
    model = network(modalities=modalities, modality_dropout=0.9).train()
    assert not torch.stack(list(model._missing(batch_of(500)).values())).any()


def test_without_modality_dropout_nothing_is_drawn():
    batch = batch_of()
    for share, same in ((0.0, True), (0.1, False)):
        model = network(dropout=0.0, modality_dropout=share).train()
        before = torch.get_rng_state()
        model(batch)
        assert torch.equal(torch.get_rng_state(), before) == same
