//! Uses of the API that must compile, although lifetimes or conversions could easily forbid them.
use annals::*;
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

static LOG: OnceLock<Log> = OnceLock::new();

fn flat(p: &Partition) -> Result<usize> {
    let (mut reader, mut keyed) = (p.read(..)?, 0);
    while let Some(record) = reader.next_record()? {
        keyed += usize::from(record.key().is_some());
    }
    Ok(keyed)
}
fn adaptors(p: &Partition) -> Result<Vec<Record<'static>>> {
    p.read(10..20)?
        .map(|batch| {
            batch?
                .iter()
                .map(|r| Ok(Record::from(r?).into_owned()))
                .collect::<Result<Vec<_>>>()
        })
        .collect::<Result<Vec<_>>>()
        .map(|v| v.concat())
}
fn keep_views(c: &mut Consumer) -> Result<usize> {
    let records = c.poll(Duration::ZERO)?;
    let views = records.iter().collect::<Result<Vec<RecordView<'_>>>>()?;
    c.commit()?; // the views borrow from `records`, not from the consumer
    Ok(views.len())
}
async fn report(c: &Consumer) {
    let lag = c.lag();
    tokio::task::yield_now().await;
    let _ = (lag, c.assignment());
}
fn spawn(c: Consumer) {
    tokio::spawn(async move { report(&c).await });
}
fn append(t: &Topic, s: String, b: &[u8], k: Option<&str>) -> Result<()> {
    t.append(format!("{s}!"))?;
    t.append(&s)?;
    t.append(b)?;
    t.append(b"raw")?;
    t.append(("k", &s))?;
    t.append((k, b))?;
    t.append(s)?;
    let keep = Record::new(vec![1, 2, 3]).key(String::from("k"));
    t.append(&keep)?;
    t.append(keep)?;
    Ok(())
}
fn to_thread(c: &mut Consumer, tx: &mpsc::Sender<Records>) -> Result<()> {
    let _ = tx.send(c.poll(Duration::MAX)?);
    Ok(())
}
fn all_waiters(e: &Error, waiters: Vec<mpsc::Sender<Result<u64>>>) {
    for w in waiters {
        let _ = w.send(Err(e.clone()));
    }
}
fn outlives(p: Partition) -> std::thread::JoinHandle<usize> {
    let reader = p.read(..).unwrap();
    drop(p);
    std::thread::spawn(move || reader.count())
}
fn mirror(from: &Partition, to: &Partition) -> Result<()> {
    for batch in from.read(..)? {
        to.append_batch(batch?.iter().collect::<Result<Vec<_>>>()?)?;
    }
    Ok(())
}
fn deliveries(p: &Producer, t: &Topic) -> Result<()> {
    let last = p.send(t, "a")?;
    p.send(t, "b")?; // the delivery may be dropped: `flush` reports errors
    last.wait()?;
    p.flush()
}
fn main() {
    let _ = (
        flat,
        adaptors,
        keep_views,
        spawn,
        append,
        to_thread,
        all_waiters,
        outlives,
        mirror,
        deliveries,
    );
    let _ = LOG.set(Log::in_memory());
    let log = LOG.get().unwrap();
    deliveries(
        &log.producer().unwrap(),
        &log.open_topic("sent", 1, TopicConfig::new()).unwrap(),
    )
    .unwrap();
}
