# Confluent's Python quickstart as documented: do not adapt it to the broker; the broker has to run it as it is.
from confluent_kafka import Consumer, Producer

p = Producer({'bootstrap.servers': 'localhost:9092'})


def delivery_report(err, msg):
    """ Called once for each message produced to indicate delivery result.
        Triggered by poll() or flush(). """
    if err is not None:
        print('Message delivery failed: {}'.format(err))
    else:
        print('Message delivered to {} [{}]'.format(msg.topic(), msg.partition()))


for i in range(10):
    # Trigger any available delivery report callbacks from previous produce() calls
    p.poll(0)
    # Asynchronously produce a message. The delivery report callback will
    # be triggered from the call to poll() above, or flush() below, when the
    # message has been successfully delivered or failed permanently.
    p.produce('example_topic', key='key{}'.format(i), value='value{}'.format(i), callback=delivery_report)

# Wait for any outstanding messages to be delivered and delivery report
# callbacks to be triggered.
p.flush()

c = Consumer({
    'bootstrap.servers': 'localhost:9092',
    'group.id': 'example_group',
    'auto.offset.reset': 'earliest'
})

c.subscribe(['example_topic'])

received = 0
while received < 10:
    msg = c.poll(1.0)

    if msg is None:
        continue
    if msg.error():
        print("Consumer error: {}".format(msg.error()))
        continue

    print('Received message: {}'.format(msg.value().decode('utf-8')))
    received += 1

c.close()
