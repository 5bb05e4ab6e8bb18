//! The records of `__transaction_state`. The file `transaction_state` of `format` describes them.

use super::RecordType;
use super::schema::{Field, int8, int16, int32, int32s, int64, structs, text};

/// Returns the schemas of a type of record.
pub(super) fn record_type(kind: i16) -> Option<RecordType> {
    (kind == 0).then_some(RecordType {
        key: KEY,
        value: STATE,
        newest: 1,
        flexible_since: 1,
    })
}

const KEY: &[Field] = &[text("transactionalId")];
const STATE: &[Field] = &[
    int64("producerId"),
    int64("previousProducerId").since(1).tagged(0, "-1"),
    int64("nextProducerId").since(1).tagged(1, "-1"),
    int16("producerEpoch"),
    int16("nextProducerEpoch").since(1).tagged(3, "-1"),
    int32("transactionTimeoutMs"),
    int8("transactionStatus"),
    structs("transactionPartitions", PARTITIONS).nullable(),
    int64("transactionLastUpdateTimestampMs"),
    int64("transactionStartTimestampMs"),
    int16("clientTransactionVersion").since(1).tagged(2, "0"),
];
const PARTITIONS: &[Field] = &[text("topic"), int32s("partitionIds")];
