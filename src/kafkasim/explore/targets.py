"""What a campaign explores, by a text that means the same in any process: a design file, a function, a test.

Inputs:   ``design.toml``, ``module:function`` (or ``file.py:function``), ``tests/test_x.py::test_name``.
Effects:  a `Scenario`; modules are imported as Python does it.
Rule 1:   a `Target` is data, and can be sent to another process; its scenario is made where it runs.
Rule 2:   what is wrong is said with the target's own words.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs

from kafkasim.check.report import Report
from kafkasim.errors import ConfigurationError
from kafkasim.explore.sometimes import names_in_source
from kafkasim.explore.trial import Scenario
from kafkasim.handle import Cluster
from kafkasim.lab.read_design import parse_design
from kafkasim.lab.run import DesignRun

_KINDS = "a design (design.toml), a function (module:function) or a test (tests/test_x.py::test_name)"
#: The attribute that a decorated test carries its scenario in.
SCENARIO_ATTRIBUTE = "kafkasim_scenario"


@attrs.frozen
class Target:
    """Args:
    name: as it was given.
    duration_us: of a design, in place of its own.
    text: a design's file as it was read, so that another machine need not have it.
    folder: what is added to the path of imports.
    """

    name: str
    duration_us: int | None = None
    text: str | None = None
    folder: str = ""

    @classmethod
    def of(cls, name: str, *, duration_us: int | None = None) -> Target:
        """Read what a target names. Raises ConfigurationError."""
        if name.endswith(".toml"):
            try:
                return cls(name, duration_us, Path(name).read_text(encoding="utf-8"), str(Path.cwd()))
            except (OSError, UnicodeDecodeError) as problem:
                raise ConfigurationError(f"{name}: {getattr(problem, 'strerror', None) or problem}") from None
        if ":" not in name:
            raise ConfigurationError(f"{name!r}: expected {_KINDS}")
        if duration_us is not None:
            raise ConfigurationError(f"{name}: a duration is for designs; this runs as long as its code does")
        return cls(name, folder=str(Path.cwd()))

    @property
    def digest(self) -> str:
        """Sixteen hex digits of what the name stands for now: a design's text, the source of a function's module."""
        source = self.text
        if source is None:
            file, _ = _place(self.name)
            path = Path(self.folder, file) if file.endswith(".py") else None
            if path is None:
                spec = _find(file, self.folder)
                path = None if spec is None or spec.origin is None else Path(spec.origin)
            try:
                source = "" if path is None else path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                source = ""
        return hashlib.blake2b(source.encode(), digest_size=8).hexdigest()

    def scenario(self) -> Scenario:
        """Raises ConfigurationError for what is no scenario."""
        if self.text is not None:
            return _of_design(self)
        with _Importing(self.folder):
            return _of_object(self)


class _Importing:
    """The folder of the campaign is looked in first for modules, as ``python -m`` would."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        if self._folder and self._folder not in sys.path:
            sys.path.insert(0, self._folder)

    def __exit__(self, *_: object) -> None:
        """It stays: modules import others while they run."""


def _place(name: str) -> tuple[str, str]:
    """(module or file, name in it)."""
    file, _, inside = name.partition("::") if "::" in name else name.rpartition(":")
    return file, inside


def _find(module: str, folder: str) -> Any:
    with _Importing(folder):
        try:
            return importlib.util.find_spec(module)
        except (ImportError, ValueError, AttributeError):
            return None


# --- functions and tests ---------------------------------------------------------------------------------------------


def _of_object(target: Target) -> Scenario:
    file, inside = _place(target.name)
    if not file or not inside:
        raise ConfigurationError(f"{target.name!r}: expected {_KINDS}")
    if "[" in inside:
        raise ConfigurationError(
            f"{target.name}: one case of a parametrized test cannot be explored; make it a function"
        )
    module = _module(target, file)
    found: Any = module
    within: Any = None
    for part in inside.split("::" if "::" in inside else "."):
        if not hasattr(found, part):
            known = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
            raise ConfigurationError(
                f"{target.name}: {file} has no {part!r}; it has {', '.join(known[:12]) or 'nothing callable'}"
            )
        within, found = found, getattr(found, part)
    scenario = _as_scenario(target, found, within)
    if module.__file__ and not scenario.sometimes:
        scenario = attrs.evolve(scenario, sometimes=names_in_source(module.__file__))
    return scenario


def _module(target: Target, file: str) -> ModuleType:
    try:
        if not file.endswith(".py"):
            return importlib.import_module(file)
        return _module_of_file(target, Path(target.folder, file))
    except ConfigurationError:
        raise
    except ImportError as problem:
        raise ConfigurationError(f"{target.name}: cannot be imported: {problem}") from None
    except Exception as problem:
        raise ConfigurationError(f"{target.name}: importing it raised {type(problem).__name__}: {problem}") from problem


