"""Sentences on depth and purity: all that is known, and that something is not."""

import numpy as np

from psflib.injection import words
from tests.fake_products import injection_table


def test_limits_in_words():
    meta = injection_table(np.random.default_rng(2)).meta
    (text,) = words.depth(meta)
    limits = meta["completeness"]
    assert f"50 % are found at {limits['all']['flux_50']:.4g}" in text
    assert "near bright stars" in text and "mag" not in text
    limits["all"] |= {"mag_50": 21.5}
    assert "21.50 mag" in next(words.depth(meta))


def test_what_is_not_known_is_said():
    assert list(words.depth({})) == [] and list(words.false_alarms({})) == []
    assert "not known" in next(words.depth({"completeness": {}}))
    few = {"completeness": {"all": {"flux_50": 5.0, "flux_50_err": 1.0, "plateau": 0.8,
                                    "plateau_err": 0.1}}}  # fmt: skip
    assert "90 % are found at no brightness" in next(words.depth(few))


def test_false_alarms_in_words():
    meta = {"expected_alarms": 0.31, "alarms_flipped": 4}
    assert "purity" not in next(words.false_alarms(meta))
    (text,) = words.false_alarms(meta | {"alarms_halves": 1.2, "purity": 0.94, "purity_err": 0.03})
    assert "94 ± 3 %" in text and "1.2" in text and "4 clean candidates" in text
