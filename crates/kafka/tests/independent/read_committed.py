#!/usr/bin/env python3
"""Prints what librdkafka (confluent-kafka from PyPI) reads of a topic with read_committed, as JSON.

    read_committed.py BOOTSTRAP TOPIC PARTITIONS

{"0": ["value", ...], ...}, each partition up to its end at the start. Exit code 77: confluent-kafka is not installed.
"""

import json
import sys
import time

try:
    from confluent_kafka import Consumer, KafkaError, TopicPartition
except ImportError:
    sys.exit(77)

LIMIT_S = 60


def main():
    bootstrap, topic, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "read-committed",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(topic, p, 0) for p in range(count)])
    values = {p: [] for p in range(count)}
    open_partitions = set(values)
    deadline = time.monotonic() + LIMIT_S
    while open_partitions:
        if time.monotonic() > deadline:
            sys.exit(f"no end of {sorted(open_partitions)} within {LIMIT_S} s")
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error():
            if message.error().code() != KafkaError._PARTITION_EOF:
                sys.exit(str(message.error()))
            open_partitions.discard(message.partition())
        else:
            values[message.partition()].append(message.value().decode())
    consumer.close()
    json.dump(values, sys.stdout)


main()
