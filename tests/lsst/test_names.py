"""Every name of LSST's two tasks is answered: by what it does there, or refused with a sentence.

The names are those of `pages`; each method is called with all of its arguments in LSST's spelling
and compared with the same call in ours.
"""

import argparse
import inspect
import types
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from psflib.image.exposure import Exposure, MaskBit
from psflib.lsst import (
    Debug,
    DecorrelateALKernelConfig,
    DecorrelateALKernelTask,
    ImagePsfMatchConfig,
    ImagePsfMatchTask,
    PsfMatchConfigAL,
    PsfMatchConfigDF,
)
from psflib.lsst.decorrelation_values import FixedPsf
from psflib.matching.cells.spelling import to_ours
from psflib.simulation import simulate_pair
from tests.lsst import pages

ROOT = Path(__file__).parents[2]
CONFIG = {"mode": "lsst", "al": {"spatial_kernel_order": 0, "size_cell_x": 64, "size_cell_y": 64}}
PAGE = sorted(set(pages.page_names()))


def gaussian(sigma, half=8):
    r = np.arange(-half, half + 1)
    image = np.exp(-(r[:, None] ** 2 + r**2) / (2 * sigma**2))
    return image / image.sum()


def test_the_count_of_the_pages():
    """By hand: 30 names of the match, 69 of the decorrelation."""
    assert len(PAGE) == len(list(pages.page_names()))
    found = Counter((task, kind.split(" of ")[0]) for task, kind, _ in PAGE)
    assert found == {
        ("ImagePsfMatchTask", "method"): 4,
        ("ImagePsfMatchTask", "field"): 14,
        ("ImagePsfMatchTask", "debug variable"): 11,
        ("ImagePsfMatchTask", "attribute"): 1,
        ("DecorrelateALKernelTask", "method"): 18,
        ("DecorrelateALKernelTask", "argument"): 43,
        ("DecorrelateALKernelTask", "result"): 7,
        ("DecorrelateALKernelTask", "attribute"): 1,
    }
    assert len(PAGE) == 99


class TestMatchMethods:
    @pytest.fixture(scope="class")
    @staticmethod
    def images():
        science, template, truth = simulate_pair(
            shape=(150, 160), seed=5, n_stars=50, brightest=2e5, noise_science=10.0
        )
        xy = np.c_[truth["x"].value, truth["y"].value]
        values = {
            "templateFwhmPix": 2.9, "scienceFwhmPix": 3.7, "candidateList": xy, "doWarping": True,
            "convolveTemplate": True,
        }  # fmt: skip
        for kind in ("Exposure", "MaskedImage"):
            values |= {"template" + kind: template, "science" + kind: science}
        return values

    @pytest.mark.parametrize("method", pages.MATCH_METHODS)
    def test_keywords_positions_and_results(self, images, method):
        task, names = ImagePsfMatchTask(config=CONFIG), pages.MATCH_METHODS[method]
        ours = "".join("_" + c.lower() if c.isupper() else c for c in method)
        by_name = getattr(task, method)(**{name: images[name] for name in names})
        by_place = getattr(task, ours)(*[images[name] for name in names])
        np.testing.assert_array_equal(by_name.matchedImage.image, by_place.matched_image.image)
        for attribute, methods in pages.MATCH_RESULTS.items():
            if method in methods:
                assert isinstance(getattr(by_name, attribute), object)
                assert getattr(by_name, attribute) is not None
        assert set(by_name.getDict()) >= {"matched_image", "psf_matching_kernel"}
        assert by_name.backgroundModel(3, 4) == by_name.backgroundModel.at(3, 4)
        assert ("subtract" in method) == (by_name.subtracted_image is not None)

    def test_arguments_are_in_their_order(self):
        for method, names in pages.MATCH_METHODS.items():
            parameters = list(inspect.signature(getattr(ImagePsfMatchTask, method)).parameters)[1:]
            theirs = ImagePsfMatchTask.theirs
            found = [to_ours(name, parameters, theirs) for name in names]
            assert found == parameters[: len(names)]

    def test_sources(self, images):
        task = ImagePsfMatchTask(config=CONFIG)
        found = task.getSelectSources(images["scienceExposure"])
        assert len(found) > 10
        pair = images["templateExposure"], images["scienceExposure"]
        listed = task.makeCandidateList(*pair, kernelSize=21, candidateList=found)
        assert len(listed) == len(found)
        with pytest.raises(AttributeError, match=r"result\.psfMatchingKernel\.basis"):
            task.makeKernelBasisList(3.0, 4.0)


