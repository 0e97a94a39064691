#!/usr/bin/env python3
"""Each line of standard input becomes a message.

produce_stdin.py <bootstrap-servers> <topic>
"""

import sys

from confluent_kafka import Producer

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.stderr.write(f"usage: {sys.argv[0]} <bootstrap-servers> <topic>\n")
        sys.exit(1)
    servers, topic = sys.argv[1:]
    producer = Producer(**{"bootstrap.servers": servers})

    def told(error, message):
        if error:
            sys.stderr.write(f"% not delivered: {error}\n")
        else:
            sys.stderr.write(f"% {message.topic()} [{message.partition()}] @ {message.offset()}\n")

    for line in sys.stdin:
        try:
            producer.produce(topic, line.rstrip(), callback=told)
        except BufferError:
            sys.stderr.write(f"% the local queue is full ({len(producer)} messages): try again\n")
        producer.poll(0)
    sys.stderr.write(f"% waiting for {len(producer)} deliveries\n")
    producer.flush()
