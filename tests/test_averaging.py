"""The lazy average and sparse steps against the same done to every row."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from c2rec.train.averaging import Average, sparse_weights
from c2rec.train.config import ModelConfig, TrainingConfig
from c2rec.train.model import C2Rec, Histories
from c2rec.train.steps import _decay_rows, make_optimizers

ITEMS, SIZE = 9, 4
ATTRIBUTES = torch.tensor([[1, 3], [2, 0], [1, 4], [0, 0], [2, 3], [1, 0], [2, 4], [0, 3], [1, 4]])
TRAINING = TrainingConfig(learning_rate=0.1, weight_decay=0.5, average_decay=0.9)


def model_of(*, sparse: bool, encoder: str = "history") -> C2Rec:
    torch.manual_seed(0)
    return C2Rec(
        ModelConfig(encoder="table" if encoder == "table" else "history", embedding_size=SIZE),
        customers=3,
        attributes=ATTRIBUTES,
        popularity=torch.ones(2, ITEMS),
        sparse=sparse,
    )


def backward(model: C2Rec, step: int, items: list[int]) -> None:
    """Take the gradient of some scores that a step looks at."""
    for parameter in model.parameters():
        parameter.grad = None
    histories = Histories(
        customers=torch.tensor([step % 3]),
        items=torch.tensor(items[:2]),
        counts=torch.tensor([[1, 1]]),
    )
    scores, _ = model.score(*model.encode(histories), step % 2, torch.tensor(items))
    scores.square().sum().backward()  # type: ignore[no-untyped-call]  # torch has no types here


STEPS = [[0, 1, 5], [0, 1, 5], [2, 3], [8, 0], [7, 6], [7, 6], [7, 6], [0, 2]] * 4


def test_the_average_of_three_steps_is_the_closed_form() -> None:
    """Decays 2/11, 3/12, 4/13 while they are below the limit."""
    model = model_of(sparse=False)
    average = Average(model, 0.3)
    expected = model.gain[0].item()
    for step, value in enumerate((5.0, -1.0, 2.0), start=1):
        average.before_step()
        with torch.no_grad():
            model.gain.fill_(value)
        average.after_step()
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.model.gain.tolist() == pytest.approx([expected] * 3)


def test_rows_left_alone_are_averaged_as_if_they_were_not() -> None:
    model = model_of(sparse=True)
    average = Average(model, TRAINING.average_decay)
    optimizers = make_optimizers(model, TRAINING)
    means = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for step, items in enumerate(STEPS, start=1):
        backward(model, step, items)
        average.before_step()
        _decay_rows(model, TRAINING)
        for optimizer in optimizers:
            optimizer.step()
        average.after_step()
        decay = min(TRAINING.average_decay, (1 + step) / (10 + step))
        for name, weight in model.named_parameters():
            means[name] = decay * means[name] + (1 - decay) * weight.detach()
        if step in (5, len(STEPS)):  # the end of an epoch
            average.settle()
            for name, mean in average.model.named_parameters():
                torch.testing.assert_close(mean, means[name], atol=1e-5, rtol=1e-4)


def test_sparse_gradients_hold_the_rows_of_the_step_alone_and_are_the_dense_ones() -> None:
    dense, sparse = model_of(sparse=False), model_of(sparse=True)
    for model in (dense, sparse):
        backward(model, 0, [2, 6, 7])
    theirs = dict(dense.named_parameters())
    for name, weight in sparse.named_parameters():
        if name in sparse_weights(sparse):
            assert weight.grad is not None
            rows = weight.grad.coalesce().indices()[0].tolist()
            used = {"item_attribute.weight": {1, 2, 3, 4}, "source_attribute.weight": {1, 2, 4}}
            items = {2, 6} if name.startswith("source") else {2, 6, 7}
            assert set(rows) <= used.get(name, items), name
            torch.testing.assert_close(weight.grad.to_dense(), theirs[name].grad)
        else:
            torch.testing.assert_close(weight.grad, theirs[name].grad)


def test_decay_shrinks_the_rows_of_the_step_alone_and_no_bias() -> None:
    model = model_of(sparse=True)
    with torch.no_grad():
        model.item_bias.weight.fill_(1.0)
    backward(model, 0, [2, 6])
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    _decay_rows(model, TRAINING)
    torch.testing.assert_close(
        model.item_embedding.weight[[2, 6]], before["item_embedding.weight"][[2, 6]] * 0.95
    )
    torch.testing.assert_close(
        model.item_embedding.weight[[0, 1]], before["item_embedding.weight"][[0, 1]]
    )
    assert torch.all(model.item_bias.weight == 1)


def test_a_table_of_customers_is_kept_as_it_is() -> None:
    model = model_of(sparse=True, encoder="table")
    average = Average(model, 0.9)
    assert average.model is model
    backward(model, 2, [1, 3])
    before = model.customer_embedding.weight.detach().clone()
    _decay_rows(model, replace(TRAINING, learning_rate=0.2))
    after = model.customer_embedding.weight.detach()
    torch.testing.assert_close(after[2], before[2] * 0.9)
    torch.testing.assert_close(after[:2], before[:2])


def test_an_average_goes_on_from_a_checkpoint_between_epochs() -> None:
    def run(stop: int | None) -> dict[str, torch.Tensor]:
        model = model_of(sparse=True)
        average = Average(model, TRAINING.average_decay)
        for step, items in enumerate(STEPS, start=1):
            backward(model, step, items)
            average.before_step()
            with torch.no_grad():
                for weight in sparse_weights(model).values():
                    if weight.grad is not None:
                        weight.add_(weight.grad, alpha=-0.01)
            average.after_step()
            if step == stop:
                kept = {name: tensor.clone() for name, tensor in average.tensors().items()}
                again = Average(model, TRAINING.average_decay)
                again.model.load_state_dict(again.load(kept, step))
                average = again
        average.settle()
        return dict(average.model.state_dict())

    through, resumed = run(None), run(7)
    for name, tensor in through.items():
        np.testing.assert_array_equal(tensor.numpy(), resumed[name].numpy())
