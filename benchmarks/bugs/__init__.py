"""Known bugs of Kafka and of its users, each behind a switch: taken away, the bug must be found; there, nothing may be reported.

python -m benchmarks.bugs [--quick] [--only NAME] [--seeds N] [--json]
"""
