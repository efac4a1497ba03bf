"""What predicts for a network gives what the network itself gives, whatever was changed in it."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torchmetrics.classification import MulticlassAccuracy

import folding
import model as model_module
from engine import fit, make_loaders, make_model
from export_onnx import agreement, export
from export_onnx import noise as noise_for
from folding import ConvReLU, UpAdding, fold, for_prediction
from inference import inference_net, load_model, predict
from model import UNet, Up
from runtime.cpu import convert
from runtime.precision import Evaluation, cpu_has_bf16
from tests.training import network, noise, tiny

pytestmark = [  # folding steps aside in no test, but those that say so
    pytest.mark.processor,
    pytest.mark.filterwarnings("error:batch norm is not folded"),
]

IMAGES = noise(2, 3, 44, 60)


def kinds(net: nn.Module) -> set[type]:
    return {type(module) for module in net.modules()}


def assert_predicts_as_itself(model: nn.Module, precision: str = "fp32") -> nn.Module:
    """Compare what predicts with `model` in evaluation mode; returns what predicts."""
    net = for_prediction(model, precision)
    with torch.inference_mode():
        found, expected = (each(IMAGES, full_image=True) for each in (net, Evaluation(model)))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    return net


def converted_for_avx2(model: UNet) -> UNet:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
        return convert(model)


@pytest.mark.parametrize(
    "settings", [{}, {"padding": "valid"}, {"batch_norm": False}, {"width": 32, "depth": 1}]
)
@pytest.mark.parametrize(
    "change", [lambda model: model, nn.SyncBatchNorm.convert_sync_batchnorm, converted_for_avx2]
)
def test_every_batch_norm_and_relu_is_folded_and_no_logit_changes(settings, change):
    model = change(network(**settings)).eval()
    net = assert_predicts_as_itself(model)
    assert not kinds(net) & {nn.BatchNorm2d, nn.SyncBatchNorm, nn.ReLU}
    assert not cpu_has_bf16() or ConvReLU in kinds(for_prediction(model, "bf16"))
    assert assert_predicts_as_itself(model.double()) is not net


def test_a_network_in_training_stays_as_it_was_also_after_an_error():
    model = network().train()
    model.contracting[0].eval()  # as somebody who freezes a part of it
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    labels = predict(model, IMAGES[0], precision="fp32")
    with pytest.raises(RuntimeError):
        Evaluation(model)(torch.zeros(1, 5, 8, 8))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    plain = copy.deepcopy(model).eval()(IMAGES[:1])[0].argmax(0)
    assert (labels == plain).float().mean() > 0.999


@pytest.mark.parametrize(
    "change", [nn.Module.half, nn.Module.bfloat16, nn.Module.double, nn.DataParallel]
)
def test_a_network_of_another_dtype_or_of_replicas_is_folded_too(change):
    model = network()
    assert not isinstance(inference_net(change(copy.deepcopy(model))).module, Evaluation)
    found = predict(change(copy.deepcopy(model)), IMAGES[0])
    assert (found == predict(model, IMAGES[0], precision="fp32")).float().mean() > 0.95


@pytest.mark.parametrize("in_place", [False, True])
def test_a_compiled_network_is_used_as_it_is(in_place):
    model, seen = network(), []

    def backend(graph, _):
        seen.append(graph)
        return graph.forward

    torch.compiler.reset()  # or a graph of another test serves this one, too
    expected = predict(model, IMAGES[0], precision="fp32")
    if in_place:
        model.compile(backend=backend)
    compiled = model if in_place else torch.compile(model, backend=backend)
    assert for_prediction(compiled).module is compiled
    assert (predict(compiled, IMAGES[0], precision="fp32") == expected).float().mean() > 0.999
    assert seen


def test_a_folded_network_is_one_graph_to_torch_compile():
    folded = fold(network())
    with torch.no_grad():
        compiled = torch.compile(folded, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(IMAGES), folded(IMAGES), rtol=1e-3, atol=1e-3)


def leaky(model: UNet) -> None:
    model.contracting[0][2] = model.expansive[0].convs[-1] = nn.LeakyReLU(0.1)


def reflecting(model: UNet) -> None:
    model.contracting[1][0].padding_mode = model.contracting[2][0].padding_mode = "reflect"


def hooked(model: UNet) -> None:
    model.contracting[1][0].register_forward_hook(lambda _, __, output: output.tanh())
    model.contracting[0][2].register_forward_pre_hook(lambda _, args: (args[0] + 1,))
    model.conv_1x1.register_forward_hook(lambda _, __, out: out * torch.arange(19)[:, None, None])


def with_own_forward(model: UNet) -> None:
    layer = model.contracting[0][1]
    layer.forward = lambda x: nn.BatchNorm2d.forward(layer, x).sin()


def parametrised(model: UNet) -> None:
    parametrizations.weight_norm(model.contracting[1][0])
    parametrizations.orthogonal(model.expansive[0].convs[0])


def of_own_classes(model: UNet) -> None:
    """Layers and a level that compute something else than the classes they inherit from."""

    def inherit(layer: nn.Module, **methods) -> None:
        layer.__class__ = type("Own", (type(layer),), methods)

    inherit(model.contracting[0][2], forward=lambda self, x: x.abs())
    inherit(model.contracting[1][1], forward=lambda self, x: nn.BatchNorm2d.forward(self, x).sin())
    inherit(model.contracting[1][3], forward=lambda self, x: nn.Conv2d.forward(self, x).tanh())
    inherit(model.expansive[0], join=lambda self, skip, x: torch.cat([skip / 2, x], 1))


def always_training(model: UNet) -> None:
    layer = model.contracting[0][1].train()
    layer.train = lambda mode=True: layer


CHANGES = {
    "leaky": leaky,
    "reflecting": reflecting,
    "dropping": lambda model: model.expansive[0].convs.insert(0, nn.Dropout2d()),
    "averaging": lambda model: setattr(model, "pool", nn.AvgPool2d(2)),
    "without bias": lambda model: setattr(model, "conv_1x1", nn.Conv2d(4, 19, 1, bias=False)),
    "with 3x3": lambda model: setattr(model, "conv_1x1", nn.Conv2d(4, 19, 3, padding=1)),
    "hooked": hooked,
    "with its own forward": with_own_forward,
    "parametrised": parametrised,
    "without statistics": lambda model: setattr(
        model.contracting[0], "1", nn.BatchNorm2d(4, track_running_stats=False)
    ),
    "of own classes": of_own_classes,
    "always training": always_training,
    "of one layer": lambda model: setattr(model.expansive[0], "convs", nn.Conv2d(16, 8, 1)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_changed_in_a_network_is_left_alone_and_the_rest_folded(change):
    model = network().eval()
    change(model)
    assert UpAdding in kinds(assert_predicts_as_itself(model))


def test_hooks_of_the_old_weight_norm_do_not_stop_a_prediction():
    model = network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(model.contracting[0][0])
    model(IMAGES)  # from here on PyTorch cannot copy it
    with pytest.warns(UserWarning, match="the network itself predicts"):
        assert_predicts_as_itself(model)


TWICE = nn.Conv2d(3, 3, 3, padding="same")


@pytest.mark.parametrize(
    "block",
    [
        [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.ReLU()],
        [nn.Conv2d(3, 4, 3), nn.LeakyReLU(), nn.Conv2d(4, 4, 1), nn.Dropout(), nn.ReLU()],
        [nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(4), nn.ReLU()],
        [nn.Conv2d(3, 6, 3, stride=2, groups=3, padding=2), nn.ReLU(), nn.Conv2d(6, 4, 1)],
        [nn.Conv2d(3, 4, (2, 4), padding="same"), nn.ReLU()],
        [nn.ReLU(), nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.LeakyReLU()],
        [nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU()],
        [TWICE, nn.ReLU(), TWICE],
    ],
)
def test_folding_computes_the_same_whatever_the_order_of_the_layers(block):
    block = nn.Sequential(*block)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.weight.data.uniform_(-1, 1)
    images = torch.randn(2, 3, 9, 9)
    with torch.inference_mode():
        expected = block.eval()(images)
        torch.testing.assert_close(fold(block)(images), expected)


# A network that somebody wrote anew: what cloning this repository is for


class Residual(nn.Sequential):
    """Adds what the first convolution gives to what the second gives, before the last ReLU."""

    def forward(self, x):
        half, forward = len(self) // 2, nn.Sequential.forward
        x = forward(self[:half], x)
        return self[-1](x + forward(self[half:-1], x))


class Standardised(nn.Conv2d):
    """Weight standardisation (Qiao et al. 2019, https://arxiv.org/abs/1903.10520)."""

    def forward(self, x):
        mean, std = (f(self.weight, (1, 2, 3), keepdim=True) for f in (torch.mean, torch.std))
        return self._conv_forward(x, (self.weight - mean) / (std + 1e-5), self.bias)


def rewritten_block(patch, rewrite) -> None:
    plain = model_module.double_conv
    patch.setattr(model_module, "double_conv", lambda *args: rewrite(plain(*args)))


def residual(patch):
    rewritten_block(patch, lambda layers: Residual(*layers))


def gated(patch):
    """Attention gates (Oktay et al. 2018, https://arxiv.org/abs/1804.03999)."""
    init = Up.__init__

    def init_with_gate(self, in_channels, *args, **options):
        init(self, in_channels, *args, **options)
        self.tested_gate = nn.Conv2d(in_channels, 1, 1)

    def join(self, skip, x):
        gate = self.tested_gate(torch.cat([skip, x], 1)).sigmoid()
        return torch.cat([skip * gate, x], 1)

    patch.setattr(Up, "__init__", init_with_gate)
    patch.setattr(Up, "join", join)


def standardised(patch):
    def block(layers):
        for layer in layers:
            if type(layer) is nn.Conv2d:
                layer.__class__ = Standardised
        return layers

    rewritten_block(patch, block)


ANEW = [residual, gated, standardised]


@pytest.mark.parametrize("rewrite", ANEW)
@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_rewritten_network_predicts_as_itself_and_is_folded(rewrite, batch_norm, monkeypatch):
    rewrite(monkeypatch)
    assert not isinstance(assert_predicts_as_itself(network(batch_norm=batch_norm)), Evaluation)


def far_from_zero(model: UNet) -> UNet:
    nn.init.constant_(model.conv_1x1.bias, 1e4)
    return model


@pytest.mark.parametrize(
    ("change", "precision", "factor", "dtype"),
    [
        (nn.Module.float, "fp32", 1.02, torch.float32),
        (nn.Module.double, "fp32", 1.001, torch.float64),
        (nn.Module.half, "fp32", 1.05, torch.float16),
        (nn.Module.float, "fp32", torch.nan, torch.float32),
        (far_from_zero, "fp32", 1.0001, torch.float32),
        (nn.Module.float, "bf16", 1.2, torch.bfloat16),
        (nn.Module.float, "bf16", 1.02, torch.float32),
    ],
)
def test_a_copy_that_is_off_is_told_and_not_used(change, precision, factor, dtype, monkeypatch):
    def off(_, __, logits):
        return logits * factor if logits.dtype == dtype else logits

    def spoil(model: UNet) -> UNet:
        copied = fold(model)
        copied.conv_1x1.register_forward_hook(off)
        return copied

    model = change(network())
    monkeypatch.setattr(folding, "fold", spoil)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = [for_prediction(model, precision) for _ in range(3)]
    assert all(isinstance(net, Evaluation) for net in found)
    assert len(caught) == 1 and "itself predicts" in str(caught[0].message)


OPTIONS = [{}, {"padding": "valid"}, {"batch_norm": False, "depth": 3, "width": 5}]


@pytest.mark.parametrize(
    ("rewrite", "options"),
    [(None, options) for options in OPTIONS] + [(rewrite, {}) for rewrite in ANEW],
)
def test_figures_are_those_of_the_trained_network(rewrite, options, streets, tmp_path, monkeypatch):
    if rewrite:
        rewrite(monkeypatch)
    recipe = tiny(streets, **{"epochs": 2, "lr": 0.02, "precision": "fp32", **options})
    train, val = make_loaders(recipe)
    model = make_model(recipe)
    first, record = fit(model, train, val, recipe, tmp_path)
    assert record["train_loss"] < first["train_loss"]
    accuracy = MulticlassAccuracy(19, ignore_index=255, average="micro")
    model.eval()
    with torch.no_grad():
        for images, labels in val:
            accuracy.update(model(images, full_image=True).argmax(1), labels.long())
    assert record["val_accuracy"] == pytest.approx(accuracy.compute().item(), abs=1e-3)

    loaded = load_model(tmp_path / "last.pt")
    image = images[0]
    with torch.no_grad():
        expected = model(image[None], full_image=True)[0].argmax(0)
    loaded.downscale = 1
    assert (predict(loaded, image, precision="fp32") == expected).float().mean() > 0.999


@pytest.mark.slow
@pytest.mark.parametrize("rewrite", [None, *ANEW])
def test_an_onnx_file_is_compared_with_the_network_itself(rewrite, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    if rewrite:
        rewrite(monkeypatch)
    model, path = network().eval(), tmp_path / "x.onnx"
    other = network(seed=1).eval()  # what would predict if the copy had a part in this
    monkeypatch.setattr(folding, "_fold_and_compare", lambda *_: other)
    assert export(model, path) > 0.999
    assert agreement(other, path, False, noise_for(other, None)) < 0.9


def test_the_copy_is_made_once_and_anew_when_the_network_changes(monkeypatch):
    made = []
    monkeypatch.setattr(folding, "fold", lambda model: made.append(1) or fold(model))
    model = network()
    weight, norm = model.conv_1x1.weight, model.contracting[0][1]

    def predictions() -> int:
        made.clear()
        for _ in range(2):
            assert_predicts_as_itself(model)
        return len(made)

    def negate_the_logits() -> None:
        handles.append(model.conv_1x1.register_forward_hook(lambda _, __, output: output.neg()))

    assert (predictions(), predictions()) == (1, 0)
    handles = []
    for change in (
        lambda: weight.mul_(2),
        lambda: model.conv_1x1.bias.data[3].add_(0.1),  # which counts no change
        lambda: weight.neg_(),  # which leaves the norm as it was
        lambda: setattr(weight, "data", weight.neg()),  # and counts no change
        lambda: norm.running_mean.add_(1),
        lambda: model.load_state_dict(network(seed=1).state_dict()),
        lambda: model.contracting[0].__setitem__(2, nn.LeakyReLU()),
        lambda: setattr(model.contracting[0][2], "negative_slope", 0.5),
        negate_the_logits,
        lambda: handles[0].remove(),
    ):
        with torch.no_grad():
            change()
        assert predictions() == 1
    monkeypatch.setattr(Up, "join", lambda self, skip, x: torch.cat([skip / 2, x], 1))
    assert (predictions(), predictions()) == (2, 0)  # the second one concatenates
    for_prediction(model, "bf16")
    assert made


def test_weights_that_do_not_count_their_changes_are_folded_each_time():
    with torch.inference_mode():
        model = network()
        before = for_prediction(model)(IMAGES)
        model.conv_1x1.weight.mul_(2)
        assert not isinstance(assert_predicts_as_itself(model), Evaluation)
        assert not torch.equal(for_prediction(model)(IMAGES), before)
