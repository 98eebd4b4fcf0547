"""Real or bogus: a score in [0, 1] by which candidates are ranked, never cut.

A logistic model of few features, each a function of columns of the table and alike for both signs.
Its weights are known from simulated scenes (`PRIOR`, which `benchmarks/ranking.py` makes again)
and refined in each run: sources that were injected are real, candidates of the sign-flipped
difference are bogus, and a ridge draws the weights towards those known as far as these few tell
less.
"""

import dataclasses

import numpy as np
from astropy.table import QTable

from psflib.detection.flags import CandidateFlag
from psflib.detection.ranking_prior import PRIOR

STEPS, SETTLED = 50, 1e-8  # of Newton's method
FEWEST = 5  # examples of each kind, without which the weights stay as they are known
PSF_ERROR = 0.03  # of its peak, as the flag `shape` allows by default
LIMIT = 4.0  # standard deviations at which a feature counts no more


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking:
    """Weights of the features.

    Parameters
    ----------
    names : tuple of str
        Of the features, see `FEATURES`.
    centre, scale : ndarray (m,)
        A feature enters as (value - centre) / scale; one that is not known as 0.
    weight : ndarray (m + 1,)
        The constant last.
    spread : ndarray (m + 1,)
        Standard deviation by which a run may change them.
    """

    names: tuple[str, ...]
    centre: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    spread: np.ndarray

    def score(self, table: QTable) -> np.ndarray:
        """How likely each candidate is real (n,), if as many were bogus; NaN if nothing is known of
        it."""
        terms, known = self.terms(table)
        return np.where(known, _chance(terms @ self.weight), np.nan)

    def terms(self, table: QTable):
        """What the weights are multiplied with (n, m + 1), and whether any feature is known (n)."""
        values = features(table)
        raw = np.stack([values[name] for name in self.names], 1)
        known = np.isfinite(raw)
        scaled = np.where(known, (raw - self.centre) / self.scale, 0)
        scaled = np.clip(scaled, -LIMIT, LIMIT)
        return np.c_[scaled, np.ones(len(raw))], known.any(1)


def known_ranking() -> Ranking:
    """The ranking that simulated scenes teach."""
    names = tuple(name for name in PRIOR if name != "constant")
    columns = np.array([PRIOR[name] for name in (*names, "constant")], float).T
    centre, scale, weight, spread = columns
    return Ranking(names, centre[:-1], scale[:-1], weight, spread)


def train(real: QTable, bogus: QTable, prior: Ranking | None = None) -> Ranking:
    """Weights refined by what one run knows.

    Parameters
    ----------
    real, bogus : QTable
        Candidates: injected sources that were found, and those of the sign-flipped difference.
    prior : Ranking, optional
        Default: `known_ranking`.

    Returns
    -------
    Ranking
        `prior` itself if there are fewer than 5 examples of either.  Real sources fade, too: a
        bogus one counts as far as `prior` doubts it.
    """
    prior = known_ranking() if prior is None else prior
    parts = [prior.terms(table) for table in (real, bogus)]
    terms = [rows[known] for rows, known in parts]
    doubt = 1 - _chance(terms[1] @ prior.weight)
    enough = min(len(terms[0]), doubt.sum())
    if enough < FEWEST:
        return prior
    # both kinds count alike, and no more than the rarer one can tell
    weight = np.r_[np.full(len(terms[0]), enough / len(terms[0])), doubt * enough / doubt.sum()]
    label = np.repeat([1.0, 0.0], [len(rows) for rows in terms])
    fitted = fit(np.concatenate(terms), label, weight, prior.weight, prior.spread)
    return dataclasses.replace(prior, weight=fitted)


