#!/usr/bin/env python3
"""Lets librdkafka (confluent-kafka from PyPI) judge a broker.

    clients.py --broker PROGRAM [--transaction-version 2] [--profile redpanda] [--only NAME ...]
    clients.py --bootstrap 127.0.0.1:9092 [--only NAME ...]

With --broker it starts that program for itself, and also kills and restarts it. With --bootstrap it uses a broker that
runs already, Apache Kafka for example, and leaves those checks out. Exit code 0: all checks passed. 77: confluent-kafka
is not installed, nothing was checked.
"""

import argparse
import faulthandler
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

try:
    from confluent_kafka import (
        OFFSET_BEGINNING,
        Consumer,
        ConsumerGroupTopicPartitions,
        IsolationLevel,
        KafkaError,
        KafkaException,
        Producer,
        TopicPartition,
    )
    from confluent_kafka.admin import (
        AdminClient,
        AlterConfigOpType,
        ConfigEntry,
        ConfigResource,
        NewPartitions,
        NewTopic,
        OffsetSpec,
        ResourceType,
    )
except ImportError:
    print("skipped: confluent-kafka is not installed", file=sys.stderr)
    sys.exit(77)

CHECKS = []
SESSION_MS = 6000


def check(function):
    CHECKS.append(function)
    return function


class Broker:
    """The broker under test, with what every check needs of it."""

    def __init__(self, args):
        self.args = args
        self.process = None
        self.directory = None
        self.client = None
        self.bootstrap = args.bootstrap
        if args.broker:
            self.directory = tempfile.TemporaryDirectory(prefix="anabranch-broker-")
            self.start()

    def start(self):
        listen = self.bootstrap or "127.0.0.1:0"
        command = [self.args.broker, "--data-dir", self.directory.name, "--listen", listen, "--housekeeping-ms", "200"]
        command += ["--transaction-version", str(self.args.transaction_version), "--profile", self.args.profile]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.bootstrap = self.process.stdout.readline().strip()
        assert self.bootstrap, "the broker did not start"

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process:
            self.process.terminate()
            assert self.process.wait(timeout=15) == 0, "the broker did not stop cleanly"
            self.directory.cleanup()

    def admin(self):
        # Kept, as its requests end with it.
        self.client = self.client or AdminClient({"bootstrap.servers": self.bootstrap})
        return self.client

    def topic(self, name, partitions=1, **config):
        name = f"{name}-{random.getrandbits(48):012x}"
        config = {key.replace("_", "."): str(value) for key, value in config.items()}
        new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config)
        self.admin().create_topics([new])[name].result(timeout=20)
        return name

    def producer(self, **config):
        base = {"bootstrap.servers": self.bootstrap, "linger.ms": 5, "enable.idempotence": False}
        return Producer(base | {key.replace("_", "."): value for key, value in config.items()})

    def consumer(self, group="reader", **config):
        base = {
            "bootstrap.servers": self.bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": SESSION_MS,
            "heartbeat.interval.ms": 500,
        }
        return Consumer(base | {key.replace("_", "."): value for key, value in config.items()})

    def write(self, topic, records, **config):
        """Writes (key, value) pairs to partition 0 and waits for every acknowledgement. Returns the offsets."""
        producer, offsets, errors = self.producer(**config), [], []

        def delivered(error, message):
            if error:
                errors.append(error)
            else:
                offsets.append(message.offset())

        for key, value in records:
            producer.produce(topic, key=key, value=value, partition=0, on_delivery=delivered)
            producer.poll(0)
        assert producer.flush(30) == 0, "not everything was acknowledged"
        if errors:
            raise KafkaException(errors[0])
        return offsets

    def read(self, topic, count=None, offset=OFFSET_BEGINNING, seconds=10, partition=0, **config):
        """Reads from an offset on: `count` records, or all there are at the end of the partition."""
        consumer = self.consumer(enable_partition_eof=True, **config)
        consumer.assign([TopicPartition(topic, partition, offset)])
        records, end = [], time.monotonic() + seconds
        while time.monotonic() < end and (count is None or len(records) < count):
            message = consumer.poll(0.2)
            if message is None:
                continue
            if message.error():
                if message.error().code() == KafkaError._PARTITION_EOF:
                    if count is None:
                        break
                    continue
                raise KafkaException(message.error())
            records.append(message)
        consumer.close()
        if count is not None:
            assert len(records) == count, f"read {len(records)} records, not {count}"
        return records


