"""The KYC flow on FastStream: a process for each agent, a topic for each agent's tasks, a join in the composer's memory.

FastStream moves records; it has no state and no join, so what the composer knows is a dict. Environment: BROKERS,
MODEL_URL, IN_TOPIC, OUT_TOPIC; PREFIX of the topics between; PARTITIONS; REPLICAS; WORKERS (max_workers of each subscriber, 1 is
FastStream's default); ACK=first (FastStream's default) or ACK=done (committed once handled); ACKS of the producer;
SETTLE_MS before fraud judges; DEADLINE_S of a case.
"""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage

sys.path.insert(0, str(Path(__file__).parent.parent / "common"))
import kyc  # noqa: E402
import processes  # noqa: E402
import topics  # noqa: E402

BROKERS = os.environ["BROKERS"]
IN, OUT = os.environ["IN_TOPIC"], os.environ["OUT_TOPIC"]
PREFIX = os.environ.get("PREFIX", f"{OUT}.faststream")
WORKERS, PARTITIONS = int(os.environ.get("WORKERS", "1")), int(os.environ.get("PARTITIONS", "6"))
ACK = {"first": AckPolicy.ACK_FIRST, "done": AckPolicy.ACK}[os.environ.get("ACK", "first")]
ACKS = {"1": 1, "all": "all"}[os.environ.get("ACKS", "1")]
SETTLE, DEADLINE = int(os.environ.get("SETTLE_MS", "2000")) / 1000, float(os.environ.get("DEADLINE_S", "300"))
RESULTS, DLQ, ALERTS, MESSAGES = f"{PREFIX}.results", f"{IN}.dlq", f"{OUT}.alerts", f"{OUT}.messages"
TASKS = {agent: f"{PREFIX}.tasks.{agent}" for agent in (*kyc.AGENTS, "customer")}
MOST = 200_000  # closed cases that the composer remembers


class Service:
    """What every role has: a broker, and how it subscribes and publishes."""

    def __init__(self, role):
        self.role, self.broker = role, KafkaBroker(BROKERS, acks=ACKS, logger=None)
        self.workers = WORKERS
        if role == "fraud" and SETTLE:  # a case that settles must not hold up the next
            self.workers = max(WORKERS, 256 if ACK is AckPolicy.ACK_FIRST else PARTITIONS)

    def subscribe(self, topic):
        return self.broker.subscriber(topic, group_id=f"{PREFIX}.{self.role}", auto_offset_reset="earliest",
                                      ack_policy=ACK, max_workers=self.workers)

    async def publish(self, topic, case, value):
        await self.broker.publish(value, topic=topic, key=case.encode())


def key_of(msg):
    raw = msg.raw_message
    return raw.key.decode(errors="replace") if raw.key else f"{raw.topic}-{raw.partition}-{raw.offset}"


def supervisor(service):
    @service.subscribe(IN)
    async def on_request(msg: KafkaMessage):
        case, request = key_of(msg), await msg.decode()
        if not kyc.readable(request):
            return await service.publish(DLQ, case, msg.body)
        plan = {"kind": "plan", "case": case, "agents": kyc.AGENTS, "opened_at": kyc.now(), "request": request}
        await service.publish(RESULTS, case, plan)
        task = {"case": case, "round": 0, "question": None, "request": request}
        await asyncio.gather(*(service.publish(TASKS[agent], case, task) for agent in kyc.AGENTS))


def agent(service):
    model, history, role = kyc.Model(), kyc.History(), service.role

    @service.subscribe(TASKS[role])
    async def on_task(task: dict):
        case, request = task["case"], task["request"]
        if role == "fraud":
            history.add(case, request)
            await asyncio.sleep(SETTLE)
            answer = kyc.fraud(request, history.related(case, kyc.traits(request)), len(history.cases))
        else:
            answer = await getattr(kyc, role)(model, case, request, task)
        await service.publish(RESULTS, case, {"kind": "part", "case": case, "round": task["round"], "part": answer})


def customer(service):
    model = kyc.Model()

    @service.subscribe(TASKS["customer"])
    async def on_task(task: dict):
        message = await kyc.customer(model, task["case"], task["request"], task["outcome"])
        await service.publish(MESSAGES, task["case"], message)


class Case:
    def __init__(self):
        self.plan, self.parts, self.round, self.waits_for = None, {}, 0, None
        self.due = time.monotonic() + DEADLINE


def composer(service):
    open_, closed = {}, {}

    async def settle(case_id, case, missing=()):
        what, decided = kyc.compose(case_id, case.parts, case.round, case.plan["opened_at"], missing)
        request = case.plan["request"]
        if what == "follow_up":
            case.round, case.waits_for = case.round + 1, set(decided)
            await asyncio.gather(*(service.publish(TASKS[a], case_id, {
                "case": case_id, "round": case.round, "question": q, "request": request}) for a, q in decided.items()))
            return
        del open_[case_id]
        closed[case_id] = None
        if len(closed) > MOST:
            del closed[next(iter(closed))]
        await service.publish(OUT, case_id, decided)
        task = {"case": case_id, "request": request, "outcome": decided}
        await service.publish(TASKS["customer"], case_id, task)

    @service.subscribe(RESULTS)
    async def on_result(result: dict):
        case_id = result["case"]
        if case_id in closed:
            return
        case = open_.setdefault(case_id, Case())
        if result["kind"] == "plan":
            if case.plan is None:
                case.plan = result
                case.waits_for = set(result["agents"]) - set(case.parts)
        elif result["part"]["agent"] not in case.parts or result["round"] == case.round:
            answer = case.parts[result["part"]["agent"]] = result["part"]
            if case.waits_for:
                case.waits_for.discard(answer["agent"])
            if result["round"] == 0 and (alert := kyc.alert_of(case_id, answer)):
                await service.publish(ALERTS, case_id, alert)
        # Another handler may have closed it while this one waited.
        if case.plan and case.waits_for is not None and not case.waits_for and case_id in open_:
            case.waits_for = None
            await settle(case_id, case)

    async def watch_deadlines():
        while True:
            await asyncio.sleep(1)
            late = [(i, c) for i, c in open_.items() if c.plan and c.waits_for and c.due < time.monotonic()]
            for case_id, case in late:
                missing, case.waits_for = sorted(case.waits_for), None
                await settle(case_id, case, missing)

    return watch_deadlines


async def run(role, ready):
    service = Service(role)
    roles = {"supervisor": supervisor, "customer": customer, "composer": composer}
    background = roles.get(role, agent)(service)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await topics.ensure(BROKERS, [IN, OUT, RESULTS, DLQ, ALERTS, MESSAGES, *TASKS.values()], PARTITIONS)
    await service.broker.start()
    while not all(assigned(s) for s in service.broker.subscribers):
        await asyncio.sleep(0.1)
    ready()
    watching = asyncio.create_task(background()) if background else None
    await stop.wait()
    if watching:
        watching.cancel()
    await service.broker.stop()


def assigned(subscriber):
    if consumers := getattr(subscriber, "consumer_subgroup", None):
        return any(c.assignment() for c in consumers)
    return bool(subscriber.consumer and subscriber.consumer.assignment())


if __name__ == "__main__":
    processes.run_all(run, ["supervisor", *kyc.AGENTS, "customer", "composer"])
