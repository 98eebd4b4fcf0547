"""The page of cut-outs: a row a candidate, sortable without anything from outside."""

import base64
import io
import re

import numpy as np
from PIL import Image

from psflib import products
from psflib.report.gallery import GAP, SIDE, gallery_page
from psflib.report.sortable import sortable

pytest_plugins = ["tests.output_folder"]


def planes(folder):
    return (
        products.read_exposure(folder / "exposure.fits"),
        products.read_difference(folder / "difference.fits"),
        products.read_difference(folder / "decorrelated.fits"),
    )


def test_each_candidate_has_four_pictures_of_one_stretch(results):
    folder = results / "tiny/night1"
    found = products.read_candidates(folder / "candidates.ecsv")
    page = gallery_page(("tiny", "night1"), "t.csv", found, planes(folder), 50)
    sheets = re.findall(r'class="cut".*?base64,([^"]*)"', page)
    assert len(sheets) == len(found) > 0
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheets[0]))).convert("L"), float)
    assert sheet.shape == (SIDE, 4 * (SIDE + GAP) - GAP)
    tiles = [sheet[:, n * (SIDE + GAP) :][:, :SIDE] for n in range(4)]
    edges = [np.median(tile) for tile in tiles]
    sign = np.sign(found["snr"][0])
    middle = [tile[13:18, 13:18].mean() for tile in tiles]
    for number in (2, 3):  # the difference and the decorrelated one show it, in its sign
        assert sign * (middle[number] - edges[number]) > 20
    # science less template is the difference, on the one stretch the sky of all is alike
    assert np.ptp(edges) < 25
    assert "http" not in page.replace("http://www.w3.org", "")
    assert f"{len(found)} candidates above 5 sigma" in page


def test_a_page_without_rows_and_one_cut_short(results):
    folder = results / "tiny/night1"
    found = products.read_candidates(folder / "candidates.ecsv")
    none = gallery_page(("p", "q"), "t.csv", found[:0], planes(folder), 50)
    assert "0 candidates" in none and '<img class="cut"' not in none
    one = gallery_page(("p", "q"), "t.csv", found, planes(folder), 1)
    assert one.count('<img class="cut"') == 1
    if len(found) > 1:
        assert "the strongest 1 of them here" in one


def test_cells_carry_what_is_sorted_by():
    table = products.tables.QTable(
        {"snr": [10.04, np.nan], "flags": ["clean", "a<b"], "clean": [True, False], "id": [1, 2]}
    )
    text = sortable(table, table.colnames, ("picture", ["A", "B"]))
    assert '<td data-value="10.04">10.0</td>' in text and '<td data-value=""></td>' in text
    assert "a&lt;b" in text and "a<b" not in text
    assert text.count("<button") == 4 and "<th>picture</th>" in text
