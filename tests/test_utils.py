"""The class table against torchvision's, and the metrics against those of torchmetrics."""

import math

import pytest
import torch
import torchvision
from torchmetrics import classification

from utils import CITYSCAPES, Classes, ConfusionMatrix, label_map, metrics


def test_the_classes_of_cityscapes_are_those_of_torchvision():
    table = torchvision.datasets.Cityscapes.classes
    assert len(CITYSCAPES) == 19
    for each in table:
        train_id = 255 if each.ignore_in_eval else each.train_id
        assert CITYSCAPES.train_ids[each.id % 256] == train_id, each.name
        assert CITYSCAPES.known_ids[each.id % 256], each.name
        if train_id != 255:
            assert CITYSCAPES.names[train_id] == each.name
            assert CITYSCAPES.label_ids[train_id] == each.id
            assert tuple(CITYSCAPES.palette[train_id].tolist()) == each.color
            assert CITYSCAPES.categories[train_id] == each.category
    assert CITYSCAPES.known_ids.sum() == len(table)
    assert not CITYSCAPES.palette[19:].any()


def test_cityscapes_classes_from_a_file_have_the_same_metrics():
    classes = Classes(CITYSCAPES.names, CITYSCAPES.ids, ((1, 2, 3),) * 19)
    confusion = ConfusionMatrix(19)
    confusion.update(*torch.randint(19, (2, 50, 50)))
    assert metrics(confusion, classes) == metrics(confusion, CITYSCAPES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("classes", "size"),  # the last in parts
    [*((n, (20, 30)) for n in (1, 2, 255)), (3, (0, 9)), (19, (1, 70_000)), (19, (330, 200))],
)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_label_map_has_the_first_of_the_highest_logits(dtype, classes, size, layout):
    logits = torch.randint(-3, 3, (2, classes, *size))  # many equal ones
    found = label_map(logits.to(dtype, memory_format=layout))
    first = torch.from_numpy(logits.numpy().argmax(1))  # numpy promises the first
    assert found.dtype == torch.uint8 and torch.equal(found.long(), first)


def test_a_label_map_holds_classes_even_where_logits_are_no_numbers():
    logits = torch.full((1, 4, 9, 20), -math.inf, dtype=torch.bfloat16)  # vectors and a rest
    logits[..., 0] = math.nan
    logits[:, 2, :, 1] = math.inf
    logits[:, 1, :, 0] = -math.nan
    labels = label_map(logits)
    assert labels.max() < 4 and (labels[..., 1] == 2).all() and (labels[..., 2:] == 0).all()


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
@pytest.mark.parametrize("seed", range(6))
def test_metrics_equal_those_of_torchmetrics(seed, dtype):
    torch.manual_seed(seed)
    classes = torch.randperm(19)[: 3 + seed % 12]  # the others are absent
    target, noise = classes[torch.randint(len(classes), (2, 2, 40, 60))]
    right, ignored = torch.rand(2, 2, 40, 60)
    prediction = torch.where(right < 0.6, target, noise)
    target = target.masked_fill(ignored < 0.2, 255)
    ours = ConfusionMatrix(19)
    ours.update(target[:1].to(dtype), prediction[:1].to(dtype))
    ours.update(target[1:].to(dtype), prediction[1:].to(dtype))
    args = {"num_classes": 19, "ignore_index": 255}
    theirs = classification.MulticlassConfusionMatrix(**args)(prediction, target)
    assert torch.equal(ours.matrix, theirs)
    accuracy = classification.MulticlassAccuracy(**args, average="micro")(prediction, target)
    assert ours.pixel_accuracy == pytest.approx(accuracy.item(), abs=1e-6)
    iou = classification.MulticlassJaccardIndex(**args, average="none")(prediction, target)
    present = theirs.sum(0) + theirs.sum(1) > 0
    assert torch.equal(ours.iou.isnan(), ~present)
    torch.testing.assert_close(ours.iou[present].float(), iou[present])
    assert ours.mean_iou == pytest.approx(iou[present].mean().item(), abs=1e-6)


def test_many_classes_are_counted_too_and_none_gives_nan_rather_than_an_error():
    ours, (target, prediction) = ConfusionMatrix(200), torch.randint(0, 200, (2, 5000))
    ours.update(torch.full((4, 4), 255), torch.zeros(4, 4, dtype=torch.long))
    assert math.isnan(ours.pixel_accuracy) and math.isnan(ours.mean_iou)
    ours.update(target, prediction)
    theirs = classification.MulticlassConfusionMatrix(200)(prediction, target)
    assert torch.equal(ours.matrix, theirs)


@pytest.mark.parametrize(
    ("target", "prediction", "message"),
    [
        ([0, 19], [0, 1], "target.*19"),
        ([0, 1], [0, 19], "prediction.*19"),
        ([0, -1], [0, 1], "target.*-1"),
        ([0, 256], [0, 1], "target.*256"),
        ([0, 1], [0, 255], "prediction.*255"),
        ([0, 1, 2], [0, 1], "target.*3.*prediction.*2"),
    ],
)
def test_classes_out_of_range_are_refused_not_counted(target, prediction, message):
    confusion = ConfusionMatrix(19)
    with pytest.raises(ValueError, match=message):
        confusion.update(torch.tensor(target), torch.tensor(prediction))
    assert not confusion.matrix.any()


def test_categories_are_the_metrics_of_merged_labels():
    groups = ("x", "y", "x", "y", "z")
    classes = Classes(tuple("abcde"), tuple(range(5)), ((0, 0, 0),) * 5, groups)
    target, prediction = torch.randint(0, 5, (2, 500))
    fine, coarse = ConfusionMatrix(5), ConfusionMatrix(3)
    fine.update(target, prediction)
    index = torch.tensor([0, 1, 0, 1, 2])
    coarse.update(index[target], index[prediction])
    assert torch.equal(fine.merged(groups).matrix, coarse.matrix)
    found = metrics(fine, classes)
    assert found["category_mIoU"] == coarse.mean_iou
    assert found["category_iou"] == dict(zip("xyz", coarse.iou.tolist(), strict=True))
    assert found["iou"] == dict(zip("abcde", fine.iou.tolist(), strict=True))
