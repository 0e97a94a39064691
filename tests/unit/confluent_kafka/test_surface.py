"""The facade's names, values and messages against those of the installed client."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
from tests.unit.confluent_kafka.real_client import ask_real_client, names_of, outcome, surface

import kafkasim.confluent_kafka as facade
from kafkasim.confluent_kafka import cimpl, layer

VALUE_EXPRESSIONS = """
KE(3)
KE()
KE('x')
KE(3, 'r', True, True, True)
KE(3, 5)
KE(3, None).str()
KE(3, retriable=2).retriable()
KE(3, foo=1)
KE(1, 2, 3, 4, 5, 6)
KE(error=1, code=2)
KE(3, error=3)
KE(12345)
KE(12345).name()
KE(-300).str()
str(KE(3))
hasattr(KE(3), 'args'), hasattr(KE(3), '__dict__'), isinstance(KE(3), BaseException)
KE(3) == 3, KE(3) == KE(3), KE(3) != 4, 3 == KE(3), KE(3) < 4, KE(3) >= KE(3), hash(KE(3)), hash(KE(-195))
KE(-1) == -1
bool(KE(0))
KE(3, 'a', True).__reduce__()[1]
KE(2**40)
KE(True)
KE(3, 'x', fatal='x')
KE(3, 'r', fatal=True)
KE._PARTITION_EOF, KE.UNKNOWN, KE.NO_ERROR
str(KafkaException(KE(3)))
repr(KafkaException(KE(3)))
KafkaException.__module__, IllegalStateException.__mro__[1].__name__
KE.__name__, TP.__module__, TP.__name__, Producer.__module__
TP('t')
TP()
TP(5)
TP(None)
TP(b'x')
TP('t', 'x')
TP('t', 1.5)
TP('t', partition=1, offset=2, metadata=3)
TP('t', 0, 0, None)
TP('t', 0, 0, 'm', None)
TP('t', 1, 2, 'm', 3, 4)
TP('t', foo=1)
TP('t', topic='u')
TP('t', 0, 5, 'm', 7)
TP('t', 0, 5, 'm', -7).leader_epoch
TP('t', 0, 5).metadata, TP('t', 0, 5).error, TP('t').offset, TP('t').partition, TP('t').leader_epoch
TP('t') == 1
TP('t') != None
TP('t', 0) in [None]
TP('t') < TP('u'), TP('t', 3) < TP('t', 5), TP('t', 3) == TP('t', 3, 9), TP('t', 3) >= TP('t', 3)
hash(TP('t', 3)) == hash('t') ^ 3, hash(TP('t', -1)) == hash('t') ^ -1
hasattr(TP('t'), '__dict__')
setattr(TP('t'), 'offset', 'x')
TP('t', 2**31)
TP('t', 0, 2**63)
TP('a' + chr(0) + 'b')
sorted([TP('b', 1), TP('a', 2), TP('b', 0)])
[TP('a', 0)] == [TP('a', 0)]
(M().topic(), M().partition(), M().offset(), M().key(), M().value(), M().headers(), M().error(), M().timestamp())
M().latency(), M().leader_epoch(), M().delivery_count()
len(M()), len(M(value=b'abc')), len(M(value='ab')), bool(M()), bool(M(value=b'a'))
len(M(value=5))
M('t', 1, 2, b'k', b'v', [('a', b'b')], None, (1, 5), 0.25, 3, 2).latency()
M('t', 1, 2, b'k', b'v', [('a', b'b')], None, (1, 5), 0.25, 3, 2).__reduce__()[1]
M('t').__reduce__()[1]
M('t', timestamp=5)
M('t', timestamp=(1,))
M('t', 'x')
M(foo=1)
M('t', 1, 2, b'k', b'v', [('a', b'b')], None, (1, 5), 0.25, 3, 2, 4)
M('t', partition=None)
M('t', 1, offset=None)
M('t', latency='x')
M('t', 1) == M('t', 1), M('t', 1) == 5, M('t', 1) != M('t', 2), M('t') == M('t', latency=3.0)
M('t', 1, error=KE(3)) == M('t', 1, error=KE(3))
hasattr(M('t'), '__dict__'), M.__hash__
Uuid(1, 2)
str(Uuid(1, 2)), hash(Uuid(1, 2)), Uuid(1, 2) == Uuid(1, 2), Uuid(1, 2).get_most_significant_bits()
Uuid(-1, -2)
Uuid(2**62, 3), hash(Uuid(-5, 3))
Uuid(1)
Uuid('a', 1)
Uuid(2**64, 1)
NewTopic('t')
NewTopic('t', 3, 2)
NewTopic()
NewTopic('t', 'a')
NewTopic('t', config=3)
NewTopic('t', config=None)
NewTopic('t', config={}).config
NewTopic('t', 3) == NewTopic('t', 3), NewTopic('t', 3) < NewTopic('u')
NewTopic('t', 3) == 5
NewTopic('t', 3).replica_assignment, NewTopic('t', 3).config, NewTopic('t').replication_factor
NewTopic('t', foo=1)
hash(NewTopic('t', 3)) == hash('t') ^ 3, hash(NewTopic('t')) == hash('t')
NewPartitions('t', 3)
NewPartitions('t')
NewPartitions('t', 3).replica_assignment
NewPartitions('t', 3, [[1]]) == NewPartitions('t', 3)
version(), libversion()
murmur2(b'abc', 10), consistent(b'abc', 10), fnv1a(b'abc', 10)
consistent(b'', 10), fnv1a(b'', 10), murmur2(b'', 10)
murmur2('abc', 10)
murmur2(5, 10)
murmur2(bytearray(b'abc'), 10)
murmur2(b'abc', 'x')
murmur2(b'abc', 0)
murmur2(b'abc')
murmur2(b'abc', 10, 1)
consistent(key=b'x', partition_count=1)
Producer()
Producer(5)
Producer({}, 5)
Producer({1: 2})
Producer({'foo': 1})
Producer({'acks': 'bad'})
Producer({'linger.ms': -5})
Producer({'linger.ms': 'x'})
Producer({'enable.idempotence': 'maybe'})
Producer({'enable.idempotence': True, 'acks': 1})
Producer({'error_cb': 5})
Producer({'error_cb': None})
Producer({'stats_cb': 5})
Producer({'throttle_cb': 5})
Producer({'on_delivery': 5})
Producer({'dr_cb': print})
Producer({'delivery.report.only.error': 5})
Producer({'debug': 'foo'})
Producer({'default.topic.config': 5})
Producer({'security.protocol': 'bad'})
Producer({'partitioner': 'bad'})
Producer({'on_commit': print})
Consumer()
Consumer({})
Consumer({'group.id': 'g', 'on_commit': 5})
Consumer({'group.id': 'g', 'enable.auto.commit': 'x'})
Consumer({'group.id': 'g', 'auto.offset.reset': 'x'})
Consumer({'group.id': 'g', 'session.timeout.ms': 0})
Consumer({'group.id': 'g', 'max.poll.interval.ms': 10})
Consumer({'group.id': 'g', 'on_delivery': print})
Consumer({'group.id': 'g', 'oauth_cb': 5})
Consumer(5)
ShareConsumer()
ShareConsumer({})
ShareConsumer({'group.id': 'g', 'on_commit': print})
_AdminClientImpl()
_AdminClientImpl({'foo': 1})
""".strip().split("\n")


@pytest.fixture(scope="module")
def real() -> Any:
    """What the installed client answers."""
    return ask_real_client(VALUE_EXPRESSIONS)


def test_module_has_every_name_and_value_of_the_real_one(real: Any) -> None:
    """Constants are equal, classes have the same members; a newer client's additions show up here."""
    ours = surface(cimpl)
    for name, expected in real["surface"].items():
        assert name in ours, f"cimpl.{name} is missing"
        assert ours[name] == expected, f"cimpl.{name}"