def _module_of_file(target: Target, path: Path) -> ModuleType:
    """A file as a module of its own name, once a process."""
    if not path.is_file():
        raise ConfigurationError(f"{target.name}: there is no file {path.name!r} in {path.parent}")
    name = f"kafkasim_target_{hashlib.blake2b(str(path).encode(), digest_size=4).hexdigest()}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _as_scenario(target: Target, found: Any, within: Any = None) -> Scenario:
    if isinstance(found, Scenario):
        return found
    carried = getattr(found, SCENARIO_ATTRIBUTE, None)
    if isinstance(carried, Scenario):
        if inspect.isclass(within):  # A method, which pytest too calls on an instance of its own.
            carried = attrs.evolve(carried, body=functools.partial(carried.body, within()))
        return _without_fixtures(target, carried)
    if not callable(found):
        raise ConfigurationError(f"{target.name} is {type(found).__name__}, expected a function or a Scenario")
    if "::" in target.name:
        raise ConfigurationError(f"{target.name}: expected a test that is decorated with @kafkasim.test")
    parameters = list(inspect.signature(found).parameters.values())
    if not parameters:
        made = found()
        if not isinstance(made, Scenario):
            raise ConfigurationError(
                f"{target.name}() takes no cluster and returned {type(made).__name__}: expected a Scenario"
            )
        return made
    return scenario_of(found)


def scenario_of(body: Callable[..., Any], **options: Any) -> Scenario:
    """A function that takes the cluster, as a scenario; its further parameters are sizes, with whole numbers as defaults."""
    sizes = {}
    for parameter in list(inspect.signature(body).parameters.values())[1:]:
        if isinstance(parameter.default, int) and not isinstance(parameter.default, bool):
            sizes[parameter.name] = parameter.default
        elif parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
            raise ConfigurationError(
                f"{getattr(body, '__name__', body)}(): parameter {parameter.name!r} has no default; beside the cluster a "
                "scenario takes sizes, such as records=40"
            )
    if "brokers" in sizes:
        options.setdefault("brokers", sizes["brokers"])
    try:
        names = names_in_source(inspect.getsourcefile(body) or "")
    except TypeError:
        names = ()
    return Scenario(getattr(body, "__name__", "scenario"), body, options=options, sizes=sizes, sometimes=names)


def _without_fixtures(target: Target, scenario: Scenario) -> Scenario:
    parameters = list(inspect.signature(scenario.body).parameters.values())[1:]
    needed = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    if needed:
        raise ConfigurationError(
            f"{target.name} takes the fixture {needed[0]!r}: there is no pytest in a campaign; explore a function without it"
        )
    return scenario


# --- designs ---------------------------------------------------------------------------------------------------------


class _DesignTrials:
    """Runs of a design, one after the other: each trial prepares its own."""

    def __init__(self, target: Target) -> None:
        self._target = target
        assert target.text is not None
        self._folder = Path(target.folder, target.name).parent
        self.design = parse_design(target.text, target.name, self._folder)
        self._run = self._new()

    def _new(self) -> DesignRun:
        return DesignRun(self.design, duration_us=self._target.duration_us)

    @property
    def options(self) -> Mapping[str, Any]:
        return self._run.options

    def prepare(self, cluster: Cluster) -> None:
        self._run = self._new()
        self._run.prepare(cluster)

    def work(self, cluster: Cluster) -> None:
        self._run.work()

    def judge(self, cluster: Cluster) -> Report:
        """Kafka's own guarantees, and a finding for each promise that was broken."""
        self._run.drain()
        result = self._run.result()
        report = Report(looked_at=dict(result.checks))
        for told in result.broken_checks:
            report.add(*told.split(": ", 1))
        for promise in result.promises:
            if not promise.kept:
                name = promise.promise.split(" ", 1)[0].replace("_", "-")
                report.add(name, f"group {promise.group} was promised {promise.promise}: {promise.reason}")
        return report


def _of_design(target: Target) -> Scenario:
    with _Importing(target.folder):
        trials = _DesignTrials(target)
    design = trials.design
    return Scenario(
        name=target.name,
        body=trials.work,
        prepare=trials.prepare,
        options=trials.options,
        partitions=tuple(f"{topic.name}-{n}" for topic in design.topics for n in range(topic.partitions)),
        settle_s=0.0,
        span_s=(target.duration_us or design.cluster.duration_us) / 1e6,
        judge=trials.judge,
    )


_cache: dict[Target, Scenario] = {}
"""Scenarios of this process by their target: a worker runs many trials of one."""


def scenario_for(target: Target) -> Scenario:
    """The scenario of a target, made once a process."""
    scenario = _cache.get(target)
    if scenario is None:
        scenario = _cache[target] = target.scenario()
    return scenario
