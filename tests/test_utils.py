import math

import pytest
import torch
from matplotlib.figure import Figure
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassJaccardIndex,
)

from model import UNet
from utils import (
    CLASS_NAMES,
    ConfusionMatrix,
    plot_confusion,
    plot_curves,
    plot_iou,
    plot_predictions,
    plot_samples,
    plot_unet,
    summarize,
    trace_sizes,
)


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


def test_every_figure_can_be_drawn(tmp_path):
    target, prediction = labels_with_absent_and_ignored(5)
    confusion = ConfusionMatrix(19)
    confusion.update(target, prediction)
    image = torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8)
    keys = ("train_loss", "val_loss", "train_accuracy", "val_accuracy", "mIoU")
    history = [{"epoch": i + 1, **dict.fromkeys(keys, 0.5 + i / 10)} for i in range(3)]
    iou = {
        n: None if v.isnan() else v.item() for n, v in zip(CLASS_NAMES, confusion.iou, strict=True)
    }
    figures = [
        plot_samples([(image, target[0]), (image, target[1])]),
        plot_predictions([("a scene", image, target[0], prediction[0])]),
        plot_predictions([("no picture", None, target[0], prediction[0])]),
        plot_curves(history),
        plot_iou(iou),
        plot_confusion(confusion),
        plot_unet(UNet(width=4), 40, 60),
        plot_unet(UNet(width=4, depth=2, padding="valid", batch_norm=False), 100, 100),
    ]
    for i, figure in enumerate(figures):
        assert isinstance(figure, Figure)
        figure.savefig(tmp_path / f"{i}.png")
        assert (tmp_path / f"{i}.png").stat().st_size > 3000


def test_iou_bars_are_sorted_and_leave_absent_classes_out():
    ax = plot_iou({"road": 0.5, "sky": 0.9, "car": None, "wall": 0.1}).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["sky", "road", "wall"]
    assert "mean 50.0%" in [text.get_text() for text in ax.texts]


def test_the_architecture_is_drawn_with_the_sizes_of_the_paper():
    paper = UNet(1, 2, 64, padding="valid", batch_norm=False)
    sizes = [shape[1] for shape in trace_sizes(paper, 572, 572).values()]
    assert sizes == [570, 568, 282, 280, 138, 136, 66, 64, 30, 28] + [
        56, 54, 52, 104, 102, 100, 200, 198, 196, 392, 390, 388, 388,
    ]  # fmt: skip
    texts = {text.get_text() for text in plot_unet(paper, 572, 572).axes[0].texts}
    assert {"572×572", "392×392", "388×388", "1024", "copy and crop"} <= texts


def test_the_summary_counts_every_parameter():
    model = UNet(width=8, depth=3)
    total = sum(p.numel() for p in model.parameters())
    assert summarize(model, 64, 96).endswith(f"{total:,}")
