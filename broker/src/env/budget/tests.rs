use std::task::Waker;

use super::*;

fn memory(limits: &NetConfig) -> Memory {
    Memory::new(limits)
}

fn draw(permit: &mut Permit, amount: u64) -> bool {
    let mut cx = std::task::Context::from_waker(Waker::noop());
    permit
        .poll_draw(&mut cx, Wanted::exactly(amount))
        .is_ready()
}

fn party(peer: &str) -> Party {
    Party::of_peer(peer.parse().unwrap())
}

fn address(text: &str) -> Owner {
    Owner::of_address(text.parse().unwrap())
}

#[test]
fn addresses_are_owners_by_customer() {
    for (one, other, same) in [
        ("10.0.0.1", "10.0.0.1", true),
        ("10.0.0.1", "10.0.0.2", false),
        ("10.0.0.1", "::ffff:10.0.0.1", true),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
    ] {
        assert_eq!(address(one) == address(other), same, "{one} {other}");
        let keys = (key(&address(one)), key(&address(other)));
        assert_eq!(keys.0 == keys.1, same, "{one} {other}");
    }
}

#[test]
fn small_things_never_wait_for_large_ones() {
    let memory = memory(&NetConfig::default());
    let attacker = party("10.0.0.1:1");
    let honest = party("10.0.0.1:2");
    for budget in [&memory.frames, &memory.answers] {
        let mut all = budget.large.open(attacker);
        all.take(1 << 40);
        let mut small = budget.of(SMALL_BYTES).open(honest);
        assert!(draw(&mut small, SMALL_BYTES));
        let mut large = budget.of(SMALL_BYTES + 1).open(honest);
        assert!(!draw(&mut large, SMALL_BYTES + 1));
        drop(all);
        assert!(draw(&mut large, SMALL_BYTES + 1));
    }
}

#[test]
fn what_a_dropped_permit_holds_or_was_granted_comes_back() {
    let pool = Pool::new(Bounds {
        whole: 10,
        reserve: 0,
        owner: 10,
        account: 10,
    });
    let mut first = pool.open(party("10.0.0.1:1"));
    assert!(draw(&mut first, 10));
    let mut second = pool.open(party("10.0.0.2:1"));
    let mut third = pool.open(party("10.0.0.3:1"));
    assert!(!draw(&mut second, 6) && !draw(&mut third, 6));
    assert!(pool.is_pressed());
    first.shrink_to(4);
    assert_eq!(
        pool.used(),
        10,
        "granted to the second, which has not looked"
    );
    drop(second);
    assert!(draw(&mut third, 6));
    drop((first, third));
    assert_eq!(pool.used(), 0);
    assert!(!pool.is_pressed());
}

#[test]
fn a_draw_that_waits_is_woken() {
    let pool = Pool::new(Bounds {
        whole: 10,
        reserve: 0,
        owner: 10,
        account: 10,
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut first = pool.open(party("10.0.0.1:1"));
        first.draw(Wanted::exactly(10)).await;
        let waits = {
            let pool = pool.clone();
            tokio::spawn(async move {
                let mut second = pool.open(party("10.0.0.2:1"));
                second.draw(Wanted::exactly(3)).await
            })
        };
        tokio::task::yield_now().await;
        drop(first);
        assert_eq!(waits.await.unwrap(), 3);
    });
}

#[test]
fn an_allowance_gives_places_up_to_its_bound() {
    let allowance = Allowance::default();
    let first = allowance.place(FREE_BYTES).unwrap();
    assert!(allowance.place(1).is_none());
    drop(first);
    let _half = allowance.place(FREE_BYTES / 2).unwrap();
    assert!(allowance.place(FREE_BYTES).is_none());
    assert!(allowance.place(FREE_BYTES / 2).is_some());
}

#[test]
fn the_pools_of_frames_come_to_what_is_configured_however_small() {
    for max_in_flight_bytes in [1 << 20, 100 << 20, 256 << 20] {
        let limits = NetConfig {
            max_in_flight_bytes,
            ..NetConfig::default()
        };
        let memory = memory(&limits);
        // One frame of the largest size completes, whatever the budget.
        let mut frame = memory.frames.large.open(party("10.0.0.1:1"));
        let mut paid = 128 << 10;
        while paid < u64::from(limits.max_frame_bytes) {
            assert!(draw(&mut frame, paid), "{max_in_flight_bytes}");
            paid *= 2;
        }
    }
}
