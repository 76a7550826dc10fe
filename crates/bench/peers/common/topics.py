"""Creates topics that are not there yet."""

import os

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code


async def ensure(brokers, names, partitions):
    replicas = int(os.environ.get("REPLICAS", "1"))
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic(name, partitions, replicas) for name in names])
        for _, code, *why in answer.topic_errors:
            if code and for_code(code) is not TopicAlreadyExistsError:
                raise for_code(code)(*why)
    finally:
        await admin.close()
