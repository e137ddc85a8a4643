//! Whoever waits for more is woken by a commit.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
    thread,
};

use super::{Open, append, block_on, commit, create, partition, producer, values};
use crate::LogVersion;

pub(super) fn all(open: Open<'_>) {
    block_on(a_commit_wakes(open));
    a_commit_wakes_another_thread(open);
}

async fn a_commit_wakes(open: Open<'_>) {
    let log = open();
    create(&*log, "t", 1).await;
    let mut p = producer(&*log, "p").await;
    append(&mut *p, &partition("t", 0), &["a"]).expect("append");
    commit(&mut *p).await;
    let seen = log.appended(LogVersion::default()).await.expect("a commit is newer than nothing");
    {
        let mut context = Context::from_waker(Waker::noop());
        let mut waiting = pin!(log.appended(seen));
        assert!(waiting.as_mut().poll(&mut context).is_pending(), "nothing came since");
        append(&mut *p, &partition("t", 0), &["b"]).expect("append");
        assert!(waiting.as_mut().poll(&mut context).is_pending(), "an append alone is not visible");
        commit(&mut *p).await;
        assert!(waiting.as_mut().poll(&mut context).is_ready());
    }
    let newer = log.appended(seen).await.expect("it came meanwhile: no wait");
    assert!(newer > seen);
}

fn a_commit_wakes_another_thread(open: Open<'_>) {
    let log = open();
    block_on(create(&*log, "t", 1));
    let waiter = thread::spawn({
        let log = Arc::clone(&log);
        move || {
            block_on(async {
                let mut seen = LogVersion::default();
                loop {
                    let read = values(&*log, &partition("t", 0)).await;
                    if read.len() == 100 {
                        return read;
                    }
                    seen = log.appended(seen).await.expect("there is more to come");
                }
            })
        }
    });
    let mut p = block_on(producer(&*log, "p"));
    for value in 0..100 {
        append(&mut *p, &partition("t", 0), &[&value.to_string()]).expect("append");
        block_on(commit(&mut *p));
    }
    let read = waiter.join().expect("the reader saw only what it should");
    assert_eq!(read, (0..100).map(|value| value.to_string()).collect::<Vec<_>>());
}