def wait(seconds, what, condition):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


def values(messages):
    return [message.value() for message in messages]


def only(futures):
    """The result of the only one of several requests."""
    (future,) = futures.values()
    return future.result(timeout=20)


def expect(code, function):
    try:
        function()
    except KafkaException as error:
        found = error.args[0].code()
        assert found == code, f"error {found}, not {code}: {error}"
        return error.args[0]
    raise AssertionError(f"no error, where {code} was due")


# Records


@check
def codecs_and_fetch_inside_a_batch(broker):
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
        topic = broker.topic(f"codec-{codec}")
        expected = [f"{codec} {n} ".encode() * 20 for n in range(500)]
        offsets = broker.write(topic, [(b"k", value) for value in expected], compression_type=codec, linger_ms=200)
        assert offsets == list(range(500)), "offsets do not count up from 0"
        assert values(broker.read(topic, 500)) == expected
        for offset in [1, 37, 499]:
            assert values(broker.read(topic, 500 - offset, offset)) == expected[offset:]


@check
def headers_nulls_and_times(broker):
    # Recent, or retention deletes them.
    topic, then = broker.topic("headers"), int(time.time() * 1000) - 10_000
    producer = broker.producer()
    headers = [("a", b"1"), ("a", b"2"), ("none", None)]
    producer.produce(topic, key=None, value=b"v", headers=headers, timestamp=then)
    producer.produce(topic, key=b"\xff\xfe", value=None, timestamp=then + 1000)
    producer.produce(topic, key=b"k", value=b"w", timestamp=then + 2000)
    assert producer.flush(10) == 0
    first, second, third = broker.read(topic, 3)
    assert first.key() is None and first.headers() == headers
    assert second.key() == b"\xff\xfe" and second.value() is None
    assert third.timestamp()[1] == then + 2000
    consumer = broker.consumer()
    at = lambda time: consumer.offsets_for_times([TopicPartition(topic, 0, time)], timeout=10)[0].offset
    assert [at(then + 500), at(then + 2000)] == [1, 2]
    assert at(then + 3000) == -1
    consumer.close()
    latest = broker.admin().list_offsets({TopicPartition(topic, 0): OffsetSpec.max_timestamp()})
    assert [future.result(timeout=20).offset for future in latest.values()] == [2]


@check
def append_time(broker):
    topic = broker.topic("append-time", message_timestamp_type="LogAppendTime")
    broker.write(topic, [(b"k", b"v")])
    kind, time_ms = broker.read(topic, 1)[0].timestamp()
    assert kind == 2 and abs(time_ms - time.time() * 1000) < 60_000


@check
def out_of_range_is_an_error(broker):
    topic = broker.topic("range")
    broker.write(topic, [(b"k", b"v")] * 3)
    reset_to_error = {"auto_offset_reset": "error"}
    expect(KafkaError._AUTO_OFFSET_RESET, lambda: broker.read(topic, 1, 1000, **reset_to_error))
    assert broker.read(topic, None, 3, **reset_to_error) == [], "the end of the log is no error"


@check
def large_records(broker):
    topic = broker.topic("large")
    value = random.randbytes(900 * 1024)
    broker.write(topic, [(b"k", value)])
    assert values(broker.read(topic, 1)) == [value]
    too_large = lambda: broker.write(topic, [(b"k", random.randbytes(2 << 20))], message_max_bytes=8 << 20)
    expect(KafkaError.MSG_SIZE_TOO_LARGE, too_large)
    assert values(broker.read(topic, 1)) == [value], "the refused record is not there"
    small_fetch = broker.read(topic, 1, fetch_message_max_bytes=1000, fetch_max_bytes=70_000, message_max_bytes=2000)
    assert values(small_fetch) == [value], "a record larger than the limits of the fetch still arrives"


