"""Kinds of attention, numbers of components, and training without attributes."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from c2rec.export.bundle import attention_bias, write_bundle
from c2rec.export.graph import scorer_graph
from c2rec.runtime.errors import ReleaseError
from c2rec.train.config import AttentionName, ModelConfig, TrainingConfig
from c2rec.train.model import C2Rec, Histories
from c2rec.train.run import Run
from c2rec.train.steps import make_optimizers
from tests.test_export import run as run

ITEMS, SIZE = 7, 4
HISTORIES = Histories(  # customer 0 bought 1 and 2 in both channels, customer 1 nothing twice
    customers=torch.arange(3),
    items=torch.tensor([1, 2, 3, 1, 2, 4, 5]),
    counts=torch.tensor([[3, 2], [1, 1], [0, 0]]),
)


def model_of(*, attention: AttentionName = "softmax", components: int = 3) -> C2Rec:
    torch.manual_seed(0)
    model = C2Rec(
        ModelConfig(embedding_size=SIZE, attention=attention, components=components),
        customers=3,
        attributes=torch.arange(ITEMS)[:, None] % 2 + 1,
        popularity=torch.ones(2, ITEMS),
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    return model.requires_grad_(requires_grad=False)


def attention_of(model: C2Rec) -> torch.Tensor:
    _, attention = model.score(*model.encode(HISTORIES), 1, torch.arange(ITEMS))
    return attention


def test_two_components_never_ask_the_shared_one() -> None:
    attention = attention_of(model_of(components=2))
    assert not attention[:, 0].any()
    torch.testing.assert_close(attention[0].sum(0), torch.ones(ITEMS))


def test_the_fourth_component_is_what_was_bought_in_both_channels() -> None:
    model = model_of(components=4)
    components, has = model.encode(HISTORIES)
    assert has.tolist() == [[True] * 4, [True, True, True, False], [False] * 4]
    sources = model.source_vectors(torch.tensor([1, 2]))
    expected = sources.sum(0) * model.gain[3] / 2**0.5
    torch.testing.assert_close(components[0, 3], expected)
    three = model_of(components=3).encode(HISTORIES)[0]
    assert components.shape == (3, 4, SIZE)
    assert three.shape == (3, 3, SIZE)


def test_without_attention_all_components_that_are_there_weigh_the_same() -> None:
    attention = attention_of(model_of(attention="none"))
    torch.testing.assert_close(attention[0], torch.full((3, ITEMS), 1 / 3))
    assert not attention[2].any()


def test_learned_weights_are_the_same_for_every_item_and_customer() -> None:
    model = model_of(attention="learned")
    attention = attention_of(model)
    expected = model.attention_bias[1].softmax(0)
    for customer in (0, 1):
        torch.testing.assert_close(attention[customer], expected[:, None].expand(3, ITEMS))


def test_sigmoid_weighs_each_component_by_itself() -> None:
    model = model_of(attention="sigmoid")
    components, has = model.encode(HISTORIES)
    y = model.item_vectors(torch.tensor([6]))[0]
    _, attention = model.score(components, has, 0, torch.tensor([6]))
    logit = components[1, 2] @ model.attention_weight[0] @ y / SIZE**0.5
    logit = logit + attention_bias(model)[0, 2, 6]
    torch.testing.assert_close(attention[1, 2, 0], logit.sigmoid())
    assert not attention[2].any()


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "learned", "none"])
def test_what_a_kind_of_attention_has_no_use_for_is_not_trained(kind: AttentionName) -> None:
    model = model_of(attention=kind).requires_grad_(requires_grad=True)
    model._freeze_attention()
    trained = {id(p) for o in make_optimizers(model, TrainingConfig()) for g in o.param_groups
               for p in g["params"]}  # fmt: skip
    parts = (model.attention_weight, model.attention_item_bias.weight, model.attention_bias)
    uses = {"learned": [False, False, True], "none": [False] * 3}.get(kind, [True] * 3)
    assert [id(part) in trained for part in parts] == uses


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "learned", "none"])
def test_the_exported_graph_weighs_as_the_model_does(kind: AttentionName) -> None:
    model = model_of(attention=kind)
    session = onnxruntime.InferenceSession(
        scorer_graph(model, "r").SerializeToString(), providers=["CPUExecutionProvider"]
    )
    components, has = model.encode(HISTORIES)
    expected = model.score(components, has, 1, torch.arange(ITEMS))
    got = session.run(
        ["scores", "attention"],
        {
            "components": components.numpy(),
            "has": has.numpy(),
            "channel": np.array(1),
            "item_embeddings": model.item_vectors(torch.arange(ITEMS)).numpy(),
            "item_bias": model.item_bias.weight.T.contiguous().numpy(),
            "attention_bias": attention_bias(model).numpy(),
            "history_items": np.zeros((3, 1), np.int64),
            "history_weights": np.zeros((3, 1), np.float32),
            "neighbour_items": np.zeros((ITEMS, 1), np.int32),
            "neighbour_weights": np.zeros((ITEMS, 2, 1), np.float16),
        },
    )
    for ours, theirs in zip(expected, got, strict=True):
        np.testing.assert_allclose(np.asarray(theirs), ours.numpy(), atol=1e-5, rtol=1e-5)


def test_a_dropped_item_is_what_its_attributes_say() -> None:
    model = model_of()
    model.dropped = torch.arange(ITEMS) == 3
    vectors = model.item_vectors(torch.arange(ITEMS))
    torch.testing.assert_close(vectors[3], model.item_attribute.weight[2])
    model.dropped = None
    whole = model.item_vectors(torch.arange(ITEMS))
    torch.testing.assert_close(vectors[:3], whole[:3])
    assert not torch.allclose(vectors[3], whole[3])


def test_a_release_takes_three_components(run: Run, tmp_path: Path) -> None:
    object.__setattr__(run.model.config, "components", 4)
    try:
        with pytest.raises(ReleaseError, match="--components 4"):
            write_bundle(run, tmp_path / "bundle", check=lambda _: None)
    finally:
        object.__setattr__(run.model.config, "components", 3)
    assert not (tmp_path / "bundle").exists()
