import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** Runs the commands on its standard input with Kafka's clients, and prints "done" or "failed" after each. */
public final class Client {
    private static String server;
    private static final Map<String, KafkaProducer<byte[], byte[]>> producers = new HashMap<>();

    public static void main(String[] arguments) throws IOException {
        server = arguments[0];
        var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            try {
                run(line.split(" "));
                System.out.println("done");
            } catch (Exception error) {
                System.out.println("failed " + error);
            }
            System.out.flush();
        }
        // Without closing the producers, so that open transactions stay open.
        Runtime.getRuntime().halt(0);
    }

    @SuppressWarnings("removal") // The group has no members.
    private static void run(String[] words) throws Exception {
        switch (words[0]) {
            case "create" -> create(words[1], Integer.parseInt(words[2]));
            case "begin" -> producer(words[1]).beginTransaction();
            case "send" -> send(words);
            case "offsets" -> {
                var next = new OffsetAndMetadata(Long.parseLong(words[5]), words[6]);
                var partition = new TopicPartition(words[3], Integer.parseInt(words[4]));
                var group = new ConsumerGroupMetadata(words[2]);
                producer(words[1]).sendOffsetsToTransaction(Map.of(partition, next), group);
            }
            case "commit" -> producer(words[1]).commitTransaction();
            case "abort" -> producer(words[1]).abortTransaction();
            case "read" -> read(words[1], words[2]);
            case "committed" -> committed(words[1]);
            default -> throw new IllegalArgumentException(words[0]);
        }
    }

    private static void create(String topic, int partitions) throws Exception {
        try (var admin = Admin.create(config())) {
            var created = new NewTopic(topic, partitions, (short) 1);
            created.configs(Map.of("retention.ms", "-1"));
            admin.createTopics(List.of(created)).all().get();
        }
    }

    private static KafkaProducer<byte[], byte[]> producer(String id) {
        return producers.computeIfAbsent(id, unknown -> {
            var config = config();
            config.put("transactional.id", id);
            config.put("linger.ms", "0");
            var serializer = "org.apache.kafka.common.serialization.ByteArraySerializer";
            config.put("key.serializer", serializer);
            config.put("value.serializer", serializer);
            var producer = new KafkaProducer<byte[], byte[]>(config);
            producer.initTransactions();
            return producer;
        });
    }

    private static Properties config() {
        var config = new Properties();
        config.put("bootstrap.servers", server);
        config.put("retry.backoff.ms", "20");
        config.put("reconnect.backoff.max.ms", "100");
        return config;
    }

    /** Sends a number of records, and waits until the broker has written them. */
    private static void send(String[] words) {
        var producer = producer(words[1]);
        for (int number = 0; number < Integer.parseInt(words[4]); number++) {
            byte[] value = (words[5] + "." + number).getBytes(StandardCharsets.UTF_8);
            producer.send(new ProducerRecord<>(words[2], Integer.parseInt(words[3]), null, value));
        }
        producer.flush();
    }

    /** Prints all records of a topic up to the end that this isolation shows. */
    private static void read(String isolation, String topic) {
        var config = config();
        config.put("isolation.level", isolation);
        var deserializer = "org.apache.kafka.common.serialization.ByteArrayDeserializer";
        config.put("key.deserializer", deserializer);
        config.put("value.deserializer", deserializer);
        try (var consumer = new KafkaConsumer<byte[], byte[]>(config)) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (var info : consumer.partitionsFor(topic)) {
                partitions.add(new TopicPartition(topic, info.partition()));
            }
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            for (var end : consumer.endOffsets(partitions).entrySet()) {
                System.out.println("end " + end.getKey().partition() + " " + end.getValue());
                while (consumer.position(end.getKey()) < end.getValue()) {
                    for (var record : consumer.poll(Duration.ofMillis(100))) {
                        String value = Base64.getEncoder().encodeToString(record.value());
                        var place = record.partition() + " " + record.offset();
                        System.out.println("record " + place + " " + value);
                    }
                }
            }
        }
    }

    private static void committed(String group) throws Exception {
        try (var admin = Admin.create(config())) {
            var listed = admin.listConsumerGroupOffsets(group);
            for (var entry : listed.partitionsToOffsetAndMetadata().get().entrySet()) {
                var partition = entry.getKey();
                var next = entry.getValue();
                var place = partition.topic() + " " + partition.partition();
                System.out.println("position " + place + " " + next.offset() + " " + next.metadata());
            }
        }
    }
}