@check
def delete_records_then_fetch(broker):
    topic = broker.topic("delete-records")
    broker.write(topic, [(b"k", str(n).encode()) for n in range(20)])
    deleted = broker.admin().delete_records([TopicPartition(topic, 0, 7)])
    assert [future.result(timeout=20).low_watermark for future in deleted.values()] == [7]
    assert values(broker.read(topic)) == [str(n).encode() for n in range(7, 20)]
    expect(KafkaError._AUTO_OFFSET_RESET, lambda: broker.read(topic, 1, 3, auto_offset_reset="error"))
    for future in broker.admin().delete_records([TopicPartition(topic, 0, -1)]).values():
        assert future.result(timeout=20).low_watermark == 20
    broker.write(topic, [(b"k", b"after")])
    found = broker.read(topic, 1)
    assert [(message.offset(), message.value()) for message in found] == [(20, b"after")]
    beyond = lambda: only(broker.admin().delete_records([TopicPartition(topic, 0, 100)]))
    expect(KafkaError.OFFSET_OUT_OF_RANGE, beyond)


@check
def compaction_keeps_the_last_of_each_key(broker):
    config = {"cleanup_policy": "compact", "segment_ms": 100, "min_cleanable_dirty_ratio": 0.01, "delete_retention_ms": 100}
    topic = broker.topic("compact", **config)
    for lap in range(5):
        broker.write(topic, [(f"k{n}".encode(), f"{lap}-{n}".encode()) for n in range(10)])
        time.sleep(0.15)
    broker.write(topic, [(b"k0", None)])

    def compacted():
        # Compaction leaves the newest segment alone, and Apache Kafka starts one only with a record.
        time.sleep(0.15)
        broker.write(topic, [(b"last", b"x")])
        found = [(message.key(), message.value()) for message in broker.read(topic) if message.key() != b"last"]
        return sorted(found) == sorted((f"k{n}".encode(), f"4-{n}".encode()) for n in range(1, 10))

    wait(90, "one record per key, and no tombstone", compacted)
    offsets = [message.offset() for message in broker.read(topic)]
    assert offsets == sorted(offsets) and offsets[0] >= 40, "offsets are kept"
    expect(KafkaError.INVALID_RECORD, lambda: broker.write(topic, [(None, b"v")]))


@check
def retention_by_time(broker):
    if not broker.args.broker:
        return "needs --broker: Apache Kafka looks only every five minutes"
    topic = broker.topic("retention", retention_ms=1000, segment_ms=200)
    broker.write(topic, [(b"k", b"old")])
    consumer = broker.consumer()
    wait(10, "the record is gone", lambda: consumer.get_watermark_offsets(TopicPartition(topic, 0)) == (1, 1))
    consumer.close()


# Topics


@check
def topics_and_their_configuration(broker):
    admin = broker.admin()
    topic = broker.topic("config", 2, retention_ms=12345)
    resource = lambda *entries: ConfigResource(ResourceType.TOPIC, topic, incremental_configs=list(entries))
    described = lambda: only(admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]))
    assert described()["retention.ms"].value == "12345"
    set_to = ConfigEntry("retention.ms", "777", incremental_operation=AlterConfigOpType.SET)
    only(admin.incremental_alter_configs([resource(set_to)]))
    assert described()["retention.ms"].value == "777"
    wrong = ConfigEntry("retention.ms", "soon", incremental_operation=AlterConfigOpType.SET)
    expect(KafkaError.INVALID_CONFIG, lambda: only(admin.incremental_alter_configs([resource(wrong)])))
    delete = ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE)
    only(admin.incremental_alter_configs([resource(delete)]))
    assert described()["retention.ms"].value == "604800000"

    admin.create_partitions([NewPartitions(topic, 4)])[topic].result(timeout=20)
    wait(5, "four partitions", lambda: len(admin.list_topics(topic).topics[topic].partitions) == 4)
    expect(KafkaError.INVALID_PARTITIONS, admin.create_partitions([NewPartitions(topic, 2)])[topic].result)
    expect(KafkaError.TOPIC_ALREADY_EXISTS, admin.create_topics([NewTopic(topic, 1, 1)])[topic].result)
    expect(KafkaError.TOPIC_EXCEPTION, admin.create_topics([NewTopic("not a name", 1, 1)])["not a name"].result)
    validated = f"{topic}-validated"
    admin.create_topics([NewTopic(validated, 1, 1)], validate_only=True)[validated].result(timeout=20)
    assert validated not in admin.list_topics().topics
    admin.delete_topics([topic])[topic].result(timeout=20)
    wait(5, "the topic is gone", lambda: topic not in admin.list_topics().topics)
    if broker.args.broker:
        unknown = lambda: broker.write(f"{topic}-unknown", [(b"k", b"v")], topic_metadata_propagation_max_ms=0)
        expect(KafkaError.UNKNOWN_TOPIC_OR_PART, unknown)


