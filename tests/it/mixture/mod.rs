//! Random mixtures of appends, transactions, compaction, deletion, truncation and restarts, compared
//! with a model: every kind of reader returns the records of the model, in order and once, and finds
//! the committed positions of the model. A kill or a power cut can stop each change at each of its
//! disk calls.

mod checks;
mod group;
mod ledger;
mod readers;
mod restarts;
mod steps;
mod stopped;
mod workers;
mod world;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use steps::{any_settings, any_steps};
use world::World;

/// Returns the settings of the run: the same cases each time, so that a failure belongs to the
/// change that is tested. `PROPTEST_CASES` asks for that many new cases.
fn config() -> ProptestConfig {
    let mut config = ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 4_096,
        ..ProptestConfig::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 24;
        config.rng_seed = RngSeed::Fixed(16);
    }
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn all_readers_agree_with_the_model(settings in any_settings(), steps in any_steps()) {
        let mut world = World::new(&settings);
        for step in &steps {
            world.run(step);
        }
    }
}
