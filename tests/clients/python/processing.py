"""A worker of a read-process-write loop: librdkafka's transactional producer, and a consumer of a group.

Each record of "inputs", a number, becomes one of "outputs", its double; the offsets go with the transaction. It runs until
it is killed, or ends by itself when its producer is fenced or broken for good: whoever started it starts it again.
"""
import faulthandler
import random
import sys

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from common import BOOTSTRAP

NAME, SEED = sys.argv[1], int(sys.argv[2])
# Now and then a worker changes its mind, as one does that finds an error in its input.
ABORTS_IN_A_HUNDRED = 5
CHANCE = random.Random(SEED)
# librdkafka 2.16 may never come back from a transactional call when the broker went away in it: see FINDINGS.md.
STUCK_AFTER_SECONDS = 20

producer = Producer({
    "bootstrap.servers": BOOTSTRAP, "transactional.id": NAME, "transaction.timeout.ms": 10000,
    "reconnect.backoff.max.ms": 500, "linger.ms": 2, "log_level": 2})
consumer = Consumer({
    "bootstrap.servers": BOOTSTRAP, "group.id": "workers", "group.instance.id": NAME, "session.timeout.ms": 6000,
    "heartbeat.interval.ms": 500, "enable.auto.commit": False, "auto.offset.reset": "earliest",
    "isolation.level": "read_committed", "reconnect.backoff.max.ms": 500, "log_level": 2})


def patiently(call):
    """Again as long as the error asks for it."""
    while True:
        try:
            return call()
        except KafkaException as error:
            if not error.args[0].retriable():
                raise
            print("again:", error, flush=True)


def go_back():
    """The consumer goes on from what is committed: what was read since was not processed."""
    assignment = consumer.assignment()
    if not assignment:
        return
    for partition in patiently(lambda: consumer.committed(assignment, timeout=10)):
        offset = partition.offset if partition.offset >= 0 else 0
        consumer.seek(TopicPartition(partition.topic, partition.partition, offset))


def process(messages):
    """One transaction, committed or aborted."""
    producer.begin_transaction()
    try:
        for message in messages:
            number = int(message.value())
            producer.produce("outputs", key=message.value(), value=f"{number}:{2 * number}")
            producer.poll(0)
        after = {}
        for message in messages:
            after[(message.topic(), message.partition())] = message.offset() + 1
        offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in after.items()]
        patiently(lambda: producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), 10))
        if CHANCE.randrange(100) < ABORTS_IN_A_HUNDRED:
            patiently(lambda: producer.abort_transaction(10))
            return False
        patiently(lambda: producer.commit_transaction(10))
        return True
    except KafkaException as error:
        if not error.args[0].txn_requires_abort():
            raise
        print("aborts:", error, flush=True)
        patiently(lambda: producer.abort_transaction(10))
        return False


patiently(lambda: producer.init_transactions(20))
consumer.subscribe(["inputs"])
while True:
    received = [message for message in consumer.consume(50, 0.2) if not message.error()]
    if received:
        faulthandler.dump_traceback_later(STUCK_AFTER_SECONDS, exit=True)
        if not process(received):
            patiently(go_back)
        faulthandler.cancel_dump_traceback_later()
