"""Sends demo cases to a peer and counts what comes back: outcomes, lost, doubled, wrong, cases a second.

    check.py --brokers HOST:PORT --in-topic T --out-topic T [--cases 200] [--rate R] [--mix demo|clean]

It is for trying a peer out. It sends as fast as the broker takes it, or --rate a second; it is no load generator.
S7 needs a vendor that is down, which no peer has; a malformed request must end as a dead letter. With --no-settle, for a
peer that runs with SETTLE_MS=0, the three cases of one address may be judged before all of them were seen.
"""

import argparse
import collections
import copy
import json
import pathlib
import sys
import time
import uuid

from confluent_kafka import Consumer, Producer, TopicPartition

CASES = pathlib.Path(__file__).parents[2] / "cli/demo/cases"


def templates(mix):
    cases = [json.loads(f.read_text()) for f in sorted(CASES.glob("*.json"))]
    cases = [c for c in cases if c["id"] != "S7"]
    return [c for c in cases if c["id"] == "S1"] if mix == "clean" else cases


def requests(mix, count, run):
    """(case id, value, expected, copies): the demo's cases again and again, each time from elsewhere."""
    cases = templates(mix)
    for n in range(count):
        turn, case = divmod(n, len(cases))
        case = copy.deepcopy(cases[case])
        case_id = f"{run}-{n}-{case['id']}"
        if "raw" in case:
            yield case_id, case["raw"], case["expect"], 1
            continue
        source = case["request"]["source"]
        last = source["ip"].rpartition(".")[2]
        source["ip"] = f"2001:db8:{turn >> 16 & 0xffff:x}:{turn & 0xffff:x}::{last}" if mix == "demo" else f"2001:db8:{n:x}::1"
        source["device_id"] += f"-{run}-{n}"
        yield case_id, json.dumps(case["request"]), case["expect"], case.get("copies", 1)


def watch(args, run):
    consumer = Consumer({"bootstrap.servers": args.brokers, "group.id": f"check-{run}", "enable.auto.commit": False,
                         "isolation.level": args.isolation, "auto.offset.reset": "earliest"})
    tps = []
    for topic in (args.out_topic, f"{args.in_topic}.dlq"):
        found = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        for p in found:
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)
            tps.append(TopicPartition(topic, p, end))
    consumer.assign(tps)
    return consumer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--in-topic", required=True)
    parser.add_argument("--out-topic", required=True)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--rate", type=float, default=0, help="cases a second; 0: as fast as the broker takes them")
    parser.add_argument("--mix", choices=["demo", "clean"], default="demo")
    parser.add_argument("--no-settle", action="store_true")
    parser.add_argument("--patience", type=float, default=60, help="seconds without anything new until the rest counts as lost")
    parser.add_argument("--isolation", choices=["read_committed", "read_uncommitted"], default="read_committed")
    args = parser.parse_args()

    run = uuid.uuid4().hex[:8]
    consumer, producer = watch(args, run), Producer({
        "bootstrap.servers": args.brokers, "linger.ms": 1, "acks": "all", "partitioner": "murmur2_random"})
    expected, sent_at, seen, first, wrong = {}, {}, collections.Counter(), {}, []
    started = time.monotonic()

    def take(timeout):
        message = consumer.poll(timeout)
        if message is None or message.error() or not message.key():
            return False
        case_id = message.key().decode()
        if case_id not in expected:
            return False
        seen[case_id] += 1
        if seen[case_id] > 1:
            return True
        first[case_id] = time.monotonic()
        want = expected[case_id]
        got = {"state": "dead_letter", "codes": []} if message.topic().endswith(".dlq") else json.loads(message.value())
        if args.no_settle and "-S6-" in case_id:
            return True
        if got["state"] != want["state"] or not set(want["codes"]) <= set(got["codes"]):
            wrong.append((case_id, got["state"], got["codes"], want))
        return True

    for n, (case_id, value, expect, copies) in enumerate(requests(args.mix, args.cases, run)):
        while args.rate and time.monotonic() < started + n / args.rate:
            take(0.0005)
        expected[case_id], sent_at[case_id] = expect, time.monotonic()
        for _ in range(copies):
            producer.produce(args.in_topic, value, case_id)
        producer.poll(0)
    producer.flush(30)
    last = time.monotonic()
    while time.monotonic() - last < (args.patience if len(seen) < len(expected) else 2):
        if take(0.1):
            last = time.monotonic()
    consumer.close()

    lost = len(expected) - len(seen)
    doubled = sum(count - 1 for count in seen.values())
    took = sorted(first[c] - sent_at[c] for c in first)
    span = max(first.values(), default=started) - started
    print(json.dumps({
        "cases": len(expected), "outcomes": len(seen), "lost": lost, "doubled": doubled, "wrong": len(wrong),
        "seconds": round(span, 3), "cases_per_second": round(len(seen) / span, 1) if span > 0 else None,
        "p50_ms": round(took[len(took) // 2] * 1000) if took else None,
        "p99_ms": round(took[int(len(took) * 0.99)] * 1000) if took else None}))
    for case_id in [c for c in expected if c not in seen][:10]:
        print("lost:", case_id, file=sys.stderr)
    for line in wrong[:10]:
        print("wrong:", *line, file=sys.stderr)
    return 1 if lost or doubled or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
