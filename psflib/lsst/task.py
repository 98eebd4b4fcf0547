"""`Task`: what all tasks of LSST's pipelines have, in the small form that makes sense here."""

import contextlib
import dataclasses
import logging
import time
import weakref
from datetime import UTC, datetime
from typing import Any, ClassVar

from psflib.lsst.draft import Draft
from psflib.matching.cells.spelling import EitherSpelling, Spelled


@dataclasses.dataclass(frozen=True, eq=False)
class TaskField:
    """A task as a part of another one's settings; made by `Task.make_field`.

    target : class of the task
    doc : str, what it is for
    value : Draft, its settings
    """

    target: Any
    doc: str
    value: Draft

    def apply(self, **keywords):
        """The task itself, of the settings as they are now."""
        return self.target(config=self.value, **keywords)


class Struct(Spelled):
    """Base of the dataclasses that tasks return."""

    def get_dict(self) -> dict[str, Any]:
        """Name -> value of all that was found."""
        names = [f.name for f in dataclasses.fields(self)]  # type: ignore[arg-type]
        found = {name: getattr(self, name) for name in names}
        return {name: value for name, value in found.items() if value is not None}


class Task(Spelled):
    """Name, settings, metadata and sub-tasks; the verbs are the subclasses'.

    Parameters
    ----------
    config : settings model, `Draft` of it or dict, optional
    name : str, optional
        Default the class's own.
    parent_task : Task, optional
        Needs a name for this one.
    log : logging.Logger, optional

    Attributes
    ----------
    config : settings model
        Frozen: what a draft was when the task was made.
    metadata : dict
        What the last calls found, and the times of `timer`; plain values.
    log : logging.Logger

    Raises
    ------
    ValueError
        Settings of another kind, or bad ones.
    """

    model: ClassVar[type[EitherSpelling]]
    default_name: ClassVar[str] = "task"
    _DefaultName: ClassVar[str] = "task"  # LSST's name of it

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        cls._DefaultName = cls.default_name

    def __init__(self, config=None, name=None, parent_task=None, log=None):
        self.config = self._settings(config)
        if parent_task is not None and name is None:
            raise ValueError("a task with a parent_task needs a name")
        self._name = name or self.default_name
        # the parent keeps the child: the other way round a strong reference would make a circle
        self._parent = None if parent_task is None else weakref.ref(parent_task)
        self._children: dict[str, Task] = {}
        self.metadata: dict[str, Any] = {}
        self.log = log or logging.getLogger(type(self).__module__)

    @classmethod
    def ConfigClass(cls, **values) -> Draft:
        """Settings that can be changed until the task is made of them."""
        return Draft(cls.model(**values))

    @classmethod
    def make_field(cls, doc: str) -> TaskField:
        """This task as a part of another one's settings, for `make_subtask`.

        Parameters
        ----------
        doc : str
            What it is for.
        """
        return TaskField(cls, doc, cls.ConfigClass())

    def make_subtask(self, name: str, **key_args) -> None:
        """Make the sub-task that stands in the settings under `name`; it becomes that attribute.

        Parameters
        ----------
        name : str
        **key_args
            Passed to the sub-task, beside its `config`, `name` and `parent_task`.

        Raises
        ------
        ValueError
            No such setting, or it is no `TaskField`.
        """
        field = getattr(self.config, name, None)
        if not isinstance(field, TaskField):
            raise ValueError(
                f"{self.get_full_name()}: config.{name} is no task; "
                "it is made by make_field of the sub-task's class"
            )
        self._children[name] = field.apply(name=name, parent_task=self, **key_args)
        setattr(self, name, self._children[name])

    def get_name(self) -> str:
        """The task's own name."""
        return self._name

    def get_full_name(self) -> str:
        """Names of the parents and its own, with dots between them."""
        parent = self._parent and self._parent()
        return f"{parent.get_full_name()}.{self._name}" if parent else self._name

    def get_task_dict(self) -> dict[str, weakref.ReferenceType]:
        """Full name -> weak reference, of this task and all below it."""
        found = {self.get_full_name(): weakref.ref(self)}
        for child in self._children.values():
            found |= child.get_task_dict()
        return found

    def get_full_metadata(self) -> dict[str, Any]:
        """Metadata of this task and all below it: ``top:sub.item`` -> value."""
        found = {
            f"{self.get_full_name().replace('.', ':')}.{item}": value
            for item, value in self.metadata.items()
        }
        for child in self._children.values():
            found |= child.get_full_metadata()
        return found

    def empty_metadata(self) -> None:
        """Forget the metadata of this task and of all below it."""
        self.metadata.clear()
        for child in self._children.values():
            child.empty_metadata()

    @contextlib.contextmanager
    def timer(self, name: str, log_level: int = logging.DEBUG):
        """Time a block of code: ``with task.timer("fit"): ...``.

        Parameters
        ----------
        name : str
            Its metadata are ``<name>StartUtc``, ``<name>EndUtc``, ``<name>StartCpuTime`` and
            ``<name>EndCpuTime`` (s).
        log_level : int
            Of the line that says how long it took.
        """
        began = time.perf_counter()
        self._clock(name + "Start")
        try:
            yield
        finally:
            self._clock(name + "End")
            self.log.log(log_level, "%s: %.3f s", name, time.perf_counter() - began)

    def _clock(self, name):
        self.metadata[name + "Utc"] = datetime.now(UTC).isoformat()
        self.metadata[name + "CpuTime"] = time.process_time()

    @classmethod
    def _settings(cls, config):
        """The frozen model of whatever stands for settings."""
        model = getattr(cls, "model", None)
        if model is None:
            return config
        if isinstance(config, dict):
            return model(**config)
        if isinstance(config, Draft):
            config = config.frozen()
        if not isinstance(config, model | None):
            raise ValueError(
                f"config is a {model.__name__}, a {cls.__name__}.ConfigClass() or a dict; "
                f"got {type(config).__name__}"
            )
        return config or model()
