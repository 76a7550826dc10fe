"""Counts the outcomes of each case that a read_committed reader sees: an independent client (librdkafka).

Reads the topics from their beginning until they have ended (their last stable offsets at the start), and prints JSON:
{"outcomes": {case: count}}.
"""
import json
import sys

from confluent_kafka import Consumer, TopicPartition

bootstrap, topics = sys.argv[1], sys.argv[2:]
consumer = Consumer({
    "bootstrap.servers": bootstrap,
    "group.id": "count-outcomes-unused",
    "enable.auto.commit": False,
    "isolation.level": "read_committed",
    "auto.offset.reset": "earliest",
    "enable.partition.eof": False,
})
metadata = consumer.list_topics(timeout=30)
ends = {}
for topic in topics:
    for partition in metadata.topics[topic].partitions:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
        if end > 0:
            ends[(topic, partition)] = end
consumer.assign([TopicPartition(t, p, 0) for t, p in ends])
outcomes = {}
idle = 0
while ends and idle < 30:
    message = consumer.poll(1.0)
    if message is None:
        idle += 1
    elif message.error():
        sys.exit(str(message.error()))
    else:
        idle = 0
        key = (message.key() or b"").decode("utf-8", "replace")
        outcomes[key] = outcomes.get(key, 0) + 1
    for position in consumer.position([TopicPartition(t, p) for t, p in ends]):
        if position.offset >= ends[(position.topic, position.partition)]:
            del ends[(position.topic, position.partition)]
if ends:
    sys.exit(f"not read to the end: {ends}")
print(json.dumps({"outcomes": outcomes}))