# Groups


class Member:
    """A consumer that polls on a thread of its own and keeps what happened to it."""

    def __init__(self, broker, group, topic, **config):
        self.consumer = broker.consumer(group, **config)
        self.revoked, self.assigned, self.owned, self.seen = [], [], set(), []
        self.stopping = threading.Event()
        self.consumer.subscribe([topic], on_assign=self.on_assign, on_revoke=self.on_revoke, on_lost=self.on_revoke)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def on_assign(self, _, partitions):
        self.assigned.append({partition.partition for partition in partitions})
        self.owned |= self.assigned[-1]

    def on_revoke(self, _, partitions):
        self.revoked.append({partition.partition for partition in partitions})
        self.owned -= self.revoked[-1]

    def run(self):
        while not self.stopping.is_set():
            message = self.consumer.poll(0.1)
            if message is not None and not message.error():
                self.seen.append(message)
        self.consumer.close()

    def close(self):
        self.stopping.set()
        self.thread.join(15)


def fresh_group(name):
    return f"{name}-{random.getrandbits(48):012x}"


@check
def members_share_partitions(broker):
    topic, group = broker.topic("share", 4), fresh_group("share")
    one = Member(broker, group, topic)
    wait(15, "one member has all", lambda: one.owned == {0, 1, 2, 3})
    two = Member(broker, group, topic)
    wait(15, "two members share", lambda: len(one.owned) == len(two.owned) == 2 and not one.owned & two.owned)
    described = broker.admin().describe_consumer_groups([group])[group].result(timeout=20)
    assert described.state.name == "STABLE" and len(described.members) == 2
    two.close()
    wait(15, "the one left has all", lambda: one.owned == {0, 1, 2, 3})
    one.close()


KILLED = """
import sys
from confluent_kafka import Consumer
config = dict(pair.split("=", 1) for pair in sys.argv[2:])
consumer = Consumer(config)
consumer.subscribe([sys.argv[1]], on_assign=lambda _, partitions: print(len(partitions), flush=True))
while True:
    consumer.poll(0.1)
"""