def rank(table: QTable, injection: QTable | None = None) -> np.ndarray:
    """Scores (n,) of the candidates of a difference, by what is known and what its run teaches.

    Parameters
    ----------
    table : QTable
        Candidates of both signs; those below 0 are what the sign-flipped difference has.
    injection : QTable, optional
        Injected sources, with `found` and the columns of the candidates that they became.
    """
    ranking = known_ranking()
    if injection is not None and len(injection) and len(table):
        found = injection[np.asarray(injection["found"], bool)]
        ranking = train(found, table[np.asarray(table["snr"]) < 0], ranking)
    return ranking.score(table)


def fit(terms, label, weight, start, spread) -> np.ndarray:
    """Weights (m,) of the logistic model of greatest posterior probability, by Newton's method.

    terms (n, m); label (n) of 0 and 1; weight (n) of the examples; start, spread (m): mean and
    standard deviation of the weights' prior.
    """
    current = np.array(start, float)
    for _ in range(STEPS):
        chance = _chance(terms @ current)
        slope = terms.T @ (weight * (label - chance)) - (current - start) / spread**2
        curve = (terms * (weight * chance * (1 - chance))[:, None]).T @ terms
        step = np.linalg.solve(curve + np.diag(1 / spread**2), slope)
        step *= min(1.0, 2.0 / max(np.abs(step).max(), 1e-300))  # from afar Newton overshoots
        current += step
        if np.abs(step).max() < SETTLED:
            break
    return current


def _chance(logit):
    return 1 / (1 + np.exp(-np.clip(logit, -50, 50)))


def features(table: QTable) -> dict[str, np.ndarray]:
    """Every feature of `FEATURES` (n,), float64, NaN where it is not known.

    A column that the table does not have is not known.
    """
    n = len(table)

    def column(name):
        if name not in table.colnames:
            return np.full(n, np.nan)
        values = table[name]
        values = getattr(values, "value", values)
        return np.ma.filled(np.ma.asarray(values, float), np.nan)

    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return {name: np.asarray(function(column), float) for name, function in FEATURES.items()}


def _log(values, low=1e-3, high=1e6):
    return np.log(np.clip(values, low, high))


def _flag(column, bit):
    return np.where(
        np.isfinite(column("flag")), (np.nan_to_num(column("flag")).astype(int) & bit) > 0, np.nan
    )


def _light(column):
    """Light of the template below, over that of the candidate."""
    return _log(np.abs(column("template_flux") / column("flux")), 0.1, 1e3)


def _misfit(column):
    """Chi-square beyond what a PSF that is wrong by `PSF_ERROR` makes of a bright source."""
    expected = 1 + np.square(PSF_ERROR * column("snr"))
    return np.maximum(_log(column("chi2") / expected, 0.01, 100.0), 0)


def _dipole(column):
    """How much better a pair fits; 0 of a candidate that has no partner."""
    gain = column("dipole_gain")
    alone = np.where(np.isfinite(column("snr")), 0.0, np.nan)
    return np.where(np.isfinite(gain), _log(gain, 0.1, 100.0), alone)


#: Name -> function of a function that gives a column by its name.
FEATURES = {
    "snr": lambda c: _log(np.abs(c("snr")), 3.0, 300.0),
    "misfit": _misfit,
    "elongation": lambda c: np.abs(_log(c("elongation"), 0.1, 10.0)),
    "extent": lambda c: np.abs(_log(c("extent"), 0.1, 10.0)),
    "narrow": lambda c: np.maximum(-_log(c("extent"), 0.1, 10.0), 0),
    "sharpness": lambda c: np.abs(_log(c("sharpness"), 0.1, 10.0)),
    "opposite": lambda c: np.clip(c("opposite"), 0, 2),
    "masked": lambda c: np.clip(c("masked"), 0, 1),
    "light": _light,
    "star": lambda c: np.exp(-c("star_distance") / c("fwhm")),
    "dipole": _dipole,
    # a source has moments; of what has none nothing is known only if its chi-square is unknown, too
    "shapeless": lambda c: np.where(np.isfinite(c("chi2")), ~np.isfinite(c("elongation")), np.nan),
    "halo": lambda c: _flag(c, CandidateFlag.HALO),
}
