"""Writes a record in a transaction and aborts it, then one that commits: an independent client (librdkafka)."""
import sys

from confluent_kafka import Producer

bootstrap, topic, aborted_key, committed_key, value = sys.argv[1:6]
producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": f"foreign-{topic}"})
producer.init_transactions(30)
producer.begin_transaction()
producer.produce(topic, key=aborted_key, value=value)
producer.flush(30)
producer.abort_transaction(30)
producer.begin_transaction()
producer.produce(topic, key=committed_key, value=value)
producer.commit_transaction(30)
print("done")
