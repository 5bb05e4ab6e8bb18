//! The records of `__consumer_offsets`.
//!
//! A group of the classic protocol has one record with its members (type 2). Groups of the newer
//! protocols have a record for the group, one for each member, and those of the assignment. The
//! names in the tables are those of Kafka's schemas.

use super::RecordType;
use super::schema::{
    Field, NO_UUID, bytes, int8, int16, int16s, int32, int32s, int64, protocol, protocol_type,
    structs, structure, text, texts, uint16, uuid,
};

/// Returns the schemas of a type of record.
pub(super) fn record_type(kind: i16) -> Option<RecordType> {
    // Key, value, newest version of the value, first flexible one.
    let (key, value, newest, flexible_since) = match kind {
        0 => (COMMIT_KEY, OLD_COMMIT, 0, 1),
        1 => (COMMIT_KEY, COMMIT, 4, 4),
        2 => (CLASSIC_GROUP_ID, CLASSIC_GROUP, 4, 4),
        3 => (GROUP_ID, CONSUMER_GROUP, 0, 0),
        4 => (GROUP_ID, SUBSCRIBED_TOPICS, 0, 0),
        5 => (MEMBER_ID, CONSUMER_MEMBER, 0, 0),
        6 | 12 | 20 => (GROUP_ID, TARGET, 0, 0),
        7 | 13 => (MEMBER_ID, TARGET_MEMBER, 0, 0),
        8 => (MEMBER_ID, CONSUMER_ASSIGNMENT, 0, 0),
        10 => (MEMBER_ID, SHARE_MEMBER, 0, 0),
        11 => (GROUP_ID, SHARE_GROUP, 0, 0),
        14 => (MEMBER_ID, SHARE_ASSIGNMENT, 0, 0),
        15 => (GROUP_ID, SHARE_PARTITIONS, 0, 0),
        16 => (REGEX_KEY, REGEX_TOPICS, 0, 0),
        17 => (GROUP_ID, STREAMS_GROUP, 0, 0),
        19 => (MEMBER_ID, STREAMS_MEMBER, 0, 0),
        21 => (MEMBER_ID, STREAMS_TARGET_MEMBER, 0, 0),
        22 => (MEMBER_ID, STREAMS_ASSIGNMENT, 0, 0),
        23 => (GROUP_ID, STREAMS_TOPOLOGY, 0, 0),
        _ => return None,
    };
    Some(RecordType {
        key,
        value,
        newest,
        flexible_since,
    })
}

// Committed positions: types 0 and 1.

const COMMIT_KEY: &[Field] = &[text("group"), text("topic"), int32("partition")];
const OLD_COMMIT: &[Field] = &[int64("offset"), text("metadata"), int64("commitTimestamp")];
const COMMIT: &[Field] = &[
    int64("offset"),
    int32("leaderEpoch").since(3),
    text("metadata"),
    int64("commitTimestamp"),
    int64("expireTimestamp").only(1),
    uuid("topicId").since(4).tagged(0, NO_UUID),
];

// Groups of the classic protocol: type 2. The members of a consumer group have two fields with a
// schema of their own.

const CLASSIC_GROUP_ID: &[Field] = &[text("group")];
const CLASSIC_GROUP: &[Field] = &[
    protocol_type("protocolType"),
    int32("generation"),
    text("protocol").nullable(),
    text("leader").nullable(),
    int64("currentStateTimestamp").since(2),
    structs("members", CLASSIC_MEMBER),
];
const CLASSIC_MEMBER: &[Field] = &[
    text("memberId"),
    text("groupInstanceId").since(3).nullable(),
    text("clientId"),
    text("clientHost"),
    int32("rebalanceTimeout").since(1),
    int32("sessionTimeout"),
    protocol("subscription", SUBSCRIPTION),
    protocol("assignment", ASSIGNMENT),
];
const SUBSCRIPTION: &[Field] = &[
    texts("topics"),
    bytes("userData").nullable(),
    structs("ownedPartitions", NUMBERS).since(1),
    int32("generationId").since(2),
    text("rackId").since(3).nullable(),
];
const ASSIGNMENT: &[Field] = &[
    structs("assignedPartitions", NUMBERS),
    bytes("userData").nullable(),
];
const NUMBERS: &[Field] = &[text("topic"), int32s("partitions")];

// Parts of the records of the newer protocols.

const GROUP_ID: &[Field] = &[text("groupId")];
const MEMBER_ID: &[Field] = &[text("groupId"), text("memberId")];
const TARGET: &[Field] = &[
    int32("assignmentEpoch"),
    int64("assignmentTimestamp").tagged(0, "0"),
];
const TOPIC_PARTITIONS: &[Field] = &[uuid("topicId"), int32s("partitions")];
const EPOCH_PARTITIONS: &[Field] = &[
    uuid("topicId"),
    int32s("partitions"),
    int32s("assignmentEpochs").nullable().tagged(0, "[]"),
];
const TARGET_MEMBER: &[Field] = &[structs("topicPartitions", TOPIC_PARTITIONS)];
const KEY_VALUE: &[Field] = &[text("key"), text("value")];

// Consumer groups: types 3 to 8, and 16.