class TestMatchSettings:
    @pytest.mark.parametrize("config", [ImagePsfMatchConfig(), ImagePsfMatchTask.ConfigClass()])
    def test_defaults(self, config):
        found = {name: getattr(config, name) for name in pages.MATCH_FIELDS}
        found["kernel"] = config.kernel.name
        assert found == pages.MATCH_FIELDS
        active = config.kernel.active
        assert {n: getattr(active, n) for n in pages.KERNEL_FIELDS} == pages.KERNEL_FIELDS
        assert config.kernel["AL"].nStarPerCell == 3 and config.kernel.DF.useRegularization

    @pytest.mark.parametrize("name", [*pages.MATCH_SUBTASKS, *pages.KERNEL_PARTS])
    def test_parts_that_are_not_ours(self, name):
        draft = ImagePsfMatchTask.ConfigClass()
        for config in (draft, ImagePsfMatchConfig()):
            owner = config if name in pages.MATCH_SUBTASKS else config.kernel.active
            with pytest.raises(
                AttributeError, match=rf"{name}\.doFlags is no setting here: .{{40}}"
            ):
                _ = getattr(owner, name).doFlags
            with pytest.raises(
                AttributeError, match=rf"{name}\.doFlags is no setting here: .{{40}}"
            ):
                getattr(owner, name).doFlags = True

    def test_every_field_of_the_code(self):
        """Beyond the page: all fields of the kernel's configurations, in force or refused."""
        refused = []
        for kind, model in (("AL", PsfMatchConfigAL()), ("DF", PsfMatchConfigDF())):
            for name in [*pages.MORE_KERNEL_FIELDS["both"], *pages.MORE_KERNEL_FIELDS[kind]]:
                if name in model.refused:
                    refused.append(name)
                    with pytest.raises(AttributeError, match=f"{name}.*: "):
                        getattr(model, name)
                    with pytest.raises(ValueError, match=f"{name}.*: "):
                        type(model)(**{name: 1})
                else:
                    value = getattr(model, name)
                    assert getattr(type(model)(**{name: value}), name) == value
            for name in pages.MORE_KERNEL_FIELDS["detectionConfig"]:
                assert getattr(model.detectionConfig, name) is not None
        assert sorted(refused) == [
            "alardDegGaussDeconv", "alardNGaussDeconv", "useBicForKernelBasis"
        ]  # fmt: skip

    @pytest.mark.parametrize("name", pages.DEBUG)
    def test_debug_variables(self, name):
        value = 80 if name == "maskTransparency" else True
        task = ImagePsfMatchTask(debug={name: value})
        assert getattr(task.debug, name) == value
        for kind in (types.SimpleNamespace, argparse.Namespace, Debug):
            variables = kind(**{name: value})
            assert getattr(ImagePsfMatchTask(debug=variables).debug, name) == value
        setattr(task.debug, name, 0)
        assert not getattr(task.debug, name)


