"""What the embedded model knows of cities and their countries, through the calls that a reader of the README types.

Seven layers of thirty, so that the test takes half a minute; which one is reported is chosen on calibration entities.
"""

import pytest

import probes
from probes import Site

LAYERS = (0, 1, 12, 15, 18, 21, 24)


@pytest.mark.embedded
def test_cities_are_known_beyond_every_control_and_the_sign_flips_on_negated_sentences(embedded_model):
    topic = probes.load_topic("cities")
    acts = probes.capture(embedded_model, topic.statements(), [Site("resid_post", layer) for layer in LAYERS])
    found = probes.sweep(acts, estimators=["logistic", "lda"], seed=0)
    found = found.with_controls(probes.controls(found, embedded_model))
    figures = found.best.controls

    assert figures["auroc"].value >= 0.90
    assert figures["auroc"].lower > figures["random_95"].upper, "200 random directions"
    assert figures["auroc"].lower > figures["shuffled_95"].upper, "200 shuffles by entity"
    assert figures["auroc"].lower > figures["noise_fits_95"].upper
    assert figures["over_bag_of_words"].lower > 0
    assert figures["over_log_probability"].lower > 0
    assert abs(figures["bag_of_words"].value - 0.5) < 0.05, "else the statements give their labels away"

    early = [row.test.upper for row in found.rows if row.site.layer <= 1]
    assert max(early) < 0.65, "the first layers have not looked anything up yet"

    denied = probes.capture(embedded_model, topic.statements("negated"), found.site)
    flipped = probes.transfer(found.best, denied, groups=found.split.test)
    assert flipped.upper < 0.5, "a probe of affirmed sentences takes denials the wrong way round"