@check
def a_killed_member_is_evicted_in_time(broker):
    topic, group = broker.topic("evict", 4), fresh_group("evict")
    config = {"bootstrap.servers": broker.bootstrap, "group.id": group, "session.timeout.ms": SESSION_MS}
    config["heartbeat.interval.ms"] = 500
    pairs = [f"{key}={value}" for key, value in config.items()]
    process = subprocess.Popen([sys.executable, "-c", KILLED, topic, *pairs], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "4"
    member = Member(broker, group, topic)
    wait(15, "two members share", lambda: len(member.owned) == 2)
    process.kill()
    process.wait()
    killed = time.monotonic()
    wait(SESSION_MS / 1000 + 4, "the other has all", lambda: member.owned == {0, 1, 2, 3})
    took = time.monotonic() - killed
    assert took > SESSION_MS / 1000 - 2, f"evicted after {took} s, long before its session ended"
    assert took < SESSION_MS / 1000 + 2, f"evicted only after {took} s"
    member.close()


@check
def a_static_member_comes_back_without_a_rebalance(broker):
    topic, group = broker.topic("static", 4), fresh_group("static")
    one = Member(broker, group, topic, group_instance_id="one")
    two = Member(broker, group, topic, group_instance_id="two")
    wait(20, "two members share", lambda: len(one.owned) == len(two.owned) == 2)
    before, had = len(one.assigned) + len(one.revoked), set(two.owned)
    two.close()
    again = Member(broker, group, topic, group_instance_id="two")
    wait(10, "the same partitions", lambda: again.owned == had)
    time.sleep(1.5)
    assert len(one.assigned) + len(one.revoked) == before, "the other member was disturbed"
    described = broker.admin().describe_consumer_groups([group])[group].result(timeout=20)
    assert sorted(member.group_instance_id for member in described.members) == ["one", "two"]
    one.close()
    again.close()


@check
def cooperative_members_keep_what_stays(broker):
    topic, group = broker.topic("cooperative", 4), fresh_group("cooperative")
    strategy = {"partition_assignment_strategy": "cooperative-sticky"}
    one = Member(broker, group, topic, **strategy)
    wait(15, "one member has all", lambda: one.owned == {0, 1, 2, 3})
    two = Member(broker, group, topic, **strategy)
    wait(20, "two members share", lambda: len(one.owned) == len(two.owned) == 2 and not one.owned & two.owned)
    assert [len(revoked) for revoked in one.revoked if revoked] == [2], f"revoked: {one.revoked}"
    one.close()
    two.close()


@check
def commits_with_metadata_and_lag(broker):
    topic, group = broker.topic("commit", 2), fresh_group("commit")
    broker.write(topic, [(b"k", b"v")] * 10)
    consumer = broker.consumer(group)
    consumer.subscribe([topic])
    wait(15, "assigned", lambda: consumer.poll(0.1) is None and consumer.assignment() or consumer.assignment())
    consumer.commit(offsets=[TopicPartition(topic, 0, 4, metadata="above: 5,7")], asynchronous=False)
    committed = consumer.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)], timeout=10)
    assert [(p.offset, p.metadata or "") for p in committed] == [(4, "above: 5,7"), (-1001, "")]
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0))
    assert high - committed[0].offset == 6, "the lag"
    too_long = [TopicPartition(topic, 0, 5, metadata="x" * 5000)]
    expect(KafkaError.OFFSET_METADATA_TOO_LARGE, lambda: consumer.commit(offsets=too_long, asynchronous=False))
    admin = broker.admin()
    delete = lambda: only(admin.delete_consumer_groups([group]))
    expect(KafkaError.NON_EMPTY_GROUP, delete)
    consumer.close()
    found = only(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))
    assert {(p.partition, p.offset, p.metadata) for p in found.topic_partitions if p.offset >= 0} == {(0, 4, "above: 5,7")}
    assert group in [listed.group_id for listed in admin.list_consumer_groups().result(timeout=20).valid]
    delete()
    assert group not in [listed.group_id for listed in admin.list_consumer_groups().result(timeout=20).valid]


# Idempotence and transactions


@check
def idempotent_producer(broker):
    topic = broker.topic("idempotent")
    expected = [str(n).encode() for n in range(5000)]
    broker.write(topic, [(b"k", value) for value in expected], enable_idempotence=True, linger_ms=1)
    assert values(broker.read(topic, 5000)) == expected


def transactional(broker, name, **config):
    producer = broker.producer(transactional_id=name, enable_idempotence=True, **config)
    producer.init_transactions(20)
    return producer


COMMITTED = {"isolation_level": "read_committed"}
UNCOMMITTED = {"isolation_level": "read_uncommitted"}


@check
def isolation(broker):
    topic = broker.topic("isolation")
    producer = transactional(broker, fresh_group("isolation"))
    for lap, commit in enumerate([True, False, True, False, False, True]):
        producer.begin_transaction()
        for n in range(10):
            producer.produce(topic, key=b"k", value=f"{lap}-{n}".encode(), partition=0)
            if n == 5:
                producer.flush()
        if commit:
            producer.commit_transaction(20)
        else:
            producer.flush()
            producer.abort_transaction(20)
    broker.write(topic, [(b"k", b"plain")])
    committed = [f"{lap}-{n}".encode() for lap in [0, 2, 5] for n in range(10)] + [b"plain"]
    everything = [f"{lap}-{n}".encode() for lap in range(6) for n in range(10)] + [b"plain"]
    assert values(broker.read(topic, **COMMITTED)) == committed
    assert values(broker.read(topic, **UNCOMMITTED)) == everything
    producer.begin_transaction()
    producer.produce(topic, value=b"open", partition=0)
    producer.flush()
    broker.write(topic, [(b"k", b"behind")])
    assert values(broker.read(topic, **COMMITTED)) == committed, "nothing behind an open transaction"
    assert values(broker.read(topic, **UNCOMMITTED)) == [*everything, b"open", b"behind"]
    end = lambda level: only(
        broker.admin().list_offsets({TopicPartition(topic, 0): OffsetSpec.latest()}, isolation_level=level)
    ).offset
    offsets = [end(IsolationLevel.READ_COMMITTED), end(IsolationLevel.READ_UNCOMMITTED)]
    assert offsets[1] - offsets[0] == 2
    producer.commit_transaction(20)
    assert values(broker.read(topic, **COMMITTED)) == [*committed, b"open", b"behind"]
    assert values(broker.read(topic, None, 25, **COMMITTED)) == [*committed[13:], b"open", b"behind"]