def test_module_has_no_public_name_of_its_own(real: Any) -> None:
    """What a program could find here it finds in the real module."""
    public = {name for name in surface(cimpl) if not name.startswith("_")}
    assert public - {"annotations"} <= set(real["surface"])


def test_package_offers_the_same_names(real: Any) -> None:
    """Everything in __all__, and every submodule that the real package has loaded."""
    assert sorted(facade.__all__) == real["all"]
    for name in real["package"]:
        if name not in ("os", "_serde_builder"):
            assert hasattr(facade, name), name


@pytest.mark.parametrize("index", range(len(VALUE_EXPRESSIONS)), ids=VALUE_EXPRESSIONS)
def test_expression_gives_what_the_real_client_gives(real: Any, index: int) -> None:
    """Values, representations, argument errors and configuration errors, in the real client's words."""
    ours = outcome(VALUE_EXPRESSIONS[index], names_of(cimpl))
    assert _without_package(ours) == _without_package(real["outcomes"][index])


def _without_package(text: str) -> str:
    return text.replace("kafkasim.confluent_kafka", "confluent_kafka")


#: Where the stub file of the client and its C code differ, ours follow the C code.
_STUB_IS_WRONG = {
    "KafkaError.__init__",
    "Producer.send_offsets_to_transaction",
    "_AdminClientImpl.describe_topics",
    "_AdminClientImpl.describe_consumer_groups",
    "_AdminClientImpl.alter_consumer_group_offsets",
}


def _stub_parameters() -> dict[str, list[str]]:
    """Parameter names by method, from the stub file of the installed client; of overloaded ones all together."""
    directory = layer.layer_directory()
    assert directory is not None
    found: dict[str, list[str]] = {}
    for node in ast.parse((Path(directory) / "cimpl.pyi").read_text()).body:
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef):
                    arguments = [*method.args.posonlyargs, *method.args.args, *method.args.kwonlyargs]
                    names = found.setdefault(f"{node.name}.{method.name}", [])
                    names += [argument.arg for argument in arguments if argument.arg not in ("self", *names)]
    return found


def test_methods_take_the_parameters_of_the_stub_file() -> None:
    """Same names in the same order, for every method that is documented."""
    for method, expected in _stub_parameters().items():
        class_name, name = method.split(".")
        ours = getattr(cimpl, class_name)
        if method in _STUB_IS_WRONG or (name.startswith("__") and name != "__init__"):
            continue
        if not hasattr(ours, name):
            assert method == "Uuid.__int__" or name == "delivery_count", method
            continue
        parameters = list(inspect.signature(getattr(ours, name)).parameters)[1:]
        if parameters[:1] in (["args"], ["_ignored"]) or method == "Consumer.commit":
            continue
        assert [name.rstrip("_") for name in parameters if name != "unknown"] == expected, method


def test_every_module_of_the_layer_is_ours() -> None:
    """The modules that user code imports come up under our name."""
    for name in ("admin", "serialization", "error", "serializing_producer", "deserializing_consumer", "aio"):
        module = importlib.import_module(f"kafkasim.confluent_kafka.{name}")
        assert module.__name__ == f"kafkasim.confluent_kafka.{name}"
