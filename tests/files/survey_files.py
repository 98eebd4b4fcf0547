"""A sky of known truth, written as each survey hands out its images.

The numbers of bits and codes, names of HDUs and units below are those of the surveys' documents
(sources in psflib/files/formats.yaml), written down here a second time on purpose.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

N = 320
SKY, READ_NOISE, FULL = 900.0, 8.0, 9e4  # e-
FWHM = 3.6


@dataclasses.dataclass(frozen=True)
class Sky:
    """Electrons (N, N): what was seen, the light of the stars alone, and the true variance."""

    seen: np.ndarray
    light: np.ndarray
    variance: np.ndarray
    full: np.ndarray  # saturated
    dead: np.ndarray  # a blemish, away from stars
    near: np.ndarray  # around bright stars: what a survey marks as detected

    @property
    def bad(self):
        return self.full | self.dead


@dataclasses.dataclass(frozen=True)
class Written:
    """What a survey wrote, and the truth in the unit of its pixels."""

    path: Path
    light: np.ndarray
    variance: np.ndarray
    bad: np.ndarray
    gain: float | None = None  # what must be known of it; None: nothing may be
    saturation: float | None = None
    companions: tuple[Path, ...] = ()


def make_sky(seed=1) -> Sky:
    """Stars on a flat sky."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:N, :N]
    light = np.zeros((N, N))
    for _ in range(70):
        cx, cy = rng.uniform(10, N - 10, 2)
        flux = 10 ** rng.uniform(3.8, 6.3)
        s2 = (FWHM / 2.3548) ** 2
        light += flux / (2 * np.pi * s2) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * s2))
    variance = light + SKY + READ_NOISE**2
    seen = light + SKY + rng.normal(size=light.shape) * np.sqrt(variance)
    full = seen >= FULL
    dark = light < 1
    dead = np.zeros_like(full)
    dead[100:103, 40:60] = True
    dead &= dark
    return Sky(np.minimum(seen, FULL), light, variance, full, dead, (light > 200) & ~full)


def tan_header(**cards) -> fits.Header:
    header = fits.Header()
    header.update(
        CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=150.0, CRVAL2=20.0, CRPIX1=N / 2 + 0.5,
        CRPIX2=N / 2 + 0.5, CD1_1=-7e-5, CD1_2=0.0, CD2_1=0.0, CD2_2=7e-5, RADESYS="ICRS",
    )  # fmt: skip
    header.update(cards)
    return header


def pixel_to_sky():
    """Positions (deg) of some pixels by `tan_header`."""
    return WCS(tan_header()).all_pix2world([[0, 0], [N - 1, 40]], 0)


def image(array, header=None, name=None, kind=fits.ImageHDU):
    return kind(np.asarray(array), header, name=name) if name else kind(np.asarray(array), header)


def f4(array):
    return np.asarray(array, np.float32)


def save(path, *hdus, primary=None):
    first = fits.PrimaryHDU()
    first.header.update(primary or {})
    fits.HDUList([first, *hdus]).writeto(path)
    return path


def single(path, array, header):
    fits.PrimaryHDU(np.asarray(array), header).writeto(path)
    return path


def bits(sky, dead, full, near, dtype):
    """A mask: the values of the bits for a blemish, saturation and what is no defect."""
    plane = np.zeros((N, N), dtype)
    for where, value in ((sky.dead, dead), (sky.full, full), (sky.near, near)):
        plane[where] |= dtype(value)
    return plane


def codes(sky, dead, full, near):
    plane = np.zeros((N, N), np.int16)
    for where, code in ((sky.near, near), (sky.dead, dead), (sky.full, full)):
        plane[where] = code
    return plane


def psflib(folder, sky):
    from psflib import products
    from psflib.image.exposure import Exposure, MaskBit

    mask = bits(sky, MaskBit.BAD, MaskBit.SAT, MaskBit.DETECTED, np.uint16)
    exposure = Exposure(
        sky.seen - SKY, sky.variance, mask, WCS(tan_header()), gain=1.0, saturation=FULL,
        sky=SKY, mask_bits="psflib",
    )  # fmt: skip
    products.write_exposure(folder / "exposure.fits", exposure)
    return Written(folder / "exposure.fits", sky.light, sky.variance, sky.bad, 1.0, FULL)


