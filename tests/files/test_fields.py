"""The table of images: what it may look like and what is said of a wrong one."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from psflib.errors import BadFile, BadImage, BadTable
from psflib.files import read_fields

GOOD = "field,epoch,image\na,template,t.fits\na,e1,s1.fits\n"


@pytest.fixture
def table(tmp_path):
    """Write text as a table and return its path."""

    def write(text, encoding="utf-8"):
        path = tmp_path / "fields.csv"
        path.write_text(text, encoding=encoding)
        return path

    return write


def problems(path):
    with pytest.raises(BadTable) as caught:
        read_fields(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_fields_epochs_rows(table):
    path = table(GOOD + "a,e2,/data/s2.fits\nb+1,template,sub/t.fits\nb+1,2020-01-01.r,s.fits\n")
    fields = read_fields(path)
    assert fields.fields == ["a", "b+1"]
    assert fields.epochs("a") == ["e1", "e2"] and fields.epochs("b+1") == ["2020-01-01.r"]
    assert fields.row("a", "e2").image == Path("/data/s2.fits")
    assert fields.row("b+1", "template").image == path.parent / "sub" / "t.fits"
    assert fields.row("a", "e1").line == 3


def test_unknown_field_and_epoch(table):
    fields = read_fields(table(GOOD))
    with pytest.raises(ValueError, match="has no epoch 'e3', only template, e1"):
        fields.row("a", "e3")
    with pytest.raises(ValueError, match="no field 'b'"):
        fields.epochs("b")


@pytest.mark.parametrize(
    "text",
    [
        "# made by hand\n\n field , epoch,image \n\n a ,template, t.fits\n# x\n,,\na,e1, s1.fits",
        GOOD.replace("\n", "\r\n"),
        GOOD.replace(",", ";"),
        GOOD.replace(",", "\t"),
        GOOD.replace("t.fits", '"t.fits"'),
        "\ufeff" + GOOD,
        "image,gain,epoch,field\nt.fits,,template,a\ns1.fits,,e1,a\n",
        "field,epoch,image,gain\na,template,t.fits\na,e1,s1.fits,\n",
    ],
)
def test_tolerated(table, text):
    fields = read_fields(table(text))
    assert fields.epochs("a") == ["e1"]
    assert fields.row("a", "template").image.name == "t.fits"
    assert fields.row("a", "e1").gain is None


def test_optional_columns(table):
    fields = read_fields(
        table(
            "field,epoch,image,hdu,mask,mask_hdu,weight,weight_hdu,gain,read_noise,saturation\n"
            "a,template,t.fits,SCI,,3,w.fits,,1.8,0,6e4\na,e1,s.fits,1,m.fits,DQ,,,,,\n"
        )
    )
    row = fields.row("a", "template")
    assert (row.hdu, row.mask, row.mask_hdu, row.weight.name) == ("SCI", None, 3, "w.fits")
    assert (row.gain, row.read_noise, row.saturation) == (1.8, 0.0, 6e4)
    assert fields.row("a", "e1").hdu == 1 and fields.row("a", "e1").variance is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("image", "imge", "line 1: unknown column 'imge'; did you mean 'image'?"),
        ("image", "imge", "line 1: no column 'image'"),
        (",image", "", "no column 'image'"),
        ("image", "image,colour", "unknown column 'colour'. Known columns: field, epoch"),
        ("image", "image,image", "column 'image' stands there twice"),
        ("a,e1", "a,template", "line 3: field 'a', epoch 'template' stands already in line 2"),
        ("a,e1", "A,template", "line 3: field 'A', epoch 'template' stands already in line 2"),
        ("a,template", "b,template", "line 3: field 'a' has no template. Add a row"),
        ("a,template", "a,Template", "(is 'Template' meant as one?)"),
        ("a,e1", "b,e1", "line 2: field 'a' has only a template"),
        ("a,e1", "b,e1", "or ask for PSFs alone (until=psf)"),
        ("a,e1,s1.fits", "a,e1", "line 3: image is empty"),
        ("a,e1,s1.fits", "a,,s1.fits", "line 3: epoch is empty"),
        ("a,e1,s1.fits", ",e1,s1.fits", "line 3: field is empty"),
        ("a,e1", "a/b,e1", "line 3: field: 'a/b' cannot name a folder"),
        ("a,e1", "a,..", "line 3: epoch: '..' cannot name a folder"),
        ("a,e1", "logs,e1", "'logs' is the name of another output"),
        ("s1.fits", "s1.fits,5", "line 3: 4 cells for 3 columns"),
    ],
)
def test_refused(table, old, new, said):
    assert said in problems(table(GOOD.replace(old, new, 1)))


@pytest.mark.parametrize("left", ["template", "e1"])
def test_a_table_of_templates_or_of_epochs_alone_is_one_of_psfs(table, left):
    rows = [line for line in GOOD.splitlines() if left in line or "field" in line]
    fields = read_fields(table("\n".join(rows) + "\n"))
    assert fields.images("a") == [left] and not fields.differences
    assert fields.row("a", left).epoch == left
    assert fields.epochs("a") == [e for e in (left,) if e != "template"]
    with pytest.raises(ValueError, match="has no epoch 'x'"):
        fields.row("a", "x")


def test_any_table_is_one_of_psfs_on_request(table):
    path = table(GOOD + "b,template,t.fits\nc,Template,t.fits\n")
    assert "field 'b' has only a template" in problems(path)
    assert read_fields(path, until="psf").fields == ["a", "b", "c"]
    assert read_fields(table(GOOD)).differences
    assert read_fields(table(GOOD)).images("a") == ["template", "e1"]


@pytest.mark.parametrize(
    ("column", "cell", "said"),
    [
        ("gain", "x", "line 2: gain: 'x' is not a number"),
        ("gain", "0", "line 2: gain: 0 is not positive"),
        ("gain", "-1.5", "line 2: gain: -1.5 is not positive"),
        ("gain", "nan", "nan is not positive"),
        ("saturation", "inf", "inf is not positive"),
        ("read_noise", "-3", "-3 is not zero or positive"),
        ("hdu", "-1", "-1 is no HDU"),
        ("format", "zft", "'zft' is not known; did you mean 'ztf'?"),
        ("mask_bits", "1;-2", "mask_bits: '1;-2' is neither a number"),
        ("mask_codes", "?", "mask_codes: '?' is neither a number"),
        ("sigma", "t.fits", "Say in sigma_hdu"),
        ("mask", "t.fits", "Say in mask_hdu"),
    ],
)
def test_refused_cells(table, column, cell, said):
    text = f"field,epoch,image,{column}\na,template,t.fits,{cell}\na,e1,s.fits,\n"
    assert said in problems(table(text))


@pytest.mark.parametrize("pair", [("variance", "weight_hdu"), ("variance_hdu", "sigma"),
                                  ("sigma_hdu", "weight")])  # fmt: skip
def test_two_planes_of_noise(table, pair):
    text = f"field,epoch,image,{pair[0]},{pair[1]}\na,template,t.fits,2,3\na,e1,s.fits,,\n"
    first, second = (name.removesuffix("_hdu") for name in pair)
    assert f"line 2: both a {first} and a {second} are given" in problems(table(text))


def test_two_ways_to_say_what_is_bad(table):
    text = "field,epoch,image,mask_bits,mask_ignore\na,template,t.fits,2,3\na,e1,s.fits,,\n"
    assert "line 2: mask_bits and mask_ignore say each what is bad" in problems(table(text))


def test_columns_of_formats(table, tmp_path):
    text = (
        "field,epoch,image,format,mask_ignore,sigma,sigma_hdu\n"
        "a,template,x_sciimg.fits,ztf,1 DETECTED 0x22,s.fits,ERR\na,e1,s.fits,,,,\n"
    )
    rows = read_fields(table(text))
    row, other = rows.row("a", "template"), rows.row("a", "e1")
    assert (row.format, other.format) == ("ztf", "auto")
    assert row.mask_ignore == (1, "DETECTED", 1, 5) and other.mask_ignore is None
    assert (row.sigma, row.sigma_hdu) == (tmp_path / "s.fits", "ERR")
    # the mask that the format implies is an input of the workflow, too
    assert row.files == [tmp_path / f for f in ("x_sciimg.fits", "s.fits", "x_mskimg.fits")]


def test_all_problems_at_once(table):
    text = "field,epoch,image,gain\na,template,t.fits,x\na,e1,,0\nb,e1,s.fits,\n"
    said = problems(table(text))
    assert "4 problems" in said
    assert [s.split(":")[0].strip() for s in said.splitlines()[1:]] == [
        "line 2",
        "line 3",
        "line 3",
        "line 4",
    ]


@pytest.mark.parametrize("text", ["", "\n\n# nothing\n", "field,epoch,image\n"])
def test_empty(table, text):
    problems(table(text))


def test_unreadable(tmp_path):
    with pytest.raises(BadFile, match="no such file"):
        read_fields(tmp_path / "no.csv")
    (tmp_path / "a.csv").write_bytes(b"field,\xff\xfe\x00")
    with pytest.raises(BadFile, match="UTF-8"):
        read_fields(tmp_path / "a.csv")
    with pytest.raises(BadFile, match="cannot be read"):
        read_fields(tmp_path)


def test_row_reads_its_image(table, tmp_path):
    text = "field,epoch,image,hdu,mask_hdu,gain\na,template,t.fits,SCI,DQ,2.5\na,e1,no.fits,,,\n"
    pixels = np.arange(12, dtype=np.float32).reshape(3, 4)
    hdus = [fits.ImageHDU(pixels, name="SCI"), fits.ImageHDU((pixels == 5) * 1, name="DQ")]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "t.fits")
    path = table(text)
    exposure = read_fields(path).row("a", "template").read()
    assert exposure.gain == 2.5 and not exposure.usable[1, 1] and exposure.usable.sum() == 11
    assert (exposure.meta["field"], exposure.meta["epoch"]) == ("a", "template")
    with pytest.raises(BadFile, match=r"no\.fits: no such file.*fields\.csv, line 3"):
        read_fields(path).row("a", "e1").read()
    fits.writeto(tmp_path / "no.fits", pixels * np.nan)
    with pytest.raises(BadImage, match=r"finite.*fields\.csv, line 3"):
        read_fields(path).row("a", "e1").read()
