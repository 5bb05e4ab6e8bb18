//! Transactional producers, each in a thread of its own: a transaction borrows its producer and
//! stays open from one step to a later one.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use annals::{Consumer, Error, Log, Partition, ProducerConfig, Result, TransactionalProducer};

use super::group::Positions;
use super::ledger::{Seen, Stored, Txn};
use super::steps::PARTS;
use super::stopped::Stopped;

enum Order {
    Send(Partition, Vec<Seen>),
    Positions(Arc<Mutex<Consumer>>),
    Commit,
    Abort,
    Drop,
}

pub(super) struct Worker {
    orders: Option<Sender<Order>>,
    results: Receiver<Result<()>>,
    thread: Option<JoinHandle<()>>,
    pub(super) txn: Option<Txn>,
    /// The records of the transaction that are not in the log yet, of each partition.
    pub(super) held: [VecDeque<Seen>; PARTS],
    /// The positions that the transaction commits.
    pub(super) claims: Positions,
    /// Whether there was a truncation during the transaction. Records of it that were written are
    /// then gone, and it may fail, since the log expects an earlier sequence.
    pub(super) was_cut: bool,
}

impl Worker {
    /// Creates the producer of number `id`. The lower the number, the earlier it spills.
    pub(super) fn new(log: &Log, id: usize) -> Result<Self> {
        let config = match id {
            0 => ProducerConfig::new().batch_size(100).buffer_memory(200),
            1 => ProducerConfig::new().batch_size(300).buffer_memory(600),
            _ => ProducerConfig::new(),
        };
        let name = format!("producer {id}");
        let producer = log.transactional_producer_with(&name, config.transaction_timeout(None))?;
        let (orders, to_do) = channel();
        let (done, results) = channel();
        Ok(Self {
            orders: Some(orders),
            results,
            thread: Some(std::thread::spawn(move || run(producer, &to_do, &done))),
            txn: None,
            held: Default::default(),
            claims: Positions::default(),
            was_cut: false,
        })
    }

    fn order(&mut self, order: Order) -> Result<()> {
        let orders = self.orders.as_ref().expect("the worker has not ended");
        orders.send(order).expect("the thread is alive");
        self.results.recv().expect("the thread is alive")
    }

    pub(super) fn send(&mut self, part: usize, to: Partition, records: Vec<Seen>) -> Result<()> {
        self.held[part].extend(records.iter().cloned());
        self.order(Order::Send(to, records))
    }

    /// Begins a transaction of this number.
    pub(super) fn begin(&mut self, txn: Txn) {
        self.txn = Some(txn);
        self.held = Default::default();
        self.claims = Positions::default();
        self.was_cut = false;
    }

    /// Adds the positions of the consumer to the transaction.
    pub(super) fn send_positions(&mut self, consumer: Arc<Mutex<Consumer>>) -> Result<()> {
        self.order(Order::Positions(consumer))
    }

    pub(super) fn commit(&mut self) -> Result<()> {
        self.order(Order::Commit)
    }

    pub(super) fn abort(&mut self) -> Result<()> {
        self.order(Order::Abort)
    }

    pub(super) fn drop_transaction(&mut self) {
        self.order(Order::Drop).unwrap();
    }

    /// Returns what an order that was stopped may have left: some records of the transaction.
    pub(super) fn stopped(&self) -> Stopped {
        let stored = |seen: &Seen| Stored::of(seen.clone(), self.txn);
        Stopped {
            added: self
                .held
                .each_ref()
                .map(|held| held.iter().map(stored).collect()),
            ..Stopped::default()
        }
    }

    /// Checks that a later producer has fenced this one.
    pub(super) fn check_fenced(mut self) {
        if self.txn.is_some() {
            let fenced = self.commit();
            assert!(
                matches!(fenced, Err(Error::TransactionalIdFenced { .. })),
                "{fenced:?}"
            );
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn run(mut producer: TransactionalProducer, orders: &Receiver<Order>, done: &Sender<Result<()>>) {
    while let Ok(order) = orders.recv() {
        let result = run_transaction(&mut producer, order, orders, done);
        if done.send(result).is_err() {
            return;
        }
    }
}

/// Runs one transaction to its end, and returns the result of its last order.
fn run_transaction(
    producer: &mut TransactionalProducer,
    mut order: Order,
    orders: &Receiver<Order>,
    done: &Sender<Result<()>>,
) -> Result<()> {
    let mut transaction = producer.begin()?;
    loop {
        let sent = match order {
            Order::Send(partition, records) => records
                .iter()
                .try_for_each(|seen| transaction.send_to(&partition, seen.record())),
            Order::Positions(consumer) => transaction.commit_offsets(&mut consumer.lock().unwrap()),
            Order::Commit => return transaction.commit(),
            Order::Abort => return transaction.abort(),
            Order::Drop => return Ok(()),
        };
        let is_heard = done.send(sent).is_ok();
        order = match orders.recv() {
            Ok(next) if is_heard => next,
            _ => return Ok(()),
        };
    }
}