def ztf(folder, sky):
    g, name = 6.2, "ztf_20200101_000570_zr_c01_o_q1"
    cards = {"ORIGIN": "Zwicky Transient Facility", "INSTRUME": "ZTF/MOSAIC"}
    header = tan_header(GAIN=g, SATURATE=FULL / g, READNOI=8.0, **cards)
    path = single(folder / f"{name}_sciimg.fits", f4(sky.seen / g), header)
    mask = bits(sky, 1 << 9, 1 << 8, (1 << 1) | (1 << 11), np.int16)
    other = single(folder / f"{name}_mskimg.fits", mask, tan_header())
    return Written(
        path, sky.light / g, sky.variance / g**2, sky.bad, g, FULL / g, (other,)
    )  # fmt: skip


def ztf_ref(folder, sky):
    g, name = 6.2, "ztf_000570_zr_c01_q1_{}.fits"
    path = single(folder / name.format("refimg"), f4(sky.seen / g), tan_header(MAGZP=26.3))
    sigma = single(folder / name.format("refunc"), f4(np.sqrt(sky.variance) / g), tan_header())
    return Written(
        path, sky.light / g, sky.variance / g**2, np.zeros((N, N), bool), companions=(sigma,)
    )  # fmt: skip


def ptf(folder, sky):
    g, name = 1.7, "PTF_201001010000_i_p_{}_t0000_u000_f02_p100037_c05.fits"
    header = tan_header(GAIN=g, IMAGEZPT=22.9, EXPTIME=60.0, SATURATE=FULL / g)
    path = single(folder / name.format("scie"), f4(sky.seen / g), header)
    mask = bits(sky, 1 << 9, 1 << 8, 1 << 1, np.int16)
    other = single(folder / name.format("mask"), mask, tan_header())
    return Written(path, sky.light / g, sky.variance / g**2, sky.bad, g, FULL / g, (other,))


def ps1(folder, sky):
    g, name = 1.2, "rings.v3.skycell.0960.017.stk.r.unconv"

    def asinh(array, softening, offset):
        return 2.5 * np.log10(np.e) * np.arcsinh((array - offset) / (2 * softening))

    def hdu(array, softening, offset):
        header = tan_header(BSOFTEN=softening, BOFFSET=offset, EXPTIME=700.0)
        header["HIERARCH CELL.GAIN"] = g
        stretched = asinh(array, softening, offset)
        made = image(stretched, header)
        low, high = stretched.min(), stretched.max()
        made.scale("int16", bscale=(high - low) / 64000, bzero=(high + low) / 2)
        return made

    path = save(folder / f"{name}.fits", hdu((sky.seen - SKY) / g, 220.0, 7.0))
    weight = save(folder / f"{name}.wt.fits", hdu(sky.variance / g**2, 90.0, 3.0))
    mask = bits(sky, 0x1, 0x20, 0x1000 | 0x8000, np.uint16)
    header = fits.Header()
    named = {"DETECTOR": 1, "FLAT": 2, "DARK": 4, "BLANK": 8, "CTE": 16, "SAT": 32, "LOW": 64,
             "SUSPECT": 128, "CR": 256, "SPIKE": 512, "GHOST": 1024, "STREAK": 2048,
             "STARCORE": 4096, "CONV.BAD": 8192, "CONV.POOR": 16384, "MARK": 32768}  # fmt: skip
    header["MSKNUM"] = len(named)
    for number, (word, value) in enumerate(named.items()):
        header[f"MSKNAM{number:02d}"], header[f"MSKVAL{number:02d}"] = word, value
    header["HIERARCH MASK.VALUE"] = 8575
    other = save(folder / f"{name}.mask.fits", image(mask, header))
    return Written(
        path, sky.light / g, sky.variance / g**2, sky.bad, g, None, (weight, other)
    )  # fmt: skip


