"""What a reader must know of a core PSF before trusting it, in words."""

from collections import Counter

import numpy as np

from psflib.words import NONE


def facts(psf, selection=None) -> list[tuple[str, str]]:
    """Lines (name, text) on how a core PSF was found; what is not known is left out.

    Parameters
    ----------
    psf : PsfField
    selection : QTable, optional
        The star table behind it, for the state of the stellar locus.

    Returns
    -------
    list of (str, str)
        doubts are not among them, see `doubts`.
    """
    meta, lines = psf.meta, [("order over the field", _order(psf)), ("stars", _stars(psf.stars))]
    if meta.get("reserve_chi2") is not None:
        lines.append(("χ² of the reserved stars", f"{meta['reserve_chi2']:.3f}"))
    if "model_error" in meta:
        lines.append(("model error", f"{100 * meta['model_error']:.2g} % of the light"))
    if "noise" in meta:
        lines.append(("noise", f"{meta['noise']:.3f} of what the weights say"))
    if "phases" in meta:
        lines.append(("sub-pixel phases", f"{meta['phases']:.0%} have a star"))
    if "iterations" in meta:
        end = "converged" if meta.get("converged") else "not converged"
        lines.append(("rounds", f"{meta['iterations']}, {end}"))
    if selection is not None:
        lines.append(("stellar locus", _locus(selection.meta)))
    return lines


def doubts(psf, selection=None) -> list[str]:
    """What speaks against trusting a core PSF: the notes of its solution, a doubtful locus."""
    found = [str(note) for note in psf.meta.get("notes", ())]
    state = "clear" if selection is None else selection.meta.get("locus", "clear")
    if state == "doubtful":
        found.append("stellar locus doubtful: the stars may be galaxies")
    elif state != "clear":
        found.append(f"stellar locus: {state}")
    return found


def _order(psf):
    scores = psf.meta.get("scores", {})
    tried = ", ".join(f"{degree}: {score:.3f}" for degree, score in scores.items())
    return f"{psf.order}" + (f" (mean χ² of held-out stars by order: {tried})" if tried else "")


def _stars(stars):
    ok = np.asarray(stars["ok"], bool)
    reserved, reason = is_reserved(stars), reasons(stars)
    why = ", ".join(f"{name} {n}" for name, n in Counter(reason[~ok].tolist()).most_common())
    return (
        f"{np.sum(ok & ~reserved)} fitted, {np.sum(ok & reserved)} reserved, "
        f"{np.sum(~ok)} rejected" + (f" ({why})" if why else "")
    )


def _locus(meta):
    text = str(meta.get("locus", "not known"))
    if "turn_over" in meta:
        text += f"; peaks turn over at {meta['turn_over']:.4g} ADU above the sky"
    return text


def is_reserved(stars):
    """Boolean (n,): stars of a `PsfField` that were not fitted; none if the table is silent."""
    known = "reserved" in stars.colnames
    return np.asarray(stars["reserved"] if known else np.zeros(len(stars)), bool)


def reasons(stars):
    """Reason (n,) of str why a star of a `PsfField` was rejected, "none" if it was not."""
    ok = np.asarray(stars["ok"], bool)
    said = stars["reason"] if "reason" in stars.colnames else np.full(len(stars), "rejected")
    return np.where(ok, NONE, np.asarray(said).astype(str))


def star_states(stars) -> list[str]:
    """fitted, reserved, or why it was rejected: a word for each star of a `PsfField`."""
    kept = np.where(is_reserved(stars), "reserved", "fitted")
    return [
        str(k) if why == NONE else f"rejected, {why}"
        for why, k in zip(reasons(stars), kept, strict=True)
    ]
