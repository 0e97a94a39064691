"""Exceptions of kafkasim itself; what a Kafka client would raise lives in the facade.

Rule 1:   errors of the modelled world are not here: they are values, or confluent_kafka's own exceptions.
"""


class Unsupported(Exception):
    """This backend cannot do what was asked, and says why; the pytest plugin turns it into a skip."""


class ConfigurationError(ValueError):
    """What was asked for cannot be: an unknown key, an impossible value. The text names it and the way out."""