@check
def offsets_in_a_transaction(broker):
    source, target, group = broker.topic("source"), broker.topic("target"), fresh_group("offsets")
    broker.write(source, [(b"k", str(n).encode()) for n in range(10)])
    producer = transactional(broker, fresh_group("offsets"))
    consumer = broker.consumer(group, **COMMITTED)
    consumer.subscribe([source])
    messages = []
    wait(20, "ten records", lambda: messages.extend(consumer.consume(10, 0.5)) or len(messages) == 10)

    def transaction(upto, commit):
        producer.begin_transaction()
        for message in messages[:upto]:
            producer.produce(target, key=b"k", value=message.value(), partition=0)
        position = [TopicPartition(source, 0, upto)]
        producer.send_offsets_to_transaction(position, consumer.consumer_group_metadata(), 20)
        if commit:
            producer.commit_transaction(20)
        else:
            producer.abort_transaction(20)
        return consumer.committed([TopicPartition(source, 0)], timeout=10)[0].offset

    assert transaction(4, False) == -1001, "offsets of an aborted transaction"
    assert transaction(7, True) == 7
    assert transaction(9, False) == 7
    assert values(broker.read(target, **COMMITTED)) == [str(n).encode() for n in range(7)]
    consumer.close()


@check
def fencing(broker):
    topic, name = broker.topic("fencing"), fresh_group("fencing")
    old = transactional(broker, name)
    old.begin_transaction()
    old.produce(topic, value=b"zombie", partition=0)
    old.flush()
    new = transactional(broker, name)
    new.begin_transaction()
    new.produce(topic, value=b"new", partition=0)
    new.commit_transaction(20)
    try:
        old.commit_transaction(20)
    except KafkaException as error:
        assert error.args[0].fatal() or error.args[0].code() in (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH)
    else:
        raise AssertionError("the old producer was not fenced")
    assert values(broker.read(topic, **COMMITTED)) == [b"new"]


@check
def a_transaction_that_takes_too_long_is_aborted(broker):
    topic = broker.topic("timeout")
    producer = transactional(broker, fresh_group("timeout"), transaction_timeout_ms=2000)
    producer.begin_transaction()
    producer.produce(topic, value=b"late", partition=0)
    producer.flush()
    broker.write(topic, [(b"k", b"behind")])
    # Apache Kafka looks for such transactions every 10 s.
    wait(20, "readers go on", lambda: values(broker.read(topic, **COMMITTED)) == [b"behind"])
    try:
        producer.commit_transaction(20)
    except KafkaException:
        pass
    else:
        raise AssertionError("a transaction was committed that had been aborted")


# Crashes: only for a broker that was started here


class Restarter:
    def __init__(self, broker):
        self.broker = broker

    def __enter__(self):
        self.broker.kill()

    def __exit__(self, *_):
        self.broker.start()


@check
def nothing_acknowledged_is_lost_by_a_kill(broker):
    if not broker.args.broker:
        return "needs --broker"
    topic = broker.topic("kill")
    producer = broker.producer(enable_idempotence=True, linger_ms=0)
    acknowledged, stop = [], threading.Event()

    def delivered(error, message):
        if not error:
            acknowledged.append((message.offset(), message.value()))

    def produce():
        n = 0
        while not stop.is_set():
            producer.produce(topic, value=str(n).encode(), partition=0, on_delivery=delivered)
            n += 1
            producer.poll(0 if len(producer) < 1000 else 0.01)
            while len(producer) > 2000:
                producer.poll(0.01)

    thread = threading.Thread(target=produce)
    thread.start()
    for _ in range(3):
        time.sleep(0.7)
        with Restarter(broker):
            pass
        before = len(acknowledged)
        wait(20, "the producer goes on", lambda: len(acknowledged) > before + 100)
    stop.set()
    thread.join()
    assert producer.flush(30) == 0
    found = [(message.offset(), message.value()) for message in broker.read(topic, seconds=60)]
    missing = set(acknowledged) - set(found)
    assert not missing, f"{len(missing)} acknowledged records are lost"
    numbers = [int(value) for _, value in found]
    assert numbers == list(range(len(numbers))), "an idempotent producer's records came twice or out of order"


