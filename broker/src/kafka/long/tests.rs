use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use tokio::task::yield_now;

use super::*;

fn asked(items: usize, everything: bool) -> Asked {
    Asked { items, everything }
}

#[test]
fn what_asks_for_much_or_for_everything_is_long() {
    assert!(!is_long(asked(LONG_LIST, false)));
    assert!(is_long(asked(LONG_LIST + 1, false)));
    assert!(is_long(asked(0, true)));
}

/// Polls under way at once, and the most there were.
#[derive(Default)]
struct Seen {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Seen {
    /// A request of three turns.
    async fn work(&self) -> usize {
        for _ in 0..3 {
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            self.now.fetch_sub(1, Ordering::SeqCst);
            yield_now().await;
        }
        3
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn work_is_done_in_turns_and_no_more_at_once_than_there_are() {
    let turns = Arc::new(Turns::with_turns(2));
    let seen = Arc::new(Seen::default());
    let works = (0..40).map(|number: usize| {
        let (turns, seen) = (Arc::clone(&turns), Arc::clone(&seen));
        tokio::spawn(async move {
            let who = format!("User:{}", number % 8);
            turns.run(&who, None, seen.work()).await
        })
    });
    let done = join_all(works).await;
    assert!(done.iter().all(|turns| *turns.as_ref().expect("done") == 3));
    assert!(seen.most.load(Ordering::SeqCst) <= 2);
}

#[tokio::test]
async fn a_principals_second_request_waits_for_its_first_and_for_nobody_elses() {
    let turns = Turns::with_turns(2);
    let first = turns.turn("User:alice").await;
    {
        let mut second = pin!(turns.turn("User:alice"));
        assert!(futures_util::poll!(&mut second).is_pending());
        let other = pin!(turns.turn("User:bob"));
        assert!(futures_util::poll!(other).is_ready());
        drop(first);
        assert!(futures_util::poll!(&mut second).is_ready());
    }
}

#[tokio::test]
async fn who_has_nothing_under_way_is_forgotten() {
    let turns = Turns::with_turns(1);
    for number in 0..4 * REMEMBERED {
        turns.turn(&format!("User:{number}")).await;
    }
    assert!(turns.by_principal.lock().len() <= REMEMBERED);
}

#[tokio::test]
async fn a_turn_that_is_there_already_is_used_first() {
    let turns = Turns::with_turns(1);
    let turn = turns.turn("User:alice").await;
    assert_eq!(turns.run("User:alice", Some(turn), async { 7 }).await, 7);
}
