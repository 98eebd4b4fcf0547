"""What every task has: names, metadata, sub-tasks, a timer."""

import gc
import logging
import types

import pytest

from psflib.lsst import DecorrelateALKernelTask, ImagePsfMatchTask
from psflib.lsst.task import Task


class Pipeline(Task):
    """A user's task of two."""

    default_name = "pipeline"


def pipeline():
    config = types.SimpleNamespace(
        match=ImagePsfMatchTask.makeField("matches"),
        decorrelate=DecorrelateALKernelTask.makeField("whitens"),
        other=3,
    )
    config.match.value.kernel.active.nStarPerCell = 5
    task = Pipeline(config=config)
    task.makeSubtask("match")
    task.makeSubtask(name="decorrelate")
    return task


class TestNames:
    @pytest.mark.parametrize(
        ("kind", "name"),
        [
            (ImagePsfMatchTask, "imagePsfMatch"),
            (DecorrelateALKernelTask, "ip_diffim_decorrelateALKernel"),
        ],
    )
    def test_of_its_own(self, kind, name):
        task = kind()
        assert task.getName() == task.getFullName() == kind._DefaultName == name
        assert kind(name="mine").get_name() == "mine"
        assert task.log.name.startswith("psflib.lsst")
        assert kind(log=logging.getLogger("x")).log.name == "x"

    def test_in_a_hierarchy(self):
        top = pipeline()
        assert top.match.getName() == "match"
        assert top.match.getFullName() == "pipeline.match"
        found = top.getTaskDict()
        assert list(found) == ["pipeline", "pipeline.match", "pipeline.decorrelate"]
        assert found["pipeline.match"]() is top.match
        found.clear()
        assert len(top.getTaskDict()) == 3
        with pytest.raises(ValueError, match="needs a name"):
            ImagePsfMatchTask(parentTask=top)

    def test_nothing_keeps_a_task_alive(self):
        top = pipeline()
        reference = top.getTaskDict()["pipeline"]
        gc.disable()
        try:
            del top
            assert reference() is None
        finally:
            gc.enable()


class TestSubtasks:
    def test_settings_of_the_field(self):
        top = pipeline()
        assert top.match.config.kernel.active.nStarPerCell == 5
        assert top.config.match.doc == "matches"
        assert top.config.match.target is ImagePsfMatchTask
        assert ImagePsfMatchTask.makeField(doc="x").value.kernel.active.nStarPerCell == 3
        assert top.config.match.apply(name="again").getName() == "again"

    def test_more_arguments(self):
        top = pipeline()
        top.makeSubtask("match", debug={"displayDiffIm": True})
        assert top.match.debug.displayDiffIm
        assert len(top.getTaskDict()) == 3

    @pytest.mark.parametrize("name", ["other", "missing"])
    def test_not_a_task(self, name):
        with pytest.raises(ValueError, match=rf"pipeline: config\.{name} is no task"):
            pipeline().makeSubtask(name)


class TestMetadata:
    def test_full_and_empty(self):
        top = pipeline()
        top.metadata["n"] = 1
        top.match.metadata["n"] = 2
        assert top.getFullMetadata() == {"pipeline.n": 1, "pipeline:match.n": 2}
        top.match.emptyMetadata()
        assert top.getFullMetadata() == {"pipeline.n": 1}
        top.match.metadata["n"] = 2
        top.emptyMetadata()
        assert top.getFullMetadata() == {}

    def test_timer(self, caplog):
        task = ImagePsfMatchTask()
        with caplog.at_level(logging.INFO), task.timer("fit", logLevel=logging.INFO):
            pass
        assert list(task.metadata) == ["fitStartUtc", "fitStartCpuTime", "fitEndUtc",
                                       "fitEndCpuTime"]  # fmt: skip
        assert task.metadata["fitEndCpuTime"] >= task.metadata["fitStartCpuTime"]
        assert "fit: " in caplog.text
        with pytest.raises(RuntimeError), task.timer("broken"):
            raise RuntimeError
        assert "brokenEndUtc" in task.metadata