def _lsst(folder, sky, names, planes, scale, **cards):
    mask_header = fits.Header()
    for word, bit in planes.items():
        mask_header[f"HIERARCH MP_{word}"] = bit
    value = {word: 1 << bit for word, bit in planes.items()}
    mask = bits(
        sky, value["BAD"] | value["NO_DATA"], value["SAT"] | value["INTRP"], value["DETECTED"],
        np.int32,
    )  # fmt: skip
    hdus = (
        image(f4((sky.seen - SKY) * scale), tan_header(), names[0]),
        image(mask, mask_header, names[1]),
        image(f4(sky.variance * scale**2), None, names[2]),
    )
    path = save(folder / "calexp.fits", *hdus, primary={"GAIN": 3.0, **cards})
    return Written(path, sky.light * scale, sky.variance * scale**2, sky.bad)


_LSST_PLANES = ("BAD", "SAT", "INTRP", "CR", "EDGE", "DETECTED", "DETECTED_NEGATIVE", "SUSPECT")


def hsc(folder, sky):
    planes = {n: i for i, n in enumerate((*_LSST_PLANES, "CROSSTALK", "NO_DATA", "UNMASKEDNAN"))}
    return _lsst(folder, sky, (None, None, None), planes, 1 / 3.0, INSTRUME="HSC")


def lsst(folder, sky):
    planes = {n: i for i, n in enumerate((*_LSST_PLANES, "NO_DATA"))}
    return _lsst(folder, sky, ("IMAGE", "MASK", "VARIANCE"), planes, 0.9)


def _cp(folder, sky, instrument, unit, header, weight, scale, gain, saturation):
    names = [f"c4d_200101_000000_{kind}_r_v1.fits.fz" for kind in ("ooi", "oow", "ood")]
    primary = {"INSTRUME": instrument, "PLVER": "V4.8.2", "PROCTYPE": "InstCal", **unit}
    weight = f4(weight)
    weight[sky.dead] = 1e-9 * np.median(weight)  # what fpack makes of zeros
    mask = codes(sky, dead=1, full=3, near=7)
    planes = (f4(sky.seen * scale), weight, mask)
    paths = []
    for name, plane in zip(names, planes, strict=True):
        hdus = [image(plane[::-1], None, "N3"), image(plane, tan_header(**header), "N4")]
        paths.append(save(folder / name, *hdus, primary=primary))
    light, variance = sky.light * scale, sky.variance * scale**2
    return Written(paths[0], light, variance, sky.bad, gain, saturation, tuple(paths[1:]))


def decam_cp(folder, sky):
    g = 4.0
    header = {"GAINA": g, "GAINB": g, "SATURATE": FULL / g, "RDNOISEA": 8.0}
    return _cp(
        folder, sky, "DECam", {"BUNIT": "adu"}, header, g**2 / sky.variance, 1 / g, g, FULL / g
    )


def _cp_rate(folder, sky, instrument, header):
    exposure_time = 80.0
    unit = {"BUNIT": "counts/s", "EXPTIME": exposure_time}
    weight = np.full((N, N), exposure_time**2 / (SKY + READ_NOISE**2))  # without the sources' noise
    return _cp(
        folder, sky, instrument, unit, header, weight, 1 / exposure_time, exposure_time, None
    )


def mosaic3_cp(folder, sky):
    return _cp_rate(folder, sky, "mosaic3", {"GAIN": 1.9, "SATURATE": 5e4})


def ninetyprime_cp(folder, sky):
    gains = {f"GAIN{i}": 1.4 for i in range(1, 17)}
    return _cp_rate(folder, sky, "90prime", {"BUNIT": "ADU", "SATURATE": 5e4, **gains})


def des(folder, sky):
    g = 52.4
    header = tan_header(
        GAIN=g, SATURATE=FULL / g, EXPTIME=1170.0, BUNIT="COUNTS/S", PIPELINE="multiepoch",
        TILENAME="DES0353-4831", SOFTNAME="SWarp",
    )  # fmt: skip
    hdus = image(f4((sky.seen - SKY) / g), header, "SCI"), image(sky.bad * 1, None, "MSK")
    path = save(folder / "DES0353-4831_g.fits.fz", *hdus)
    return Written(path, sky.light / g, sky.variance / g**2, sky.bad, g, FULL / g)


