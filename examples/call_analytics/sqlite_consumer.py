#!/usr/bin/env python3
"""Write each call into SQLite, one at a time, and commit its offset afterwards.

At-least-once delivery meets an upsert: a call that comes twice is stored once.

    sqlite_consumer.py --bootstrap-server localhost:9092 --group billing --database calls.db
"""

import argparse
import json
import signal
import sqlite3
import sys

from confluent_kafka import Consumer, KafkaError, KafkaException

SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    call_id TEXT PRIMARY KEY, event_id TEXT NOT NULL, seconds INTEGER NOT NULL, times_seen INTEGER NOT NULL DEFAULT 1
)
"""
UPSERT = """
INSERT INTO calls (call_id, event_id, seconds) VALUES (?, ?, ?)
ON CONFLICT (call_id) DO UPDATE SET
    event_id = excluded.event_id, seconds = excluded.seconds, times_seen = times_seen + 1
"""


def store(database, message):
    """One transaction for one message; malformed ones are told and passed over."""
    try:
        call = json.loads(message.value())
    except ValueError:
        print(f"malformed: {message.topic()} [{message.partition()}] @ {message.offset()}", file=sys.stderr)
        return
    headers = dict(message.headers() or [])
    with database:
        database.execute(UPSERT, (call["call_id"], headers.get("ce_id", b"").decode(), call["seconds"]))


def main():
    parser = argparse.ArgumentParser(description="Consume call.completed into SQLite, committing after each call.")
    parser.add_argument("--bootstrap-server", required=True)
    parser.add_argument("--group", default="billing")
    parser.add_argument("--topic", default="call.completed")
    parser.add_argument("--database", default="calls.db")
    parser.add_argument("--idle", type=float, default=0.0, help="end after so many seconds without a message; 0: never")
    arguments = parser.parse_args()

    running = True

    def stop(number, frame):
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, stop)
    database = sqlite3.connect(arguments.database)
    database.execute(SCHEMA)
    consumer = Consumer(
        {
            "bootstrap.servers": arguments.bootstrap_server,
            "group.id": arguments.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([arguments.topic])
    stored = 0
    idle = 0.0
    try:
        while running and (arguments.idle == 0 or idle < arguments.idle):
            message = consumer.poll(1.0)
            if message is None:
                idle += 1.0
                continue
            if message.error():
                if message.error().code() == KafkaError._PARTITION_EOF:
                    continue
                raise KafkaException(message.error())
            idle = 0.0
            store(database, message)
            consumer.commit(message=message, asynchronous=False)
            stored += 1
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()
        database.close()
    print(f"{arguments.group}: {stored} messages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
