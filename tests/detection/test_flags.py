"""Flags of candidates: bits, words and the bool say the same, after writing and reading too."""

import re
from pathlib import Path

import numpy as np
from astropy.table import QTable, Table

from psflib.detection.flags import CandidateFlag, set_flags, words
from psflib.products.tables import read_candidates, write_candidates


def test_words_of_every_combination():
    every = np.arange(2 * max(CandidateFlag))
    for value, said in zip(every, words(every), strict=True):
        names = [] if said == "clean" else said.split(",")
        assert sum(CandidateFlag[name.upper()] for name in names) == value
    assert len(words([])) == 0


def test_a_clean_row_is_read_as_clean_by_astropy_alone(tmp_path):
    table = QTable({"id": [1, 2, 3]})
    set_flags(table, [0, CandidateFlag.MASKED | CandidateFlag.HALO, 0])
    write_candidates(tmp_path / "candidates.ecsv", table)
    for read in (read_candidates, Table.read):
        back = read(tmp_path / "candidates.ecsv")
        assert back["clean"].tolist() == [True, False, True]
        assert (back["flags"] == "clean").tolist() == [True, False, True]
        assert back["flag"].tolist() == [0, 9, 0]
        assert back["flags"][1] == "masked,halo"


def test_the_page_on_candidates_lists_every_bit():
    page = (Path(__file__).parents[2] / "docs/candidates.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| (\d+) \| (\w+) \|", page, re.MULTILINE)
    assert told == [(str(int(f)), f.name.lower()) for f in CandidateFlag]
