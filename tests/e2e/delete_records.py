"""Deletes all records there are now of a topic: delete_records.py BOOTSTRAP TOPIC PARTITIONS"""

import sys

from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import AdminClient

bootstrap, topic, partitions = sys.argv[1:]
admin = AdminClient({"bootstrap.servers": bootstrap})
everything = [TopicPartition(topic, partition, OFFSET_END) for partition in range(int(partitions))]
for partition, deleted in admin.delete_records(everything, request_timeout=30).items():
    print(partition.partition, deleted.result().low_watermark)