class TestDecorrelate:
    kappa, before = gaussian(1.2, 4), gaussian(1.5, 5)
    shape = (60, 62)

    @pytest.fixture
    def task(self):
        made = DecorrelateALKernelTask()
        made.computeCommonShape(self.kappa.shape, self.shape)
        return made

    @pytest.fixture
    def values(self, task):
        rng = np.random.default_rng(3)
        correction = task.computeDiffimCorrection(self.kappa, 2.0, 3.0)
        planes = {f"vplane{i}": np.full(self.shape, float(i)) for i in (1, 2)}
        psf = {"psf": FixedPsf(gaussian(1.8, 10))}
        images = {
            name: Exposure(rng.normal(0, 2, self.shape), np.full(self.shape, 4.0), meta=psf)
            for name in ("scienceExposure", "templateExposure", "subtractedExposure")
        }
        return planes | images | {
            "varMean1": 1.0, "varMean2": 2.0, "c1ft": correction.cnft, "c2ft": correction.crft,
            "*shapes": (9, 9), "corrft": correction.corrft, "psfOld": gaussian(1.8, 10),
            "imgOld": rng.normal(0, 2, self.shape), "kappa": self.kappa, "svar": 2.0, "tvar": 3.0,
            "preConvArr": self.before, "exposure": images["scienceExposure"], "A": self.kappa,
            "newShape": (16, 20), "useInverse": False, "psfMatchingKernel": self.kappa,
            "preConvKernel": self.before, "xcen": 30, "ycen": 29, "templateMatched": True,
            "preConvMode": True,
        }  # fmt: skip

    @pytest.mark.parametrize("method", pages.DECORRELATE_METHODS)
    def test_keywords_and_positions(self, task, values, method):
        names = [n for n in pages.DECORRELATE_METHODS[method] if n != "**kwargs"]
        by_place = getattr(task, method)(*[values[name] for name in names])
        if "*shapes" in names:
            assert by_place is None and task.freqSpaceShape == (10, 10)
            return
        by_name = getattr(task, method)(**{name: values[name] for name in names})
        attributes = pages.DECORRELATE_RESULTS.get(method, [])
        for one, other in (
            [(getattr(by_name, a), getattr(by_place, a)) for a in attributes]
            or [(by_name, by_place)]
        ):  # fmt: skip
            planes = [x.image if isinstance(x, Exposure) else x for x in (one, other)]
            np.testing.assert_array_equal(*planes)

    def test_defaults_and_order_of_run(self):
        parameters = inspect.signature(DecorrelateALKernelTask.run).parameters
        found = {}
        for theirs, ours in zip(
            pages.DECORRELATE_METHODS["run"], list(parameters)[1:], strict=True
        ):
            name = theirs.lstrip("*")
            assert to_ours(name, [ours]) == ours
            if parameters[ours].default is not inspect.Parameter.empty:
                found[name] = parameters[ours].default
        assert found == pages.RUN_DEFAULTS

    @pytest.mark.parametrize("name", ["padCenterOriginArray", "estimateVariancePlane"])
    def test_static_methods_need_no_task(self, name):
        assert isinstance(inspect.getattr_static(DecorrelateALKernelTask, name), staticmethod)

    @pytest.mark.parametrize(
        "config", [DecorrelateALKernelConfig(), DecorrelateALKernelTask.ConfigClass()]
    )
    def test_settings(self, config):
        for name, value in pages.DECORRELATE_FIELDS.items():
            assert getattr(config, name) == value
        bits = [MaskBit[name] for name in config.ignoreMaskPlanes]
        assert set(bits) == {MaskBit[name] for name in pages.MASK_PLANES}


@pytest.mark.parametrize("kind", [ImagePsfMatchTask, DecorrelateALKernelTask])
def test_methods_of_every_task(kind):
    for name, arguments in pages.TASK_METHODS.items():
        parameters = list(inspect.signature(getattr(kind, name)).parameters)
        wanted = [to_ours(a.lstrip("*"), parameters) for a in arguments]
        assert None not in wanted and wanted == [p for p in parameters if p != "self"]


class TestTable:
    """LSST's section of the table of names."""

    sections = yaml.safe_load((ROOT / "docs/names.yaml").read_text(encoding="utf-8"))["sections"]
    rows = next(s["rows"] for s in sections if s["title"].startswith("LSST"))

    def test_every_name_of_the_pages_has_a_row(self):
        told = {word for row in self.rows for word in row["theirs"].replace("`", "").split(", ")}
        missing = [name for _, _, name in PAGE if name not in told]
        assert not missing

    def test_rows_are_whole(self):
        for row in self.rows:
            assert {"theirs", "ours"} <= set(row) <= {"theirs", "ours", "how", "test"}, row

    def test_tests_exist(self):
        for row in self.rows:
            path, _, name = row.get("test", "").partition("::")
            text = (ROOT / path).read_text(encoding="utf-8") if path else ""
            assert not path or f"class {name}" in text or f"def {name}(" in text, row["test"]
