//! Hosts that exchange an image over real sockets.

use std::num::NonZeroU64;
use std::time::Duration;

use rig::fanout::{Settings, run};

fn settings(hosts: usize, image_bytes: u64, rate: u64) -> Settings {
    Settings {
        hosts,
        image_bytes,
        upload_bytes_per_second: NonZeroU64::new(rate),
        download_bytes_per_second: NonZeroU64::new(rate),
        hub_bytes_per_second: NonZeroU64::new(rate),
        liars: Vec::new(),
        limit: Duration::from_secs(90),
        seed: 7,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_hosts_take_an_image_of_which_little_more_than_a_copy_leaves_the_hub() {
    // 64 pieces at 8 a second: the bound is 8 seconds.
    let settings = settings(20, 4 << 20, 512 << 10);
    let outcome = run(&settings).await.unwrap();
    let slowest = outcome.hosts.iter().map(|host| host.completed.expect("all complete")).max().unwrap();
    assert!(outcome.hosts.iter().all(|host| host.have.is_full()));
    assert!(outcome.copies() < 1.2, "{}", outcome.copies());
    assert!(slowest > Duration::from_secs(7), "the rates were not kept: {slowest:?}");
    assert!(slowest < Duration::from_secs(16), "{slowest:?}");
}
