"""Settings that can be changed until the task is made, as scripts for LSST do."""

import pytest

from psflib.lsst import (
    DecorrelateALKernelTask,
    ImagePsfMatchConfig,
    ImagePsfMatchTask,
    PsfMatchConfigAL,
)
from psflib.lsst.draft import Draft


@pytest.fixture
def config():
    return ImagePsfMatchTask.ConfigClass()


class TestOfTheMatch:
    def test_set_before_the_task_is_made(self, config):
        config.mode = "lsst"
        config.kernel.name = "AL"
        config.kernel.active.singleKernelClipping = False
        config.kernel.active.detectionConfig.detThreshold = 7
        config.kernel["DF"].lambdaValue = 0.5
        config.autoPadPsfTo = 1.2
        task = ImagePsfMatchTask(config=config)
        assert task.config == ImagePsfMatchConfig(
            mode="lsst", auto_pad_psf_to=1.2, df={"lambda_value": 0.5},
            al={"single_kernel_clipping": False, "detection_config": {"det_threshold": 7}},
        )  # fmt: skip
        assert task.config.kernel.active.singleKernelClipping is False
        assert task.kConfig is task.config.kernel.active

    def test_the_task_keeps_what_it_was_made_of(self, config):
        task = ImagePsfMatchTask(config=config)
        config.kernel.active.nStarPerCell = 9
        assert task.config.kernel.active.nStarPerCell == 3
        assert ImagePsfMatchTask.ConfigClass().kernel.active.nStarPerCell == 3

    @pytest.mark.parametrize("word", ["kernel", "kernel.name"])
    def test_choice_of_the_kernel(self, config, word):
        config.kernel["DF"].kernelSize = 13
        if word == "kernel":
            config.kernel = "DF"
        else:
            config.kernel.name = "DF"
        assert config.kernel.active.kernelSize == 13
        frozen = config.frozen()
        assert frozen.active is frozen.df and frozen.df.kernel_size == 13
        with pytest.raises(KeyError, match="one of AL, DF"):
            config.kernel["PCA"]
        with pytest.raises(ValueError, match=r"KernelChoice\.name.*'AL' or 'DF'; got 'PCA'"):
            config.kernel = "PCA"

    def test_a_model_or_a_dict_as_a_part(self, config):
        config.kernel["AL"].detectionConfig = {"detThreshold": 5}
        assert config.kernel.active.detectionConfig.detThreshold == 5
        config.kernel.AL = PsfMatchConfigAL(nStarPerCell=8)
        assert config.kernel.active.nStarPerCell == 8
        config.kernel.active.nStarPerCell = 4
        assert config.frozen().al.n_star_per_cell == 4

    def test_spellings_are_one_setting(self, config):
        config.kernel.active.n_star_per_cell = 5
        config.kernel.active.nStarPerCell += 1
        assert config.al.n_star_per_cell == 6
        assert config == ImagePsfMatchConfig(al={"nStarPerCell": 6})
        assert config != ImagePsfMatchTask.ConfigClass()

    def test_short_and_long_forms(self):
        one = ImagePsfMatchConfig(kernel="DF", df={"kernel_size": 13})
        for other in (
            {"kernel": {"name": "DF", "df": {"kernelSize": 13}}},
            {"kernel": {"name": "DF", "DF": {"kernelSize": 13}}},
            {"kernel": {"name": "DF"}, "DF": {"kernelSize": 13}},
        ):
            assert ImagePsfMatchConfig(**other) == one
        with pytest.raises(ValueError, match="parts of kernel"):
            ImagePsfMatchConfig(kernel=one.kernel, al={})

    def test_what_must_agree_is_checked_at_the_end(self, config):
        """Three degrees of two Gaussians: nonsense only if it stays so."""
        config.kernel.active.alardNGauss = 2
        with pytest.raises(ValueError, match="3 values, alard_n_gauss is 2"):
            ImagePsfMatchTask(config=config)
        config.kernel.active.alardDegGauss = [4, 2]
        config.kernel.active.alardSigGauss = [0.7, 1.5]
        assert ImagePsfMatchTask(config=config).config.al.alard_deg_gauss == (4, 2)

    def test_what_mode_psflib_leaves_out_is_said(self, config):
        assert ImagePsfMatchTask(config=config)._without_effect() == []
        config.kernel.active.detectionConfig.detThreshold = 7
        config.kernel.active.candidateResidualStdMax = 2
        assert ImagePsfMatchTask(config=config)._without_effect() == []
        config.kernel.active.singleKernelClipping = False
        (note,) = ImagePsfMatchTask(config=config)._without_effect()
        assert note.endswith("not in mode psflib: single_kernel_clipping")
        config.kernel = "DF"
        assert "kernel" in ImagePsfMatchTask(config=config)._without_effect()[0]


