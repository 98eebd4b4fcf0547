"""How deep a search went and how false its candidates are, in sentences for people."""

from collections.abc import Iterator, Mapping
from typing import Any

PLACES = {"galaxy": "on galaxies", "star": "near bright stars"}


def depth(meta: Mapping[str, Any]) -> Iterator[str]:
    """Of which brightness half, and nine tenths, of the new sources are found.

    Parameters
    ----------
    meta : mapping
        Of a table of candidates, or of injected sources.
    """
    if "completeness" not in meta:
        return
    limits = meta["completeness"]
    everywhere = limits.get("all", {})
    if "flux_50" not in everywhere:
        yield "How deep the search went is not known: too few injected sources tell."
        return
    parts = [_limit(everywhere, 50), _limit(everywhere, 90)]
    text = f"Of new sources, {', '.join(part for part in parts if part)}"
    text += f", {_percent(everywhere, 'plateau')} of the brightest"
    for place, where in PLACES.items():
        known = limits.get(place, {})
        if "flux_50" in known:
            text += f"; {where} {_limit(known, 50)}, {_percent(known, 'plateau')} of the brightest"
    yield f"{text} (by injected sources)."


def false_alarms(meta: Mapping[str, Any]) -> Iterator[str]:
    """How many candidates may be false.

    Parameters
    ----------
    meta : mapping
        Of a table of candidates.
    """
    if "expected_alarms" not in meta:
        return
    text = f"Gaussian noise would make {meta['expected_alarms']:.2g} peaks above the threshold"
    if "alarms_halves" in meta:
        text += f", the noise of the sky itself makes {meta['alarms_halves']:.2g}"
    text += f"; the sign-flipped difference has {meta['alarms_flipped']} clean candidates"
    text += " (sources that faded among them)"
    if "purity" in meta:
        text += f": {_percent(meta, 'purity')} of the clean positive candidates are true, or more"
    if "purity_dark" in meta:
        text += f"; where the template has no light, {_percent(meta, 'purity_dark')}"
    yield f"{text}."


def _limit(limits, share):
    """50 % are found at 460 ± 17 ADU (S/N 4.9, 22.31 mag); '' where it is not known."""
    if f"flux_{share}" not in limits:
        return f"{share} % are found at no brightness that was tried"
    more = [f"S/N {limits[f'snr_{share}']:.1f}"] if f"snr_{share}" in limits else []
    if f"mag_{share}" in limits:
        more.append(f"{limits[f'mag_{share}']:.2f} mag")
    flux, error = limits[f"flux_{share}"], limits[f"flux_{share}_err"]
    return f"{share} % are found at {flux:.4g} ± {error:.2g} ADU ({', '.join(more)})"


def _percent(numbers, name):
    value, error = 100 * numbers[name], 100 * numbers[f"{name}_err"]
    return f"{value:.0f} ± {error:.0f} %" if error >= 0.5 else f"{value:.1f} ± {error:.1f} %"
