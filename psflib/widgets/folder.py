"""Which products does an output folder hold?"""

import os
from pathlib import Path

EMPTY = "run <code>make demo</code> first, or give the folder of your own run"


def output_folder(output=None) -> Path:
    """The folder asked for, else `$PSFLIB_OUTPUT`, else ``../results`` (seen from notebooks/)."""
    return Path(output or os.environ.get("PSFLIB_OUTPUT") or "../results")


def find_epochs(folder: Path, products: tuple[str, ...]) -> dict[str, list[str]]:
    """Fields and their epochs that have all the named products, both in order of their names.

    Parameters
    ----------
    folder : Path
        Output folder of a run, ``{folder}/{field}/{epoch}/{product}``; may be missing.
    products : tuple of str
        File names, for example ``("stars.ecsv",)``.

    Returns
    -------
    dict of str to list of str
        Fields without a complete epoch are left out.
    """
    found: dict[str, list[str]] = {}
    for first in sorted(folder.glob(f"*/*/{products[0]}")):
        epoch = first.parent
        if all((epoch / name).is_file() for name in products):
            found.setdefault(epoch.parent.name, []).append(epoch.name)
    return found
