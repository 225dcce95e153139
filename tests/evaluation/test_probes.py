"""Probes of the figures on small networks: what they measure against the formulas, and what they refuse."""

import numpy as np
import pytest
import scipy.stats
import torch

from datamodules import ImageDataModule
from datamodules.loading import ImageArrays
from lit_scaledrop.evaluation.probes import PROBES, Subject, noise, passes, prefixes
from lit_scaledrop.evaluation.probes import posterior as histograms
from lit_scaledrop.evaluation.probes import threshold as tradeoff
from lit_scaledrop.functional.uncertainty import expected_entropy, negative_log_likelihood
from lit_scaledrop.layers.scale_dropout import ScaleDropout
from lit_scaledrop.modules.classifier import LitClassifier
from lit_scaledrop.posterior.evaluation import Evaluation
from lit_scaledrop.posterior.posterior import PosteriorPredictive
from lit_scaledrop.posterior.predictive import Predictive
from lit_scaledrop.results.measurement import flat_names

IMAGES = 24


class Noise(ImageDataModule):
    """Test images of no content."""

    name, class_names = "noise", tuple("abcdefghij")
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    def load(self):
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(256, (IMAGES, 3, 32, 32), generator=generator, dtype=torch.uint8)
        labels = torch.arange(IMAGES) % 10
        return ImageArrays(images, labels, images, labels.clone(), "made up")


def subject(method="proposed", members=1, label=None, val_fraction=0.0, **changes):
    """LeNet-5 with random weights; labels are its own predictions if ``label`` is "own"."""
    data = Noise(eval_batch_size=10, val_fraction=val_fraction)
    data.setup()
    networks = []
    for member in range(members):
        torch.manual_seed(member)
        network = LitClassifier("lenet5", method, width=0.5).network
        for layer in network.modules():
            if isinstance(layer, ScaleDropout):  # a new scale is one, as if it were dropped
                torch.nn.init.uniform_(layer.scale, 0.3, 1.7)
        networks.append(network)
    made = Subject(networks, data, **{"evaluation": Evaluation(samples=6), **changes})
    if label == "own":
        data.test_set._labels.copy_(made.predict(data.test_set.images).predicted_class)
    return made


def measured(made, probe, part):
    """Numbers of a part by flat names, without the part's own coordinates."""
    chosen = PROBES[probe]
    metrics = flat_names(chosen.measure(made, chosen.parts(made)[part]))
    assert all(type(value) is float for value in metrics.values())
    return metrics


@pytest.mark.parametrize(
    "probe",
    ["figure5", "figure6", "figure7", "posterior", "threshold", "reliability", "ablation-passes", "search-uncertainty"],
)
def test_parts_are_named_without_networks(probe):
    made = subject()
    places = PROBES[probe].parts(Subject([], made.data, made.evaluation)).values()
    assert len({tuple(at.items()) for at in places}) == len(places) > 0


def test_figure5_statistics_are_those_of_the_passes():
    from datamodules.suites.suite_noise import uniform_noise

    made = subject(label="own")
    made.data.test_set._labels[:13] = (made.data.test_set.labels[:13] + 1) % 10  # the first 13 are wrong
    metrics = measured(made, "figure5", "strength/0.4")
    assert metrics["image"] == 13
    assert metrics["label"] == made.data.test_set.labels[13]
    image = made.data.test_set.images[13:14]
    posterior = PosteriorPredictive(made.networks, noise.PASSES, seed=0)
    logits = [posterior(made.data.normalized(uniform_noise(image, 0.4, seed))).logits for seed in range(noise.SEEDS)]
    array = torch.cat(logits, 1).double().numpy()  # (passes, patterns, classes)
    for label in (0, 7):
        values = array[:, :, label]
        assert metrics[f"logits/class/{label}/mean"] == pytest.approx(values.mean(), abs=1e-4)
        assert metrics[f"logits/class/{label}/variance"] == pytest.approx(values.var(0).mean(), rel=1e-3)
        assert metrics[f"logits/class/{label}/low"] == pytest.approx(
            np.quantile(values, 0.025, axis=0).mean(), abs=1e-3
        )
        assert metrics[f"logits/class/{label}/high"] == pytest.approx(
            np.quantile(values, 0.975, axis=0).mean(), abs=1e-3
        )
    probs = scipy.special.softmax(array, -1)[:, :, 3]
    assert metrics["probs/class/3/variance"] == pytest.approx(probs.var(0).mean(), rel=1e-3)
    assert sum(metrics[f"probs/class/{label}/mean"] for label in range(10)) == pytest.approx(1)


