"""Confluent's Python client for Apache Kafka: the part that is a C extension in the real package, in Python.

Mirrors:  confluent_kafka.cimpl 2.16, name by name.
Rule 1:   this module only gathers; each class has a module of its own.
"""

from __future__ import annotations

import contextvars

from kafkasim.confluent_kafka._constants import *  # noqa: F403
from kafkasim.confluent_kafka._version import libversion as libversion
from kafkasim.confluent_kafka._version import version as version
from kafkasim.confluent_kafka.admin_client import _AdminClientImpl as _AdminClientImpl
from kafkasim.confluent_kafka.consumer import Consumer as Consumer
from kafkasim.confluent_kafka.errors import ConcurrentModificationException as ConcurrentModificationException
from kafkasim.confluent_kafka.errors import IllegalStateException as IllegalStateException
from kafkasim.confluent_kafka.errors import KafkaError as KafkaError
from kafkasim.confluent_kafka.errors import KafkaException as KafkaException
from kafkasim.confluent_kafka.message import Message as Message
from kafkasim.confluent_kafka.partitioners import consistent as consistent
from kafkasim.confluent_kafka.partitioners import fnv1a as fnv1a
from kafkasim.confluent_kafka.partitioners import murmur2 as murmur2
from kafkasim.confluent_kafka.producer import Producer as Producer
from kafkasim.confluent_kafka.share_consumer import ShareConsumer as ShareConsumer
from kafkasim.confluent_kafka.values import NewPartitions as NewPartitions
from kafkasim.confluent_kafka.values import NewTopic as NewTopic
from kafkasim.confluent_kafka.values import TopicPartition as TopicPartition
from kafkasim.confluent_kafka.values import Uuid as Uuid

#: The asynchronous consumer presents its identity here; one thread of virtual time has no use for it.
_reentry_identity_var: contextvars.ContextVar[int] = contextvars.ContextVar("reentry_identity", default=0)
