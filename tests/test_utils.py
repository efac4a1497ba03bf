import math

import pytest
import torch
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassJaccardIndex,
)

from utils import ConfusionMatrix


def labels_with_absent_and_ignored(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randperm(19, generator=generator)[: 3 + seed % 12]
    target = classes[torch.randint(len(classes), (2, 40, 60), generator=generator)]
    noise = classes[torch.randint(len(classes), (2, 40, 60), generator=generator)]
    prediction = torch.where(torch.rand(2, 40, 60, generator=generator) < 0.6, target, noise)
    target = target.clone()
    target[torch.rand(2, 40, 60, generator=generator) < 0.2] = 255
    return target, prediction


@pytest.mark.parametrize("seed", range(12))
def test_metrics_equal_those_of_torchmetrics(seed):
    target, prediction = labels_with_absent_and_ignored(seed)
    ours = ConfusionMatrix(19)
    ours.update(target[:1], prediction[:1])
    ours.update(target[1:], prediction[1:])
    args = {"num_classes": 19, "ignore_index": 255}
    theirs = MulticlassConfusionMatrix(**args)(prediction, target)
    assert torch.equal(ours.matrix, theirs)
    accuracy = MulticlassAccuracy(**args, average="micro")(prediction, target)
    assert ours.pixel_accuracy == pytest.approx(accuracy.item(), abs=1e-6)
    iou = MulticlassJaccardIndex(**args, average="none")(prediction, target)
    present = theirs.sum(0) + theirs.sum(1) > 0
    torch.testing.assert_close(ours.iou[present].float(), iou[present])
    assert ours.mean_iou == pytest.approx(iou[present].mean().item(), abs=1e-6)


def test_a_class_in_neither_truth_nor_prediction_is_nan_and_left_out_of_the_mean():
    confusion = ConfusionMatrix(4)
    confusion.update(torch.tensor([0, 0, 1]), torch.tensor([0, 0, 2]))
    assert confusion.iou[:3].tolist() == [1, 0, 0]
    assert math.isnan(confusion.iou[3])
    assert confusion.mean_iou == pytest.approx(1 / 3)


def test_ignored_pixels_count_for_nothing():
    confusion = ConfusionMatrix(3)
    confusion.update(torch.tensor([255, 255, 1]), torch.tensor([0, 2, 1]))
    assert confusion.matrix.sum() == 1
    assert confusion.pixel_accuracy == 1


def test_no_scored_pixel_at_all_gives_nan_rather_than_an_error():
    confusion = ConfusionMatrix(3)
    confusion.update(torch.full((4, 4), 255), torch.zeros(4, 4, dtype=torch.long))
    assert math.isnan(confusion.pixel_accuracy)
    assert math.isnan(confusion.mean_iou)


@pytest.mark.parametrize(
    ("target", "prediction", "message"),
    [
        ([0, 19], [0, 1], "target holds 0..19"),
        ([0, 1], [0, 19], "prediction holds 0..19"),
        ([0, -1], [0, 1], "target holds -1..0"),
        ([0, 1, 2], [0, 1], "differ"),
    ],
)
def test_classes_out_of_range_are_refused_not_counted(target, prediction, message):
    with pytest.raises(ValueError, match=message):
        ConfusionMatrix(19).update(torch.tensor(target), torch.tensor(prediction))
