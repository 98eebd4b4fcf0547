"""One mechanism for LSST's names: both spellings, never both at once, wrong ones refused."""

import copy
import dataclasses
import inspect
import pickle
from typing import ClassVar

import numpy as np
import pytest

from psflib.image.exposure import Exposure, MaskBit
from psflib.lsst import DecorrelateALKernelConfig, DecorrelateALKernelTask, ImagePsfMatchTask
from psflib.lsst.match_result import MatchResult
from psflib.matching.cells.config import DetectionConfig, PsfMatchConfigAL
from psflib.matching.cells.spelling import Spelled, camel, to_ours


class Example(Spelled):
    theirs: ClassVar = {"doItAll": "do_all", "A": "array"}
    refused: ClassVar = {"doNothing": "there is always something to do"}

    def __init__(self, first_value=1):
        self.first_value = first_value

    def do_all(self, array, use_inverse=False, *, other_name=3):
        return array, use_inverse, other_name

    def open_to_all(self, known_name=0, **others):
        return known_name, others

    @staticmethod
    def fixed_part(some_value):
        return some_value

    @classmethod
    def make_one(cls, first_value):
        return cls(first_value=first_value)


class Child(Example):
    theirs: ClassVar = {"theChild": "child_only"}

    def child_only(self, array):
        return array


def test_names():
    assert camel("psf_matching_kernel") == "psfMatchingKernel"
    assert to_ours("psfMatchingKernel", ["psf_matching_kernel"]) == "psf_matching_kernel"
    assert to_ours("psf_matching_kernel", ["psf_matching_kernel"]) == "psf_matching_kernel"
    assert to_ours("A", ["array"], {"A": "array"}) == "array"
    assert to_ours("kernel", ["psf_matching_kernel"]) is None


class TestMethods:
    def test_every_spelling_of_name_and_arguments(self):
        one = Example()
        for method in (one.do_all, one.doAll, one.doItAll):
            assert method(1, True, other_name=5) == (1, True, 5)
            assert method(A=1, useInverse=True, otherName=5) == (1, True, 5)
            assert method(array=1, use_inverse=True) == (1, True, 3)

    def test_static_class_and_inherited(self):
        assert Example.fixedPart(someValue=4) == Example().fixedPart(4) == 4
        assert Example.makeOne(firstValue=7).firstValue == 7
        assert Child(firstValue=2).first_value == 2
        assert Child().theChild(A=3) == Child().childOnly(3) == Child().child_only(array=3) == 3
        assert isinstance(Child.makeOne(1), Child)

    def test_both_spellings_of_one_argument(self):
        with pytest.raises(TypeError, match="'use_inverse' in both spellings"):
            Example().do_all(1, useInverse=True, use_inverse=True)

    def test_wrong_arguments(self):
        with pytest.raises(TypeError, match=r"do_all.*'useInvers'; did you mean 'useInverse'"):
            Example().doAll(1, useInvers=True)
        with pytest.raises(TypeError, match=r"'use_invers'; did you mean 'use_inverse'"):
            Example().do_all(1, use_invers=True)
        with pytest.raises(TypeError, match=r"no argument 'zzz'$"):
            Example().do_all(1, zzz=True)

    def test_open_arguments_are_passed_on_unless_misspelt(self):
        assert Example().openToAll(knownName=2, zzz=4) == (2, {"zzz": 4})
        with pytest.raises(TypeError, match="did you mean 'knownName'"):
            Example().openToAll(knownNam=2)

    def test_the_signature_stays_ours(self):
        assert list(inspect.signature(Example.doItAll).parameters) == [
            "self", "array", "use_inverse", "other_name"
        ]  # fmt: skip