def legacysurvey(folder, sky):
    k, name = 0.004, "legacysurvey-0001p000-{}.fits.fz"
    header = tan_header(BUNIT="nanomaggy", GAIN=4.0)
    primary = {"BRICK": "0001p000", "LEGPIPEV": "DR10.0"}
    path = save(
        folder / name.format("image-r"), image(f4((sky.seen - SKY) * k), header), primary=primary
    )
    inverse = f4(1 / (sky.variance * k**2))
    inverse[sky.dead] = 0
    weight = save(folder / name.format("invvar-r"), image(inverse))
    mask = bits(sky, 1 << 6, (1 << 3) | (1 << 14), (1 << 1) | (1 << 11) | (1 << 12), np.int32)
    other = save(folder / name.format("maskbits"), image(mask))
    return Written(
        path, sky.light * k, sky.variance * k**2, sky.bad, companions=(weight, other)
    )  # fmt: skip


def sdss_frame(folder, sky):
    g, calibration = 4.72, np.linspace(0.99, 1.01, N) * 0.0047
    header = tan_header(CAMCOL=3, FILTER="r", RUN=5754, BUNIT="nanomaggy", TELESCOP="2.5m")
    primary = fits.PrimaryHDU(f4((sky.seen - SKY) / g * calibration), header)
    path = folder / "frame-r-005754-3-0280.fits"
    fits.HDUList([primary, fits.ImageHDU(f4(calibration))]).writeto(path)
    return Written(
        path, sky.light / g * calibration, sky.variance * (calibration / g) ** 2,
        np.zeros((N, N), bool), g / np.median(calibration),
    )  # fmt: skip


def sdss_fpc(folder, sky):
    g = 4.72
    header = tan_header(CAMCOL=3, FILTER="r", SOFTBIAS=1000, BUNIT="DNs", SATURATE=FULL / g + 1000)
    pixels = np.rint(sky.seen / g + 1000).astype(np.uint16)
    path = single(folder / "fpC-005754-r3-0280.fit", pixels, header)
    return Written(
        path, sky.light / g, sky.variance / g**2, np.zeros((N, N), bool), g, FULL / g
    )  # fmt: skip


def jwst_i2d(folder, sky):
    k = 1.4e-4
    hdus = [
        image(f4(sky.seen * k), tan_header(BUNIT="MJy/sr"), "SCI"),
        image(f4(np.sqrt(sky.variance) * k), None, "ERR"),
        image(f4(np.full((N, N), 3e5)), None, "WHT"),
    ]
    path = save(folder / "jw01_t001_nircam_i2d.fits", *hdus, primary={"TELESCOP": "JWST"})
    return Written(path, sky.light * k, sky.variance * k**2, np.zeros((N, N), bool))


def hst_drz(folder, sky):
    exposure_time = 600.0
    weight = f4(np.full((N, N), exposure_time))
    weight[sky.dead] = 0
    header = tan_header(BUNIT="ELECTRONS/S", CCDGAIN=2.0)
    hdus = [
        image(f4((sky.seen - SKY) / exposure_time), header, "SCI"),
        image(weight, None, "WHT"),
    ]
    primary = {"TELESCOP": "HST", "EXPTIME": exposure_time}
    path = save(folder / "j8bt06nyq_drz.fits", *hdus, primary=primary)
    return Written(
        path, sky.light / exposure_time, sky.variance / exposure_time**2, sky.dead, exposure_time
    )


def lco(folder, sky):
    header = tan_header(GAIN=1.0, SATURATE=FULL, MAXLIN=0.9 * FULL, BUNIT="electron")
    mask = bits(sky, 1, 2, 0, np.uint8)
    hdus = [
        image(f4(sky.seen), header, "SCI"),
        image(mask, None, "BPM"),
        image(f4(np.sqrt(sky.variance)), None, "ERR"),
    ]
    path = save(folder / "lsc1m005-fa15-20200101-0001-e91.fits.fz", *hdus)
    return Written(path, sky.light, sky.variance, sky.bad, 1.0, FULL)


