#!/usr/bin/env python3
"""Write calls into SQLite in bulk: up to 500 at once, one transaction, then one commit.

batching_consumer.py --bootstrap-server localhost:9092 --group warehouse --database warehouse.db
"""

import argparse
import json
import signal
import sqlite3
import sys

from confluent_kafka import Consumer, KafkaException

SCHEMA = "CREATE TABLE IF NOT EXISTS calls (call_id TEXT PRIMARY KEY, agent TEXT NOT NULL, seconds INTEGER NOT NULL)"
UPSERT = """
INSERT INTO calls (call_id, agent, seconds) VALUES (:call_id, :agent, :seconds)
ON CONFLICT (call_id) DO UPDATE SET agent = excluded.agent, seconds = excluded.seconds
"""


def parse(message):
    """The call in a message, None if it is malformed."""
    try:
        return json.loads(message.value())
    except ValueError:
        return None


def main():
    parser = argparse.ArgumentParser(description="Consume call.completed into SQLite, a batch at a time.")
    parser.add_argument("--bootstrap-server", required=True)
    parser.add_argument("--group", default="warehouse")
    parser.add_argument("--topic", default="call.completed")
    parser.add_argument("--database", default="warehouse.db")
    parser.add_argument("--batch", type=int, default=500)
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
    stored = batches = 0
    idle = 0.0
    try:
        while running and (arguments.idle == 0 or idle < arguments.idle):
            messages = consumer.consume(arguments.batch, timeout=1.0)
            if not messages:
                idle += 1.0
                continue
            idle = 0.0
            for message in messages:
                if message.error():
                    raise KafkaException(message.error())
            calls = [call for call in map(parse, messages) if call is not None]
            with database:
                database.executemany(UPSERT, calls)
            consumer.commit(asynchronous=False)
            stored += len(calls)
            batches += 1
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()
        database.close()
    print(f"{arguments.group}: {stored} calls in {batches} batches")
    return 0


if __name__ == "__main__":
    sys.exit(main())