class TestAttributes:
    def test_read(self):
        assert Example(4).firstValue == 4
        with pytest.raises(AttributeError, match="no attribute 'firstValu'; did you mean 'first"):
            _ = Example().firstValu
        with pytest.raises(AttributeError, match=r"doNothing.*always something to do"):
            _ = Example().doNothing
        assert not hasattr(Example(), "anything_else")

    def test_copies(self):
        for again in (copy.deepcopy(Example(4)), pickle.loads(pickle.dumps(Example(4)))):
            assert again.firstValue == 4

    def test_results_are_still_values(self):
        result = MatchResult(1, 2, None, 3, metadata={"a": 1})
        assert result.matchedExposure == result.matchedImage == 1
        assert result.getDict() == {
            "matched_image": 1, "psf_matching_kernel": 2, "kernel_cell_set": 3,
            "metadata": {"a": 1},
        }  # fmt: skip
        with pytest.raises(AttributeError, match="did you mean 'psfMatchingKernel'"):
            _ = result.psfMatchingKernal
        with pytest.raises(dataclasses.FrozenInstanceError):
            result.template = 3


class TestSettings:
    def test_read_in_both_spellings(self):
        one = PsfMatchConfigAL(nStarPerCell=7)
        assert one.nStarPerCell == one.n_star_per_cell == 7
        assert one.detectionConfig.detThreshold == 10
        for again in (copy.deepcopy(one), pickle.loads(pickle.dumps(one)), one.model_copy()):
            assert again == one

    def test_wrong_names(self):
        with pytest.raises(AttributeError, match="did you mean 'nStarPerCell'"):
            _ = PsfMatchConfigAL().nStarPerCel
        with pytest.raises(ValueError, match="in both spellings"):
            PsfMatchConfigAL(nStarPerCell=7, n_star_per_cell=7)
        with pytest.raises(ValueError, match="did you mean 'ignoreMaskPlanes'"):
            DecorrelateALKernelConfig(ignoreMaskPlane=())

    @pytest.mark.parametrize("name", ["nStarPerCell", "n_star_per_cell", "other"])
    def test_frozen(self, name):
        with pytest.raises(ValueError, match=r"frozen: .* ConfigClass"):
            setattr(PsfMatchConfigAL(), name, 3)

    def test_no_sky_of_their_making(self):
        assert PsfMatchConfigAL(useAfwBackground=False).useAfwBackground is False
        with pytest.raises(ValueError, match="False"):
            PsfMatchConfigAL(useAfwBackground=True)


class TestMaskPlanes:
    """INTRP is LSST's name of INTERP, known wherever a plane is named."""

    def test_one_bit_two_names(self):
        assert MaskBit["INTRP"] is MaskBit.INTERP
        assert [bit.name for bit in MaskBit].count("INTRP") == 0  # products keep one name a bit

    @pytest.mark.parametrize("name", ["INTRP", "INTERP"])
    def test_in_settings(self, name):
        assert DetectionConfig(badMaskPlanes=[name]).badMaskPlanes == (name,)
        assert PsfMatchConfigAL(badMaskPlanes=[name]).bad_mask_planes == (name,)
        config = DecorrelateALKernelConfig(ignoreMaskPlanes=[name])
        assert config.ignored == MaskBit.INTERP
        mask = np.full((20, 20), MaskBit.INTERP, np.uint16)
        exposure = Exposure(np.ones((20, 20)), np.ones((20, 20)), mask, mask_bits="psflib")
        assert np.isnan(DecorrelateALKernelTask(config).computeVarianceMean(exposure))

    def test_unknown_plane(self):
        with pytest.raises(ValueError, match="no mask plane 'INTR'"):
            DecorrelateALKernelConfig(ignoreMaskPlanes=["INTR"])


def test_misspelt_argument_of_run_is_no_silent_nothing():
    image = np.ones((30, 30))
    with pytest.raises(TypeError, match="did you mean 'templateMatched'"):
        DecorrelateALKernelTask().run(image, image, image, image, templateMatchd=False)


def test_misspelt_method():
    with pytest.raises(AttributeError, match="did you mean 'subtractExposures'"):
        _ = ImagePsfMatchTask().subtractExposure