def cfht(folder, sky):
    g, name = 2.75, "2106094p{}.fits.fz"  # pixels end at 32760
    header = tan_header(GAIN=g, SATURATE=65536.0)
    primary = {"INSTRUME": "MegaPrime", "TELESCOP": "CFHT 3.6m"}
    pixels = f4(np.minimum(sky.seen / g, 32760))
    path = save(folder / name.format(""), image(pixels, header), primary=primary)
    good = save(folder / name.format(".weight"), image((~sky.bad).astype(np.int16)))
    return Written(
        path, sky.light / g, sky.variance / g**2, sky.bad, g, 32700.0, (good,)
    )  # fmt: skip


def euclid(folder, sky):
    g, hdus = 3.5, []
    mask = bits(sky, 1, 0x8, 0x1040000, np.int32)
    for quadrant in ("3-4.E", "3-4.F"):
        header = tan_header(GAIN=g, MAGZEROP="24.56605")
        hdus += [
            image(f4(sky.seen / g), header, f"{quadrant}.SCI"),
            image(f4(np.sqrt(sky.variance) / g), None, f"{quadrant}.RMS"),
            image(mask, None, f"{quadrant}.FLG"),
        ]
    path = save(folder / "EUC_VIS_SWL-DET-002681-00-1-0000000.fits", *hdus)
    return Written(path, sky.light / g, sky.variance / g**2, sky.bad)


def wise(folder, sky):
    g, name = 5.0, "1497p015_ac51-w1-{}-3.fits"
    path = single(folder / name.format("int"), f4(sky.seen / g), tan_header(MAGZP=20.5))
    sigma = single(folder / name.format("unc"), f4(np.sqrt(sky.variance) / g), tan_header())
    empty = np.zeros((N, N), bool)
    return Written(path, sky.light / g, sky.variance / g**2, empty, companions=(sigma,))


def unwise(folder, sky):
    k, name = 0.2, "unwise-1497p015-w1-{}-m.fits"
    path = single(folder / name.format("img"), f4((sky.seen - SKY) * k), tan_header(MAGZP=22.5))
    inverse = f4(1 / (sky.variance * k**2))
    inverse[sky.dead] = 0
    weight = single(folder / name.format("invvar"), inverse, tan_header())
    return Written(
        path, sky.light * k, sky.variance * k**2, sky.dead, companions=(weight,)
    )  # fmt: skip


def tess_ffi(folder, sky):
    seconds = 1425.6
    gains = {f"GAIN{c}": 5.2 for c in "ABCD"}
    hdus = [
        image(f4(sky.seen / seconds), tan_header(BUNIT="e-/s", **gains), "CAMERA.CCD 1.1 cal"),
        image(f4(np.sqrt(sky.variance) / seconds), None, "CAMERA.CCD 1.1 uncert"),
    ]
    path = save(folder / "tess2018206192942_ffic.fits", *hdus, primary={"TELESCOP": "TESS"})
    return Written(path, sky.light / seconds, sky.variance / seconds**2, np.zeros((N, N), bool))


def meerlicht(folder, sky):
    name = "ML1_20200101_000000_{}.fits"
    header = tan_header(GAIN=1.0, SATURATE=FULL)
    header["BB-V"] = "1.0.0"
    path = single(folder / name.format("red"), f4(sky.seen), header)
    mask = bits(sky, 1, 4, 64, np.uint8)
    other = single(folder / name.format("mask"), mask, tan_header())
    return Written(path, sky.light, sky.variance, sky.bad, 1.0, FULL, (other,))


#: Format -> what writes a file of it; the ASDF ones stand in test_roman.py.
WRITERS: dict[str, Callable[[Path, Sky], Written]] = {
    "psflib": psflib, "ztf": ztf, "ztf-ref": ztf_ref, "ptf": ptf, "ps1": ps1, "hsc": hsc,
    "lsst": lsst,
    "decam-cp": decam_cp, "mosaic3-cp": mosaic3_cp, "90prime-cp": ninetyprime_cp, "des": des,
    "legacysurvey": legacysurvey, "sdss-frame": sdss_frame, "sdss-fpc": sdss_fpc,
    "jwst-i2d": jwst_i2d, "hst-drz": hst_drz, "lco": lco, "cfht": cfht, "euclid": euclid,
    "wise": wise, "unwise": unwise, "tess-ffi": tess_ffi, "meerlicht": meerlicht,
}  # fmt: skip