class TestRefused:
    @pytest.mark.parametrize(
        ("names", "value", "message"),
        [
            (("kernel", "active", "singleKernelCliping"), False, "mean 'singleKernelClipping'"),
            (("kernel", "active", "n_star_per_cel"), 3, "did you mean 'n_star_per_cell'"),
            (("kernel", "activ"), 3, "did you mean 'active'"),
            (("kernel", "active"), 3, "follows from other settings"),
            (("doAutoPadPfs",), True, "did you mean 'doAutoPadPsf'"),
            (("kernel", "active", "alardNGaussDeconv"), 3, "uses it no longer"),
        ],
    )
    def test_names(self, config, names, value, message):
        *parents, last = names
        for name in parents:
            config = getattr(config, name)
        with pytest.raises(AttributeError, match=message):
            setattr(config, last, value)
        if last != "active":
            with pytest.raises(AttributeError, match=message):
                getattr(config, last)

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("nStarPerCell", "many", r"PsfMatchConfigAL\.n_star_per_cell: .*; got 'many'"),
            ("kernelSize", 20, "sides of kernels are odd"),
            ("badMaskPlanes", ["SATURATED"], "no mask plane 'SATURATED'"),
            ("detectionConfig", {"detThreshold": 1}, "greater than or equal to 3"),
        ],
    )
    def test_values_at_once(self, config, name, value, message):
        before = getattr(config.kernel.active, name)
        with pytest.raises(ValueError, match=message):
            setattr(config.kernel.active, name, value)
        assert getattr(config.kernel.active, name) == before

    def test_values_put_into_a_list(self):
        config = DecorrelateALKernelTask.ConfigClass()
        config.ignoreMaskPlanes.append("SUSPECT")
        assert DecorrelateALKernelTask(config=config).config.ignore_mask_planes[-1] == "SUSPECT"
        config.ignoreMaskPlanes.append("NONE")
        with pytest.raises(ValueError, match="no mask plane 'NONE'"):
            DecorrelateALKernelTask(config=config)

    def test_settings_of_another_task(self):
        config = DecorrelateALKernelTask.ConfigClass(completeVarPlanePropagation=True)
        assert isinstance(config, Draft)
        assert DecorrelateALKernelTask(config=config).config.complete_var_plane_propagation
        with pytest.raises(ValueError, match="config is a ImagePsfMatchConfig"):
            ImagePsfMatchTask(config=config)


class TestStandIns:
    def test_detection(self, config):
        config.selectDetection.thresholdValue = 8.0
        config.selectDetection.thresholdType = "stdev"
        config.selectDetection.minPixels = 9
        config.selectDetection.reEstimateBackground = False
        frozen = config.frozen()
        found = frozen.active.detection_config
        assert (found.det_threshold, found.det_threshold_type, found.fp_npix_min) == (8, "stdev", 9)
        assert frozen.selectDetection.thresholdValue == 8
        with pytest.raises(ValueError, match=r"reEstimateBackground is False here.*prepare"):
            config.selectDetection.reEstimateBackground = True
        with pytest.raises(ValueError, match="greater than or equal to 3"):
            config.selectDetection.thresholdValue = 1
        with pytest.raises(ValueError, match="frozen"):
            frozen.selectDetection.thresholdValue = 5

    def test_measurement(self, config):
        with pytest.raises(AttributeError, match=r"selectMeasurement\.algorithms.*candidateList"):
            _ = config.selectMeasurement.algorithms

    def test_warping(self, config):
        warping = config.kernel.active.warpingConfig
        warping.warpingKernelName = "lanczos4"
        warping.interpLength = 16
        with pytest.raises(ValueError, match="'lanczos4' here, not 'bilinear'"):
            warping.warpingKernelName = "bilinear"
        with pytest.raises(AttributeError, match="known: warpingKernelName, interpLength"):
            warping.cacheSize = 100

    def test_sky(self, config):
        with pytest.raises(AttributeError, match=r"afwBackgroundConfig\.binSize.*sky_box"):
            config.kernel.active.afwBackgroundConfig.binSize = 128

    @pytest.mark.parametrize("name", ["selectDetection", "selectMeasurement"])
    def test_as_a_whole_they_cannot_be_set(self, config, name):
        with pytest.raises(AttributeError, match="follows from other settings"):
            setattr(config, name, None)
        with pytest.raises(ValueError, match=f"no setting '{name}'.*ConfigClass"):
            ImagePsfMatchConfig(**{name: {}})


def test_repr_and_dir(config):
    assert "single_kernel_clipping=True" in repr(config)
    assert {"mode", "kernel", "active"} <= set(dir(config))
    assert "thresholdValue" in repr(config.selectDetection)
