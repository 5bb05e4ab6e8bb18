"""Runs the commands on its standard input with librdkafka, and prints "done" or "failed" after each."""

import os
import sys

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

PATIENCE = 60
server = sys.argv[1]
producers = {}


def producer(id):
    if id not in producers:
        producers[id] = Producer({
            "bootstrap.servers": server,
            "transactional.id": id,
            "linger.ms": 0,
            "log_level": 0,
            "reconnect.backoff.max.ms": 100,
        })
        producers[id].init_transactions(PATIENCE)
    return producers[id]


def offsets(id, group, topic, partition, offset, metadata):
    member = Consumer({"bootstrap.servers": server, "group.id": group})
    position = TopicPartition(topic, int(partition), int(offset), metadata)
    group = member.consumer_group_metadata()
    producer(id).send_offsets_to_transaction([position], group, PATIENCE)
    member.close()


def send(id, topic, partition, count, prefix):
    for number in range(int(count)):
        producer(id).produce(topic, f"{prefix}.{number}", partition=int(partition))
    if producer(id).flush(PATIENCE):
        sys.exit("the broker did not take all records")


commands = {
    "begin": lambda id: producer(id).begin_transaction(),
    "send": send,
    "offsets": offsets,
    "commit": lambda id: producer(id).commit_transaction(PATIENCE),
    "abort": lambda id: producer(id).abort_transaction(PATIENCE),
}
for line in sys.stdin:
    name, *words = line.split()
    try:
        commands[name](*words)
        print("done", flush=True)
    except KafkaException as error:
        print("failed", error, flush=True)
# Without closing the producers, so that open transactions stay open.
os._exit(0)