const CONSUMER_GROUP: &[Field] = &[int32("epoch"), int64("metadataHash").tagged(0, "0")];
const SUBSCRIBED_TOPICS: &[Field] = &[structs("topics", TOPIC)];
const TOPIC: &[Field] = &[
    uuid("topicId"),
    text("topicName"),
    int32("numPartitions"),
    structs("partitionMetadata", PARTITION_RACKS),
];
const PARTITION_RACKS: &[Field] = &[int32("partition"), texts("racks")];
const CONSUMER_MEMBER: &[Field] = &[
    text("instanceId").nullable(),
    text("rackId").nullable(),
    text("clientId"),
    text("clientHost"),
    texts("subscribedTopicNames"),
    text("subscribedTopicRegex").nullable(),
    int32("rebalanceTimeoutMs"),
    text("serverAssignor").nullable(),
    structure("classicMemberMetadata", CLASSIC_PROTOCOLS)
        .nullable()
        .tagged(0, r#"{"sessionTimeoutMs":0,"supportedProtocols":[]}"#),
];
const CLASSIC_PROTOCOLS: &[Field] = &[
    int32("sessionTimeoutMs"),
    structs("supportedProtocols", CLASSIC_PROTOCOL),
];
const CLASSIC_PROTOCOL: &[Field] = &[text("name"), bytes("metadata")];
const CONSUMER_ASSIGNMENT: &[Field] = &[
    int32("memberEpoch"),
    int32("previousMemberEpoch"),
    int8("state"),
    structs("assignedPartitions", EPOCH_PARTITIONS),
    structs("partitionsPendingRevocation", EPOCH_PARTITIONS),
];
const REGEX_KEY: &[Field] = &[text("groupId"), text("regularExpression")];
const REGEX_TOPICS: &[Field] = &[texts("topics"), int64("version"), int64("timestamp")];

// Share groups: types 10 to 15.

const SHARE_MEMBER: &[Field] = &[
    text("rackId").nullable(),
    text("clientId"),
    text("clientHost"),
    texts("subscribedTopicNames"),
];
const SHARE_GROUP: &[Field] = &[int32("epoch"), int64("metadataHash")];
const SHARE_ASSIGNMENT: &[Field] = &[
    int32("memberEpoch"),
    int32("previousMemberEpoch"),
    int8("state"),
    structs("assignedPartitions", TOPIC_PARTITIONS),
];
const SHARE_PARTITIONS: &[Field] = &[
    structs("initializingTopics", NAMED_PARTITIONS),
    structs("initializedTopics", NAMED_PARTITIONS),
    structs("deletingTopics", NAMED_TOPIC),
];
const NAMED_PARTITIONS: &[Field] = &[uuid("topicId"), text("topicName"), int32s("partitions")];
const NAMED_TOPIC: &[Field] = &[uuid("topicId"), text("topicName")];

// Streams groups: types 17 and 19 to 23.

const STREAMS_GROUP: &[Field] = &[
    int32("epoch"),
    int64("metadataHash"),
    int32("validatedTopologyEpoch").tagged(0, "-1"),
    structs("lastAssignmentConfigs", KEY_VALUE)
        .nullable()
        .tagged(1, "[]"),
];
const STREAMS_MEMBER: &[Field] = &[
    text("instanceId").nullable(),
    text("rackId").nullable(),
    text("clientId"),
    text("clientHost"),
    int32("rebalanceTimeoutMs"),
    int32("topologyEpoch"),
    text("processId"),
    structure("userEndpoint", ENDPOINT).nullable(),
    structs("clientTags", KEY_VALUE),
];
const ENDPOINT: &[Field] = &[text("host"), uint16("port")];
const TASK_IDS: &[Field] = &[text("subtopologyId"), int32s("partitions")];
const OWNED_TASK_IDS: &[Field] = &[
    text("subtopologyId"),
    int32s("partitions"),
    int32s("assignmentEpochs").nullable().tagged(0, "[]"),
];
const STREAMS_TARGET_MEMBER: &[Field] = &[
    structs("activeTasks", TASK_IDS),
    structs("standbyTasks", TASK_IDS),
    structs("warmupTasks", TASK_IDS),
];
const STREAMS_ASSIGNMENT: &[Field] = &[
    int32("memberEpoch"),
    int32("previousMemberEpoch"),
    int8("state"),
    structs("activeTasks", OWNED_TASK_IDS),
    structs("standbyTasks", OWNED_TASK_IDS),
    structs("warmupTasks", OWNED_TASK_IDS),
    structs("activeTasksPendingRevocation", OWNED_TASK_IDS),
    structs("standbyTasksPendingRevocation", OWNED_TASK_IDS),
    structs("warmupTasksPendingRevocation", OWNED_TASK_IDS),
];
const STREAMS_TOPOLOGY: &[Field] = &[int32("epoch"), structs("subtopologies", SUBTOPOLOGY)];
const SUBTOPOLOGY: &[Field] = &[
    text("subtopologyId"),
    texts("sourceTopics"),
    texts("sourceTopicRegex"),
    structs("stateChangelogTopics", STREAMS_TOPIC),
    texts("repartitionSinkTopics"),
    structs("repartitionSourceTopics", STREAMS_TOPIC),
    structs("copartitionGroups", COPARTITION_GROUP),
];
const STREAMS_TOPIC: &[Field] = &[
    text("name"),
    int32("partitions"),
    int16("replicationFactor"),
    structs("topicConfigs", KEY_VALUE),
];
const COPARTITION_GROUP: &[Field] = &[
    int16s("sourceTopics"),
    int16s("sourceTopicRegex"),
    int16s("repartitionSourceTopics"),
];