@check
def a_kill_with_transactions_in_the_history(broker):
    if not broker.args.broker:
        return "needs --broker"
    topic, group, name = broker.topic("history"), fresh_group("history"), fresh_group("history")
    producer = transactional(broker, name)
    consumer = broker.consumer(group)
    for lap, commit in enumerate([True, False, True]):
        producer.begin_transaction()
        producer.produce(topic, key=b"k", value=str(lap).encode(), partition=0)
        position = [TopicPartition(topic, 0, lap + 1, metadata=f"lap {lap}")]
        producer.send_offsets_to_transaction(position, consumer.consumer_group_metadata(), 20)
        if commit:
            producer.commit_transaction(20)
        else:
            producer.flush()
            producer.abort_transaction(20)
    producer.begin_transaction()
    producer.produce(topic, value=b"open", partition=0)
    producer.flush()
    orphan = transactional(broker, fresh_group("orphan"), transaction_timeout_ms=2000)
    orphan.begin_transaction()
    orphan.produce(topic, value=b"orphan", partition=0)
    orphan.flush()
    with Restarter(broker):
        pass
    committed = consumer.committed([TopicPartition(topic, 0)], timeout=20)[0]
    assert (committed.offset, committed.metadata) == (3, "lap 2")
    assert values(broker.read(topic, **COMMITTED)) == [b"0", b"2"]
    assert values(broker.read(topic, **UNCOMMITTED)) == [b"0", b"1", b"2", b"open", b"orphan"]
    producer.commit_transaction(30)
    broker.write(topic, [(b"k", b"behind")])
    expected = [b"0", b"2", b"open", b"behind"]
    wait(15, "the orphan is aborted", lambda: values(broker.read(topic, **COMMITTED)) == expected)
    producer.begin_transaction()
    producer.produce(topic, value=b"on", partition=0)
    producer.commit_transaction(30)
    with Restarter(broker):
        pass
    assert values(broker.read(topic, **COMMITTED)) == [*expected, b"on"]
    consumer.close()


@check
def a_kill_leaves_groups_and_topics(broker):
    if not broker.args.broker:
        return "needs --broker"
    topic, group = broker.topic("survive", 3, retention_ms=99999), fresh_group("survive")
    member = Member(broker, group, topic)
    wait(15, "assigned", lambda: len(member.owned) == 3)
    with Restarter(broker):
        pass
    broker.write(topic, [(b"k", b"after")])
    wait(20, "the member reads on", lambda: b"after" in values(member.seen))
    entries = only(broker.admin().describe_configs([ConfigResource(ResourceType.TOPIC, topic)]))
    assert entries["retention.ms"].value == "99999"
    member.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--broker", help="the program to start")
    which.add_argument("--bootstrap", help="host:port of a broker that runs")
    parser.add_argument("--transaction-version", type=int, default=1)
    parser.add_argument("--profile", choices=["kafka", "redpanda"], default="kafka")
    parser.add_argument("--seconds", type=int, default=300, help="the longest that the whole run may take")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    args = parser.parse_args()
    if args.broker:
        args.broker = os.path.abspath(args.broker)
    unknown = set(args.only) - {function.__name__ for function in CHECKS}
    if unknown:
        parser.error(f"no such check: {', '.join(sorted(unknown))}")
    # A check that hangs ends the run, broker and all.
    faulthandler.dump_traceback_later(args.seconds, exit=True)
    broker, failed = Broker(args), []
    for function in CHECKS:
        if args.only and function.__name__ not in args.only:
            continue
        began = time.monotonic()
        try:
            skipped = function(broker)
            word = f"skipped ({skipped})" if skipped else "ok"
        except Exception:
            traceback.print_exc()
            failed.append(function.__name__)
            word = "FAILED"
        print(f"{function.__name__}: {word}, {time.monotonic() - began:.1f} s", flush=True)
    broker.stop()
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
