"""The pytest plugin: one fixture, one marker, one test body for the simulator and for real Kafka.

Mirrors:  the command-line flags and the marker of the design page.
Inputs:   ``@pytest.mark.kafka(brokers=3, …)``, ``--kafkasim-seed/-seeds/-replay/-real/-check-determinism``.
Effects:  a fresh simulated cluster a test, or one real cluster a session; a line that replays a failure.
Rule 1:   a test never learns from the fixture which backend it runs on, except by `Unsupported`, which skips it.
Rule 2:   on a shared real cluster names come from `unique`; whatever a test broke is mended before the next one.
"""

from __future__ import annotations

import json
import re
import secrets
import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest._code.code import ReprExceptionInfo, ReprFileLocation, ReprTracebackNative
from _pytest.runner import runtestprotocol

from kafkasim.connect import connect
from kafkasim.errors import Unsupported
from kafkasim.testing import recorded

if TYPE_CHECKING:
    from kafkasim.real.cluster import RealCluster
    from kafkasim.real.local_kafka import LocalKafka

_SEED_ID = "kafkasim-seed"
# What the marker may say; the same names as the cluster's own arguments.
_MARKER_OPTIONS = ("brokers", "controllers", "racks", "config", "features")
_FINGERPRINT = pytest.StashKey[str]()
_FIRST_FINGERPRINT = pytest.StashKey[str]()
_SEED = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the plugin's flags."""
    group = parser.getgroup("kafkasim", "simulated and real Kafka")
    group.addoption("--kafkasim-seed", type=int, metavar="N", help="run simulated clusters under seed N")
    group.addoption("--kafkasim-seeds", type=int, metavar="N", help="run each cluster test under N seeds")
    group.addoption("--kafkasim-replay", metavar="FILE", help="read seed and cluster config from a JSON file")
    group.addoption(
        "--kafkasim-real",
        metavar="BOOTSTRAP|local",
        help="run on a real cluster: its bootstrap servers, or 'local' to start one on this machine",
    )
    group.addoption(
        "--kafkasim-check-determinism",
        action="store_true",
        help="run each simulated test twice and fail where the two runs differ",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and refuse flags that contradict one another."""
    config.addinivalue_line(
        "markers",
        "kafka(brokers=3, controllers=None, racks=None, config=None, features=None): "
        "the cluster that kafka_cluster gives to this test",
    )
    real = config.getoption("--kafkasim-real")
    for flag in ("--kafkasim-seeds", "--kafkasim-replay", "--kafkasim-check-determinism"):
        if real and config.getoption(flag):
            raise pytest.UsageError(f"{flag} needs the simulator: it cannot go with --kafkasim-real")
    count = config.getoption("--kafkasim-seeds")
    if count is not None and count < 1:
        raise pytest.UsageError(f"--kafkasim-seeds must be at least 1, not {count}")
    session = _Session(config)
    config.pluginmanager.register(session, "kafkasim-session")
    recorded.begin(session.replayed)


def pytest_unconfigure(config: pytest.Config) -> None:
    """What this session replayed is no concern of another."""
    if config.pluginmanager.has_plugin("kafkasim-session"):
        recorded.end()


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say where the run happens, where it is not the simulator."""
    real = config.getoption("--kafkasim-real")
    return f"kafkasim: real Kafka ({real})" if real else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each cluster test under N seeds, counted from --kafkasim-seed."""
    count = metafunc.config.getoption("--kafkasim-seeds")
    if count and "kafkasim_seed" in metafunc.fixturenames:
        seeds = range(_session(metafunc.config).seed, _session(metafunc.config).seed + count)
        metafunc.parametrize("kafkasim_seed", seeds, ids=[f"{_SEED_ID}-{seed}" for seed in seeds], indirect=True)


@dataclass(frozen=True)
class ClusterSpec:
    """What a test asks its cluster to be; tests that ask the same share a real one."""

    options: str

    @classmethod
    def of(cls, item: pytest.Item, overrides: dict[str, Any]) -> ClusterSpec:
        """Read the test's markers, the nearest first, then what a replay file says."""
        options: dict[str, Any] = {}
        for marker in reversed(list(item.iter_markers("kafka"))):
            if marker.args:
                raise pytest.UsageError("@pytest.mark.kafka takes keyword arguments only")
            options.update(marker.kwargs)
        options.update(overrides)
        unknown = [name for name in options if name not in _MARKER_OPTIONS]
        if unknown:
            raise pytest.UsageError(f"@pytest.mark.kafka does not know {unknown}; it knows {list(_MARKER_OPTIONS)}")
        return cls(json.dumps({"brokers": 3, **options}, sort_keys=True))

    @property
    def arguments(self) -> dict[str, Any]:
        """The cluster's keyword arguments."""
        options: dict[str, Any] = json.loads(self.options)
        return options


class _Session:
    """What one pytest session holds: its seed, and the real cluster that its tests share."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.real: str | None = config.getoption("--kafkasim-real")
        self.overrides: dict[str, Any] = {}
        seed: int | None = config.getoption("--kafkasim-seed")
        replay = config.getoption("--kafkasim-replay")
        #: What ``--kafkasim-replay`` names, as it was written.
        self.replayed = _read_replay(Path(replay)) if replay else None
        if self.replayed is not None:
            self.overrides = self.replayed.get("config", {})
            seed = self.replayed.get("seed", 0) if seed is None else seed
        self.seed = seed or 0
        self.token = secrets.token_hex(3)
        self._local: tuple[ClusterSpec, LocalKafka] | None = None
        self._probe: Any = None
        self._broker_count = 0

    def make_cluster(self, spec: ClusterSpec, seed: int) -> Any:
        """A simulated cluster of the test's own, or a handle of its own on the real one."""
        if self.real is None:
            from kafkasim.handle import Cluster

            return Cluster(seed=seed, **spec.arguments)
        if self.real == "local":
            return self._local_handle(spec, seed)
        if set(spec.arguments) - {"brokers"}:
            raise Unsupported(f"the test wants a cluster of its own kind: {spec.options}")
        handle = connect(f"kafka://{self.real}?seed={seed}")
        brokers = self._count_brokers(handle)
        if brokers < spec.arguments["brokers"]:
            handle.close()
            raise Unsupported(f"the test wants {spec.options}; {self.real} has {brokers} brokers")
        return handle

    def _count_brokers(self, handle: Any) -> int:
        """Asked once a session. The client is kept: one that is collected on its own thread aborts the process."""
        if self._probe is None:
            self._probe = handle.admin()
            self._broker_count = len(self._probe.list_topics(timeout=30.0).brokers)
        return self._broker_count

    def mend(self) -> None:
        """Bring back what a test crashed, paused or shut down."""
        if self._local is not None and any(broker.state != "running" for broker in self._local[1].brokers.values()):
            self._local[1].restore()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """On local brokers put tests that want the same cluster together: starting one takes seconds."""
        if self.real == "local":
            order: dict[ClusterSpec | None, int] = {}
            for item in items:
                order.setdefault(self.spec_of(item), len(order))
            items.sort(key=lambda item: order[self.spec_of(item)])

    def pytest_sessionfinish(self) -> None:
        """Stop the local brokers."""
        if self._local is not None:
            self._local[1].close()
            self._local = None

    def spec_of(self, item: pytest.Item) -> ClusterSpec | None:
        """The cluster that a test asks for; None where it asks for none."""
        if "kafka_cluster" not in getattr(item, "fixturenames", ()):
            return None
        return ClusterSpec.of(item, self.overrides)

    def _local_handle(self, spec: ClusterSpec, seed: int) -> RealCluster:
        from kafkasim.real.cluster import RealCluster
        from kafkasim.real.local_kafka import LocalKafka

        unknown = [name for name in ("controllers", "features") if name in spec.arguments]
        if unknown:
            raise Unsupported(f"local brokers have no {unknown[0]} option")
        if self._local is not None and self._local[0] != spec:
            self._local[1].close()
            self._local = None
        if self._local is None:
            self._local = (spec, LocalKafka(**spec.arguments).start())
            with RealCluster(self._local[1].bootstrap_servers, local=self._local[1]) as probe:
                probe.wait_for_coordinators()
        local = self._local[1]
        return RealCluster(local.bootstrap_servers, local=local, seed=seed)


@pytest.fixture
def kafkasim_seed(request: pytest.FixtureRequest) -> int:
    """The seed of this test's simulated cluster."""
    seed: int = getattr(request, "param", _session(request.config).seed)
    return seed


@pytest.fixture
def kafka_cluster(request: pytest.FixtureRequest, kafkasim_seed: int) -> Iterator[Any]:
    """The cluster handle: simulated and fresh, or real and shared.

    On a simulated one ``confluent_kafka``, the clock, ``random`` and ``uuid4`` are the cluster's until the test is over.
    """
    session = _session(request.config)
    item = request.node
    item.stash[_SEED] = kafkasim_seed
    cluster = session.make_cluster(ClusterSpec.of(item, session.overrides), kafkasim_seed)
    try:
        # Plain test code is user code too: its clients, sleeps and random values are the cluster's, as those of tasks are. But for
        # other addresses: on a real cluster they would lead nowhere.
        with cluster, cluster.install(cluster.bootstrap_servers):
            yield cluster
            if request.config.getoption("--kafkasim-check-determinism"):
                item.stash[_FINGERPRINT] = str(cluster.fingerprint())
    finally:
        session.mend()
    first = item.stash.get(_FIRST_FINGERPRINT, None)
    if first is not None and item.stash[_FINGERPRINT] != first:
        pytest.fail(
            f"not deterministic: seed {kafkasim_seed} gave fingerprint {first} in the first run "
            f"and {item.stash[_FINGERPRINT]} in the second",
            pytrace=False,
        )


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Turn a label into a topic or group name of this test alone; the same in every simulated run."""
    session = _session(request.config)
    place = f"{zlib.crc32(request.node.nodeid.encode()):08x}"
    suffix = place if session.real is None else f"{place}-{session.token}"
    return lambda label: f"{label}-{suffix}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Skip where the backend cannot be what the test asks for."""
    yield from _skip_unsupported()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Skip where the backend cannot do what the test does."""
    __tracebackhide__ = True
    yield from _skip_unsupported()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failure the one line that runs it again; a failure that is a screen is shown as that."""
    report = yield
    if call.excinfo is not None and getattr(call.excinfo.value, "is_screen", False):
        _show_screen(item, report, call.excinfo.value)
    if report.failed and _SEED in item.stash:
        report.sections.append(("kafkasim replay", _replay_line(item)))
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """With --kafkasim-check-determinism run a cluster test once before its real run, for its fingerprint."""
    wanted = item.config.getoption("--kafkasim-check-determinism")
    if not wanted or "kafka_cluster" not in getattr(item, "fixturenames", ()):
        return
    _renew_fixtures(item)
    runtestprotocol(item, log=False, nextitem=nextitem)
    if _FINGERPRINT in item.stash:
        item.stash[_FIRST_FINGERPRINT] = item.stash[_FINGERPRINT]
        del item.stash[_FINGERPRINT]
    _renew_fixtures(item)


def _show_screen(item: pytest.Item, report: pytest.TestReport, failure: BaseException) -> None:
    """The test's own traceback, if it raised, and the screen; pytest's way through this package tells nobody anything."""
    text, cause = str(failure), failure.__cause__
    if cause is None or cause.__traceback__ is None:
        path, line, _ = item.location
        where = ReprFileLocation(path, (line or 0) + 1, text.partition("\n")[0])
        report.longrepr = ReprExceptionInfo(ReprTracebackNative([text + "\n"]), where)
    else:
        report.longrepr = item.repr_failure(pytest.ExceptionInfo.from_exception(cause))
        report.sections.append(("kafkasim", text))


def _skip_unsupported() -> Generator[None, None, None]:
    __tracebackhide__ = True
    try:
        yield
    except Unsupported as reason:
        pytest.skip(str(reason))


def _session(config: pytest.Config) -> _Session:
    session = config.pluginmanager.get_plugin("kafkasim-session")
    assert isinstance(session, _Session)
    return session


def replayed(config: pytest.Config) -> dict[str, Any] | None:
    """What ``--kafkasim-replay`` names; None without it."""
    return _session(config).replayed


def _replay_line(item: pytest.Item) -> str:
    """The command without the id that --kafkasim-seeds gave: the seed is said by its own flag."""
    node_id = re.sub(rf"-?{_SEED_ID}-\d+-?", "", item.nodeid).replace("[]", "")
    real = item.config.getoption("--kafkasim-real")
    where = f"--kafkasim-real={real}" if real else f"--kafkasim-seed={item.stash[_SEED]}"
    return f"pytest {_quoted(node_id)} {where}"


def _quoted(node_id: str) -> str:
    return node_id if re.fullmatch(r"[\w./:-]+", node_id) else "'" + node_id.replace("'", r"'\''") + "'"


def _read_replay(file: Path) -> dict[str, Any]:
    try:
        recorded = json.loads(file.read_text())
    except (OSError, ValueError) as problem:
        raise pytest.UsageError(f"--kafkasim-replay {file}: {problem}") from None
    if not isinstance(recorded, dict):
        raise pytest.UsageError(f"--kafkasim-replay {file}: not a JSON object with a seed")
    return recorded


def _renew_fixtures(item: pytest.Item) -> None:
    """Let the item be set up again, as plugins that rerun tests do."""
    item._initrequest()  # type: ignore[attr-defined]