def test_figure5_without_noise_does_not_depend_on_the_pattern():
    made = subject(label="own")
    metrics = measured(made, "figure5", "strength/0")
    clean = made.predict(made.data.test_set.images[:1], samples=noise.PASSES)
    assert metrics["image"] == 0
    assert metrics["unc/expected_entropy"] == pytest.approx(expected_entropy(clean.probs).item(), rel=1e-4)


def test_figure5_needs_one_image_that_is_right():
    made = subject(label="own")
    made.data.test_set._labels.add_(1).remainder_(10)
    with pytest.raises(ValueError, match="none of the 24 test images is classified correctly"):
        measured(made, "figure5", "strength/0")


def labelled(made):
    """A network that is right on two of three images, so that it is neither sure nor at a loss."""
    for part in (made.data.val_set, made.data.test_set):
        own = made.predict(part.images).predicted_class
        part._labels[part.indices] = torch.where(torch.arange(len(own)) % 3 > 0, own, (own + 1) % 10)
    return made


def test_table9_chooses_rule_and_temperature_on_the_validation_split():
    made = labelled(subject(val_fraction=0.5))
    found = {tuple(one.at.items()): one.metrics for one in PROBES["table9"].measure(made, {"suite": "clean"})}
    assert len(found) == 3
    images, labels, prediction = made.validation
    assert len(images) == len(made.data.val_set) > 5
    second, tempered = found[("rule", "validation"),], found[("condition", "tempered"),]
    confidence = prediction.wide().quantile_confidence()
    accepted = (confidence >= second["sel/threshold"]).double().mean().item()
    assert 0.95 <= accepted == (confidence >= confidence.sort().values[len(confidence) // 20]).double().mean()
    _, test_labels, test = made.clean()
    assert second["sel/accept"] == (test.wide().quantile_confidence() >= second["sel/threshold"]).double().mean()
    temperature = tempered["cal/temperature"]
    right = negative_log_likelihood(prediction.wide().tempered(temperature).log_mean, labels).mean()
    for other in (temperature * 0.98, temperature * 1.02, 1.0):
        assert right <= negative_log_likelihood(prediction.wide().tempered(other).log_mean, labels).mean()
    expected = negative_log_likelihood(test.tempered(temperature).log_mean, test_labels).mean().item()
    assert tempered["cls/nll"] == pytest.approx(expected, rel=1e-5)
    assert found[()]["cls/nll"] != pytest.approx(expected, rel=1e-3)
    # test labels choose nothing
    again = labelled(subject(val_fraction=0.5))
    again.data.test_set._labels.add_(1).remainder_(10)
    assert (again.validation_threshold, again.temperature) == (second["sel/threshold"], temperature)


def test_without_a_validation_split_nothing_is_chosen():
    made = subject()
    assert (made.validation, made.validation_threshold, made.temperature) == (None, None, None)
    assert len(PROBES["table9"].measure(made, {"suite": "clean"})) == 1
    assert len(PROBES["table6"].measure(made, {"suite": "clean"})) == 1


def test_table6_asks_both_rules():
    made = subject(val_fraction=0.5)
    plain, second = PROBES["table6"].measure(made, {"suite": "uniform"})
    assert second.at == {"rule": "validation"}
    suite = made.suite("uniform")
    rejected = made.predict(suite.images).wide().quantile_confidence() < made.validation_threshold
    assert second.metrics["ood/rate"] == rejected.double().mean()
    assert plain.metrics["ood/rate"] > second.metrics["ood/rate"]


def test_the_rules_quantile_lies_on_an_atom_of_all_masks():
    """Two masks, p = 0.1: the 0.1-quantile is the kept mask's value, or the smaller of both, by interpolation."""
    images = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    network = torch.nn.Sequential(ScaleDropout(8, p=0.1), torch.nn.Linear(8, 3))
    torch.nn.init.uniform_(network[0].scale, 0.0, 3.0)
    prediction = PosteriorPredictive(network, execution="exact")(images)
    assert sorted(prediction.weights.tolist()) == pytest.approx([0.1, 0.9])
    kept = network.eval()(images).detach().softmax(-1)
    both = torch.stack([kept, network[1](images).detach().softmax(-1)])
    torch.testing.assert_close(prediction.quantile_confidence(0.1, "higher"), kept.amax(-1))
    torch.testing.assert_close(prediction.quantile_confidence(0.1, "lower"), both.amin(0).amax(-1))
    between = torch.lerp(both.amin(0), kept, 0.9).amax(-1)
    torch.testing.assert_close(prediction.quantile_confidence(0.1, "linear"), between)
    rates = {how: prediction.is_ood(0.1, 0.6, how).double().mean().item() for how in ("higher", "lower")}
    assert rates["lower"] > rates["higher"] + 0.04
    # no interpolation has a say a little below the atom or above it
    for quantile, value in ((0.04, both.amin(0)), (0.15, kept)):
        # the same distribution, each leaf counted as two of half its weight
        fine = Predictive(prediction.logits.repeat_interleave(2, 0), prediction.weights.repeat_interleave(2) / 2)
        for how in ("lower", "linear", "higher"):
            torch.testing.assert_close(fine.quantile_confidence(quantile, how), value.amax(-1))
    # 20 passes fall on either side
    by_seed = {
        PosteriorPredictive(network, 20, seed)(images).is_ood(0.1, 0.6).double().mean().item() for seed in range(8)
    }
    assert len(by_seed) > 1


def test_figure6_at_0_degrees_is_the_test_set():
    made = subject()
    _, labels, prediction = made.clean()
    assert measured(made, "figure6", "rotation/0") == pytest.approx(made.classification(prediction, labels), rel=1e-5)
    turned = measured(made, "figure6", "rotation/90")
    assert turned["unc/predictive_entropy"] != pytest.approx(prediction.predictive_entropy.mean().item(), rel=1e-6)


def test_figure7_prefixes_are_predictions_of_fewer_passes():
    made = subject()
    images, labels = made.test_images
    metrics = measured(made, "figure7", "plan/2")
    assert len(metrics) == 2 * passes.PASSES
    for count in (1, 3, passes.PASSES):
        prediction = PosteriorPredictive(made.networks, count, seed=2)(made.data.normalized(images))
        expected = made.classification(prediction, labels)
        assert metrics[f"passes/{count}/cls/acc"] == pytest.approx(expected["cls/acc"])
        assert metrics[f"passes/{count}/cls/nll"] == pytest.approx(expected["cls/nll"], rel=1e-5)
    assert metrics != measured(made, "figure7", "plan/1")


def test_figure7_asymptote_is_exact_where_it_can_be():
    made = subject()
    images, labels = made.test_images
    metrics = measured(made, "figure7", "asymptote")
    exact = PosteriorPredictive(made.networks, execution="exact")(made.data.normalized(images))
    assert metrics["exact"] == 1
    assert metrics["uncovered"] == 0
    assert metrics["passes"] == exact.num_samples
    assert metrics["cls/nll"] == pytest.approx(made.classification(exact, labels)["cls/nll"], rel=1e-5)


def test_figure7_asymptote_says_where_it_is_not_exact(monkeypatch):
    monkeypatch.setattr(passes, "REFERENCE_PASSES", 30)
    made = subject("mc_dropout_htanh")  # too many masks of features
    metrics = measured(made, "figure7", "asymptote")
    assert (metrics["exact"], metrics["passes"]) == (0, 30)


def test_figure7_is_not_about_ensembles():
    with pytest.raises(ValueError, match="an ensemble of 2"):
        measured(subject(members=2), "figure7", "plan/0")


def test_prefixes_of_impossible_classes_stay_finite():
    logits = torch.tensor([[[800.0, 0.0]], [[0.0, 800.0]]])
    rows = passes.prefix_metrics(Predictive(logits), torch.tensor([1]))
    assert [row["cls/nll"] for row in rows] == pytest.approx([800, np.log(2)])


def test_posterior_counts_and_distances(monkeypatch):
    made = subject("mc_dropout_htanh")
    monkeypatch.setattr(histograms, "PASSES", (5, 40))
    metrics = measured(made, "posterior", "image/1")
    image = made.data.normalized(made.data.test_set.images[1:2])
    logits = PosteriorPredictive(made.networks, 40, seed=0)(image).logits[:, 0].double().numpy()
    for count in (5, 40):
        values = logits[:count]
        assert metrics[f"passes/{count}/distinct"] == len(np.unique(values.round(4), axis=0))
        for label in (0, 9):
            edges = (metrics[f"class/{label}/low"], metrics[f"class/{label}/high"])
            counts = [metrics[f"passes/{count}/class/{label}/bin/{k}/count"] for k in range(histograms.BINS)]
            assert sum(counts) == count
            if count == 40:
                assert edges == pytest.approx((values[:, label].min(), values[:, label].max()), abs=1e-4)
            column = values[:, label]
            fitted = scipy.stats.kstest(column, "norm", args=(column.mean(), column.std(ddof=1)))
            assert metrics[f"passes/{count}/class/{label}/distance"] == pytest.approx(fitted.statistic, abs=1e-4)


def test_posterior_of_few_masks_has_few_outputs():
    """As many as the masks make, each of which 1,000 passes meet: the rarest has 0.1 x 0.2 x 0.5."""
    made = subject(evaluation=Evaluation(execution="auto"))
    torch.manual_seed(1)
    for layer in made.networks[0].modules():
        if isinstance(layer, ScaleDropout):
            torch.nn.init.normal_(layer.scale)  # scales of both signs, so that every mask has an output of its own
    metrics = measured(made, "posterior", "image/0")
    image = made.data.normalized(made.data.test_set.images[:1])
    outputs = PosteriorPredictive(made.networks, execution="exact", mass=1.0)(image).logits
    assert metrics["passes/1000/distinct"] == len(outputs.unique(dim=0)) == 2**3
    # a mixture is not normal
    assert metrics["passes/1000/class/0/distance"] > 2 * metrics["passes/1000/normal_distance"]


def test_posterior_of_a_deterministic_network_is_refused():
    with pytest.raises(ValueError, match="deterministic"):
        measured(subject("fp"), "posterior", "image/0")


@pytest.mark.parametrize("samples", [20, 500])
def test_distance_of_normal_numbers_shrinks_as_it_should(samples):
    generator = np.random.default_rng(0)
    simulated = []
    for _ in range(200):
        column = generator.normal(size=samples)
        simulated.append(scipy.stats.kstest(column, "norm", args=(column.mean(), column.std(ddof=1))).statistic)
    assert histograms.normal_reference(samples) == pytest.approx(np.mean(simulated), rel=0.06)
    assert histograms.normal_distance(torch.ones(5, 1)).isnan().all()


def test_threshold_grid_is_the_rule():
    made = subject()
    clean, suite = measured(made, "threshold", "clean"), measured(made, "threshold", "test_uniform")
    _, labels, prediction = made.clean()
    errors = 0
    for quantile in tradeoff.QUANTILES:
        rates = []
        for threshold in tradeoff.THRESHOLDS:
            key = f"quantile/{quantile:g}/threshold/{threshold:g}"
            flagged = prediction.is_ood(quantile, threshold)
            assert clean[f"{key}/rate"] == pytest.approx(flagged.double().mean().item())
            rates.append(suite[f"{key}/rate"])
            if not flagged.all():
                wrong = (prediction.predicted_class != labels)[~flagged].double().mean().item()
                assert clean[f"{key}/error"] == pytest.approx(wrong)
                errors += 1
            assert f"{key}/error" not in suite
        assert rates == sorted(rates)
    assert errors == sum(key.endswith("error") for key in clean) > 0


def test_reliability_bins_add_up_to_the_calibration_error():
    metrics = measured(subject(), "reliability", "clean")
    bins = [number for number in range(15) if f"bin/{number}/accuracy" in metrics]
    share, confidence, right = (
        np.array([metrics[f"bin/{number}/{name}"] for number in bins]) for name in ("share", "confidence", "accuracy")
    )
    assert share.sum() == pytest.approx(1)
    assert metrics["cal/ece"] == pytest.approx((share * abs(confidence - right)).sum())
    assert metrics["cls/acc"] == pytest.approx((share * right).sum())
    assert all((confidence > np.array(bins) / 15) & (confidence <= (np.array(bins) + 1) / 15))


def test_the_ablation_of_passes_is_of_the_first_passes_of_one_plan():
    from sklearn.metrics import roc_auc_score

    made = subject(label="own")
    images, labels = made.test_images
    clean, noise = measured(made, "ablation-passes", "clean"), measured(made, "ablation-passes", "uniform")
    assert {int(key.split("/")[1]) for key in clean} == set(prefixes.COUNTS)
    posterior = PosteriorPredictive(made.networks, prefixes.COUNTS[-1], seed=made.evaluation.seed)
    foreign = made.suite("uniform")
    inside = posterior(made.data.normalized(images)).logits.double().softmax(-1).numpy()
    outside = posterior(foreign.images if foreign.normalized else made.data.normalized(foreign.images))
    outside = outside.logits.double().softmax(-1).numpy()
    truth = np.repeat([0, 1], [len(images), len(foreign.images)])
    for count in (2, 10, 50):
        mean = inside[:count].mean(0)
        assert clean[f"passes/{count}/cls/acc"] == pytest.approx((mean.argmax(-1) == labels.numpy()).mean())
        right = mean[np.arange(len(labels)), labels.numpy()]
        assert clean[f"passes/{count}/cls/nll"] == pytest.approx(-np.log(right).mean(), rel=1e-4)
        entropies = [scipy.stats.entropy(probs[:count].mean(0), axis=-1) for probs in (inside, outside)]
        area = roc_auc_score(truth, np.concatenate(entropies))
        assert noise[f"passes/{count}/ood/auroc/predictive_entropy"] == pytest.approx(area, abs=2e-3)
    assert clean["passes/1/unc/mutual_information"] == pytest.approx(0, abs=1e-6)
    assert noise["passes/1/ood/auroc/mutual_information"] == pytest.approx(0.5, abs=0.05)
    assert made.suites["uniform"]["images"] == len(foreign.images)
    with pytest.raises(ValueError, match="counts the passes of one network"):
        measured(subject(members=2), "ablation-passes", "clean")


def test_a_search_for_uncertainty_looks_at_validation_images_and_what_is_made_of_them():
    from datamodules.suites.outliers import OUTLIERS, outliers

    made = subject(val_fraction=0.5)
    del made.data.test_set  # nothing is chosen on it
    assert list(PROBES["search-uncertainty"].parts(made)) == ["validation", *OUTLIERS]
    images, labels = made.data.val_set.images, made.data.val_set.labels
    clean = made.predict(images)
    metrics = measured(made, "search-uncertainty", "validation")
    assert metrics["val/predictive_nll"] == pytest.approx(negative_log_likelihood(clean.log_mean, labels).mean().item())
    assert metrics["val/predictive_acc"] == pytest.approx((clean.predicted_class == labels).double().mean().item())
    found = measured(made, "search-uncertainty", "jigsaw")
    inside = clean.wide().predictive_entropy
    outside = made.predict(outliers("jigsaw", images, labels).images).wide().predictive_entropy
    wins = (outside[:, None] > inside).double() + 0.5 * (outside[:, None] == inside)
    assert found["val/auroc/predictive_entropy"] == pytest.approx(wins.mean().item())
    assert made.suites["jigsaw"]["images"] == len(images)


def test_a_search_for_uncertainty_needs_a_validation_split():
    with pytest.raises(ValueError, match=r"no validation split to measure on; data.val_fraction must be above 0"):
        measured(subject(), "search-uncertainty", "validation")
