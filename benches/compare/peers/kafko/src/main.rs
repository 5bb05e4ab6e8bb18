//! kafko in its default settings: one partition, a task that writes, and an async API.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use harness::{About, Acknowledged, Batch, Checked, Peer, Result, Setup};
use kafko::{Consumer, Kafko, LogConfig, Partition, Producer};
use tokio::runtime::Runtime;

const TOPIC: &str = "compare";

struct InKafko {
    runtime: Runtime,
    broker: Kafko,
    producer: Producer,
    partition: Arc<Partition>,
    is_synced: bool,
}

struct Cursor {
    consumer: Consumer,
}

impl Peer for InKafko {
    type Cursor<'a> = Cursor;

    fn about() -> About {
        About {
            version: "kafko 0.3.0",
            acknowledged: Acknowledged::InPageCache,
            checked: Checked::OnRead,
            meaning: "in the page cache; after `Partition::sync` on the device",
            notes: "`send`, `send_batch`, `next_record`; each call waits for the task of the partition",
        }
    }

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let runtime = Runtime::new()?;
        let (broker, producer, partition) = runtime.block_on(async {
            let mut config = LogConfig::default();
            if let Some(bytes) = setup.segment_bytes {
                config.segment_size_threshold = bytes;
            }
            let broker = Kafko::open_with_config(dir, config).await?;
            if !broker.has_topic(TOPIC).await {
                broker.create_topic(TOPIC).await?;
            }
            let producer = broker.producer_for(TOPIC).await?;
            let topic = broker.topic(TOPIC).await.ok_or("no topic")?;
            let partition = Arc::clone(topic.partition(0).ok_or("no partition")?);
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((broker, producer, partition))
        })?;
        Ok(Self {
            runtime,
            broker,
            producer,
            partition,
            is_synced: setup.is_synced,
        })
    }

    fn append(&mut self, batch: Batch<'_>) -> Result<()> {
        self.append_shared(0, batch)
    }

    fn append_shared(&self, _thread: usize, batch: Batch<'_>) -> Result<()> {
        self.runtime.block_on(async {
            if batch.len() == 1 {
                self.producer
                    .send(None, Bytes::copy_from_slice(batch.bytes()))
                    .await?;
            } else {
                let values = batch
                    .iter()
                    .map(|value| (None, Bytes::copy_from_slice(value)));
                self.producer.send_batch(values.collect()).await?;
            }
            if self.is_synced {
                self.partition.sync().await?;
            }
            Ok(())
        })
    }

    fn close(self) -> Result<()> {
        drop((self.producer, self.partition));
        Ok(self.runtime.block_on(self.broker.shutdown())?)
    }

    fn cursor(&self) -> Result<Cursor> {
        let mut consumer = self.runtime.block_on(self.broker.consumer_for(TOPIC))?;
        consumer.seek_all(0);
        Ok(Cursor { consumer })
    }

    fn read(&self, cursor: &mut Cursor, visit: &mut impl FnMut(&[u8])) -> Result<u64> {
        if cursor.consumer.position(0) >= self.partition.high_water_mark() {
            return Ok(0);
        }
        let record = self.runtime.block_on(cursor.consumer.next_record())?;
        visit(record.value());
        Ok(1)
    }

    fn get(&self, _: &mut Cursor, index: u64, visit: &mut impl FnMut(&[u8])) -> Result<()> {
        if let Some(record) = self
            .runtime
            .block_on(self.partition.read_record_at(index))?
        {
            visit(record.value());
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    harness::main::<InKafko>()
}
