"""KafkaError and the exceptions of the client.

Mirrors:  cimpl.KafkaError, KafkaException, IllegalStateException, ConcurrentModificationException.
Rule 1:   an error is a value that compares, orders and hashes as its code; only KafkaException is raised.
Rule 2:   codes, names and texts come from `_error_table.py`, which is librdkafka's own table.
Differs:  comparing an error for equality with something that is no number is False; the C type leaves an exception
          pending that breaks whatever runs next.
"""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any, NoReturn

from kafkasim.confluent_kafka._arguments import c_arguments
from kafkasim.confluent_kafka._error_table import ERRORS

if TYPE_CHECKING:
    from kafkasim.core.model.errors import ErrorCode

_NAMES: dict[int, str] = {code: name for code, name, _ in ERRORS}
_TEXTS: dict[int, str] = {code: text for code, _, text in ERRORS}


def error_text(code: int) -> str:
    """What a code means, in librdkafka's words."""
    text = _TEXTS.get(code)
    return f"Err-{code}?" if text is None else text


def error_name(code: int) -> str:
    """The constant of a code."""
    name = _NAMES.get(code)
    return f"ERR_{code}?" if name is None else name


class _ErrorConstants(type):
    """Gives KafkaError its constants, so that the class body need not list 188 of them."""

    if TYPE_CHECKING:

        def __getattr__(cls, name: builtins.str) -> int: ...


class KafkaError(metaclass=_ErrorConstants):
    """A Kafka error or event: ``code()`` is one of the constants of this class."""

    __slots__ = ("_code", "_fatal", "_retriable", "_text", "_txn_requires_abort")

    _code: int
    _text: builtins.str
    _fatal: bool
    _retriable: bool
    _txn_requires_abort: bool

    @c_arguments("i|ziii")
    def __init__(
        self,
        error: int,
        reason: builtins.str | None = None,
        fatal: int = 0,
        retriable: int = 0,
        txn_requires_abort: int = 0,
    ) -> None:
        self._code = error
        self._text = error_text(error) if reason is None else reason
        self._fatal = bool(fatal)
        self._retriable = bool(retriable)
        self._txn_requires_abort = bool(txn_requires_abort)

    def code(self) -> int:
        """The code, for comparison with the constants of this class."""
        return self._code

    def name(self) -> builtins.str:
        """The name of the code."""
        return error_name(self._code)

    def str(self) -> builtins.str:
        """What happened, for people."""
        return self._text

    def fatal(self) -> bool:
        """Whether the client instance can do nothing more."""
        return self._fatal

    def retriable(self) -> bool:
        """Whether the operation may be tried again."""
        return self._retriable

    def txn_requires_abort(self) -> bool:
        """Whether the current transaction must be aborted."""
        return self._txn_requires_abort

    def __reduce__(self) -> tuple[type[KafkaError], tuple[int, builtins.str, int, int, int]]:
        flags = int(self._fatal), int(self._retriable), int(self._txn_requires_abort)
        return type(self), (self._code, self._text, *flags)

    def __repr__(self) -> builtins.str:
        fatal = "FATAL," if self._fatal else ""
        return f'KafkaError{{{fatal}code={self.name()},val={self._code},str="{self._text}"}}'

    def __hash__(self) -> int:
        return self._code

    def __eq__(self, other: object) -> bool:
        return self._code == other._code if isinstance(other, KafkaError) else self._code == other

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: KafkaError | int) -> bool:
        return self._code < _code_of(other)

    def __le__(self, other: KafkaError | int) -> bool:
        return self._code <= _code_of(other)

    def __gt__(self, other: KafkaError | int) -> bool:
        return self._code > _code_of(other)

    def __ge__(self, other: KafkaError | int) -> bool:
        return self._code >= _code_of(other)


def _code_of(other: KafkaError | int) -> int:
    if isinstance(other, KafkaError):
        return other._code
    return other.__index__()


for _code, _name, _ in ERRORS:
    setattr(KafkaError, _name, _code)


class KafkaException(Exception):
    """Raised where an operation fails; ``args[0]`` is its KafkaError."""


class IllegalStateException(RuntimeError):
    """Raised by ShareConsumer for a call that its state does not allow, as on a closed consumer."""


class ConcurrentModificationException(RuntimeError):
    """Raised by a consumer that is used from more than one thread at a time."""


# A traceback prints an exception as module.name, and programs' expected output knows "cimpl.KafkaException".
for _exception in (KafkaException, IllegalStateException, ConcurrentModificationException):
    _exception.__module__ = "cimpl"


def error_of(code: ErrorCode | int, reason: str | None = None, *, fatal: bool = False) -> KafkaError:
    """A KafkaError for a code of the model."""
    return KafkaError(int(code), reason, fatal)


def error_or_none(code: ErrorCode | int, reason: str | None = None) -> KafkaError | None:
    """None for success, else the error."""
    return KafkaError(int(code), reason) if code else None


def throw(code: ErrorCode | int, reason: str | None = None, **flags: Any) -> NoReturn:
    """Raise a KafkaException for a code."""
    raise KafkaException(KafkaError(int(code), reason, **flags))
