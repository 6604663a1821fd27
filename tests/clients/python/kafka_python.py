"""kafka-python."""
import threading

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource

from common import (
    BOOTSTRAP, CA_FILE, CODECS, PROTOCOL, SASL_MECHANISM, SASL_PASSWORD, SASL_USERNAME, START_TIME,
    deadline, main, messages, same)


def settings(**more):
    basics = {"bootstrap_servers": BOOTSTRAP, "security_protocol": PROTOCOL}
    if CA_FILE:
        basics["ssl_cafile"] = CA_FILE
    if SASL_MECHANISM:
        basics |= {"sasl_mechanism": SASL_MECHANISM, "sasl_plain_username": SASL_USERNAME,
                   "sasl_plain_password": SASL_PASSWORD}
    return basics | more


def send(topic, records, **more):
    producer = KafkaProducer(**settings(linger_ms=20, **more))
    sent = [producer.send(topic, key=key.encode(), value=value.encode()) for key, value in records]
    for delivery in sent:
        delivery.get(30)
    producer.close()


def read(group, topic, count):
    reader = KafkaConsumer(topic, **settings(group_id=group, auto_offset_reset="earliest"))
    found = []
    for _ in deadline(30, f"{topic}: reading {count}"):
        for batch in reader.poll(200).values():
            found += [(message.key.decode(), message.value.decode()) for message in batch]
        if len(found) >= count:
            break
    reader.close()
    return found


def codecs():
    for codec in CODECS:
        records = messages(50)
        send(f"codec-{codec}", records, compression_type=None if codec == "none" else codec)
        same(sorted(records), sorted(read(f"read-{codec}", f"codec-{codec}", 50)), codec)


def idempotent():
    records = messages(2000)
    send("idempotent", records, enable_idempotence=True)
    same(sorted(records), sorted(read("idempotent", "idempotent", 2000)), "each once")


class Member(threading.Thread):
    """One consumer of a group on a thread of its own: joining blocks this client's poll."""

    def __init__(self, seen):
        super().__init__(daemon=True)
        self.seen, self.assigned, self.leaving = seen, 0, False
        self.start()

    def run(self):
        reader = KafkaConsumer("shared", **settings(
            group_id="sharers", auto_offset_reset="earliest", session_timeout_ms=6000, heartbeat_interval_ms=500))
        while not self.leaving:
            for batch in reader.poll(100).values():
                self.seen += [int(message.value) for message in batch]
            self.assigned = len(reader.assignment())
        reader.close()


def wait(condition, what):
    pause = threading.Event()
    for _ in deadline(30, what):
        if condition():
            return
        pause.wait(0.05)


def group():
    """Two members share a topic; one leaves; nothing is missed."""
    records = [(f"key-{i}", str(i)) for i in range(600)]
    send("shared", records[:200])
    seen = []
    first = Member(seen)
    wait(lambda: first.assigned == 4, "one member has every partition")
    second = Member(seen)
    wait(lambda: first.assigned == second.assigned == 2, "two members share")
    send("shared", records[200:400])
    wait(lambda: set(seen) >= set(range(400)), "two members read")
    second.leaving = True
    second.join()
    send("shared", records[400:])
    wait(lambda: set(seen) >= set(range(600)), "the one that stays reads on")
    wait(lambda: first.assigned == 4, "the last member has every partition")
    first.leaving = True
    first.join()
    print("read twice:", len(seen) - len(set(seen)))


def offsets():
    producer = KafkaProducer(**settings())
    for i in range(10):
        producer.send("times", str(i).encode(), partition=0, timestamp_ms=START_TIME + i * 1000).get(30)
    producer.close()
    partition = TopicPartition("times", 0)
    reader = KafkaConsumer(**settings(group_id="times", enable_auto_commit=False))
    reader.assign([partition])
    same({partition: 0}, reader.beginning_offsets([partition]), "start")
    same({partition: 10}, reader.end_offsets([partition]), "end")
    same(5, reader.offsets_for_times({partition: START_TIME + 4500})[partition].offset, "first record after a time")
    reader.seek(partition, 2)
    same(b"2", next(reader).value, "after seek to 2")
    reader.commit()
    same(3, reader.committed(partition), "committed")
    reader.close()


def admin():
    client = KafkaAdminClient(**settings())
    resource = ConfigResource("TOPIC", "made")

    def retention():
        return client.describe_configs([resource])["topic"]["made"]["retention.ms"]["value"]

    def partitions():
        return len(client.describe_topics(["made"])[0]["partitions"])

    client.create_topics(
        {"made": {"num_partitions": 3, "replication_factor": 1, "configs": {"retention.ms": "60000"}}})
    same(3, partitions(), "partitions")
    same("60000", retention(), "as created")
    client.alter_configs([ConfigResource("TOPIC", "made", {"retention.ms": "120000"})])
    same("120000", retention(), "as altered")
    client.create_partitions({"made": 5})
    wait(lambda: partitions() == 5, "five partitions")
    send("made", messages(10))
    read("made-readers", "made", 10)
    same(True, "made-readers" in str(client.list_groups()), "the group is listed")
    client.delete_groups(["made-readers"])
    client.delete_topics(["made"])
    wait(lambda: "made" not in client.list_topics(), "the topic is gone")
    client.close()


main({"codecs": codecs, "idempotent": idempotent, "group": group, "offsets": offsets, "admin": admin})
